"""Connections and TLS handshakes of strangers take turns, and the event loop has nothing to do in between.

Else a flood of them would keep it busy, and a bridge that is busy refuses calls.
"""

from __future__ import annotations

import asyncio
import socket

from bridge.api.handshakes import PER_SLICE, SLICE_S, Handshakes, HandshakeSocket
from bridge.media.loop import FrameLoop
from bridge.media.sockets import ACCEPT_EVERY_S, ACCEPTED_AT_ONCE, SparingSocket


async def test_a_flood_of_connections_is_accepted_at_a_bounded_rate() -> None:
    loop = asyncio.get_running_loop()
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    listening = SparingSocket(bound)
    listening.listen(200)
    turns = 8
    clients = [socket.create_connection(listening.getsockname()) for _ in range(turns * ACCEPTED_AT_ONCE)]
    all_accepted = asyncio.Event()
    accepted = 0

    def protocol() -> asyncio.Protocol:
        nonlocal accepted
        accepted += 1
        if accepted == len(clients):
            all_accepted.set()
        return asyncio.Protocol()

    began = loop.time()
    server = await loop.create_server(protocol, sock=listening)
    await asyncio.wait_for(all_accepted.wait(), 30)
    assert loop.time() - began > (turns - 2) * ACCEPT_EVERY_S
    server.close()
    for client in clients:
        client.close()


async def test_handshakes_out_of_turn_wake_nobody_up() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, FrameLoop)
    handshakes = Handshakes()
    pairs = [socket.socketpair() for _ in range(10 * PER_SLICE)]
    connections = [HandshakeSocket(ours, handshakes) for _, ours in pairs]
    all_read = asyncio.Event()
    order: list[int] = []
    woken = 0

    def read(number: int) -> None:
        nonlocal woken
        woken += 1
        try:
            connections[number].recv_into(bytearray(10))
        except BlockingIOError:
            return
        loop.remove_reader(connections[number])
        order.append(number)
        if len(order) == len(pairs) - 1:
            all_read.set()

    for number, (theirs, _) in enumerate(pairs):
        theirs.send(b"hello")
        loop.add_reader(connections[number], read, number)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gone = connections[-1]
    loop.remove_reader(gone)  # while it waits
    gone.close()
    began = loop.time()
    await asyncio.wait_for(all_read.wait(), 30)
    assert loop.time() - began > 7 * SLICE_S
    assert woken <= 2 * len(pairs)
    assert order == sorted(order), "they take turns in the order in which they came"
    for each in (*connections, *(theirs for theirs, _ in pairs)):
        each.close()
