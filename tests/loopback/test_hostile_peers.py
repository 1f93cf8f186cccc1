"""Peers that send without end or read nothing, on links of both sides: what each may cost is bounded."""

from __future__ import annotations

import asyncio
import ssl
import time
from itertools import pairwise

import pytest

from bridge.media.websocket import SMALL_FRAMES, SMALL_FRAMES_PER_S

from .dialling import MAX_MESSAGE_BYTES
from .raw import BINARY, CONT, PING, PONG, SIDES, TEXT, Frame, RawPeer, closing, raw_peer

G711_10_MS = 80
SMALL_WINDOW = 4096
TOO_MANY = "too many control frames or small frames"


async def end(peer: RawPeer) -> tuple[int, str]:
    return await asyncio.wait_for(peer.closed.get(), 60)


async def fill(peer: RawPeer) -> None:
    """Send until the transport of the link is full."""
    while not peer.link.unsent_ms and not peer.link.closing:
        peer.link.send(bytes(320), 20)
        await asyncio.sleep(0)


FLOODS = {
    "pings": [Frame(PING)],
    "pings with payload": [Frame(PING, b"x" * 100)],
    "pongs": [Frame(PONG)],
    "empty messages": [Frame(BINARY)],
    "tiny messages": [Frame(TEXT, b'{"event":"clear"}')],
    "broken by pings": [Frame(BINARY, bytes(G711_10_MS)), Frame(PING)],
}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_of_small_frames_ends_the_link(side: str, flood: str) -> None:
    async with raw_peer(side, receive_buffer=SMALL_WINDOW) as peer:
        began = time.monotonic()
        await peer.flood(*FLOODS[flood], bytes_at_most=64 << 20)
        assert await end(peer) == (1008, TOO_MANY)
        assert len(peer.messages) <= SMALL_FRAMES + SMALL_FRAMES_PER_S * (time.monotonic() - began) + 1


async def test_the_same_over_tls(localhost_tls: ssl.SSLContext) -> None:
    async with raw_peer("dialed", tls=localhost_tls) as peer:
        await peer.flood(Frame(PING), bytes_at_most=64 << 20)
        assert await end(peer) == (1008, TOO_MANY)
    async with raw_peer("dialed", tls=localhost_tls) as peer:
        peer.link.send("x" * (64 << 20))  # which asyncio's TLS takes whole, and reports with what comes after it
        await fill(peer)
        assert (await end(peer))[0] == 1008


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("size", [0, 1, 40])
async def test_a_message_of_too_many_fragments_ends_the_link(side: str, size: int) -> None:
    async with raw_peer(side) as peer:
        peer.send(Frame(BINARY, bytes(size), fin=False))
        await peer.flood(Frame(CONT, bytes(size), fin=False), bytes_at_most=64 << 20)
        code, reason = await end(peer)
        assert code == 1008
        assert reason == (f"more than {MAX_MESSAGE_BYTES // 256} fragments" if size == 40 else TOO_MANY)


@pytest.mark.parametrize("side", SIDES)
async def test_a_message_may_have_many_fragments(side: str) -> None:
    async with raw_peer(side) as peer:
        peer.send(
            Frame(BINARY, bytes(64), fin=False), *[Frame(CONT, bytes(64), fin=False)] * 4000, Frame(CONT, bytes(64))
        )
        assert await peer.got(1) == [bytes(64 * 4002)]


@pytest.mark.parametrize("side", SIDES)
async def test_audio_far_ahead_of_its_time_arrives_whole_and_others_have_their_turns(side: str) -> None:
    count = 30_000  # five minutes in frames of 10 ms
    turns: list[int] = []

    def turn() -> None:
        turns.append(len(peer.messages))
        if len(peer.messages) < count and not peer.link.closed:
            asyncio.get_running_loop().call_soon(turn)

    async with raw_peer(side) as peer:
        turn()
        peer.send(*[Frame(BINARY, bytes(G711_10_MS))] * count)
        async with asyncio.timeout(30):
            while len(peer.messages) < count and not peer.link.closed:
                await asyncio.sleep(0.01)
        assert len(peer.messages) == count
        assert max(later - sooner for sooner, later in pairwise(turns)) <= 1000  # 10 ms


@pytest.mark.parametrize("side", SIDES)
async def test_of_the_pings_that_arrive_while_nothing_is_read_only_the_last_is_answered(side: str) -> None:
    async with raw_peer(side, receive_buffer=SMALL_WINDOW) as peer:
        await fill(peer)
        peer.send(*(Frame(PING, b"%d" % n) for n in range(1000)), Frame(BINARY, b"after them"))
        await peer.got(1)
        peer.link.send("the last")
        pongs = []
        while (frame := await peer.frame()).opcode != TEXT:
            if frame.opcode == PONG:
                pongs.append(frame.payload)
        assert pongs == [b"999"]


@pytest.mark.parametrize("side", SIDES)
async def test_pings_are_no_sign_of_life_of_a_peer_that_reads_nothing(side: str) -> None:
    async with raw_peer(side, receive_buffer=SMALL_WINDOW, ping_interval_s=0.2) as peer:
        await fill(peer)
        while peer.closed.empty():
            peer.send(Frame(PING))
            await asyncio.sleep(0.02)
        assert await end(peer) == (1006, "nothing read for 0.4 s")


@pytest.mark.parametrize("side", SIDES)
async def test_one_large_message_that_is_not_read_ends_the_link(side: str) -> None:
    async with raw_peer(side, receive_buffer=SMALL_WINDOW) as peer:
        peer.link.send("x" * (16 << 20))
        assert (await end(peer))[0] == 1008


@pytest.mark.parametrize("side", SIDES)
async def test_many_messages_that_may_not_be_dropped_and_are_not_read_end_the_link(side: str) -> None:
    async with raw_peer(side, receive_buffer=SMALL_WINDOW) as peer:
        await fill(peer)
        for _ in range(20):
            peer.link.send("x" * 100_000)
        assert await end(peer) == (1008, "too many unread messages")


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("last", [closing(1000), Frame(3)], ids=["Close", "an unknown opcode"])
async def test_a_peer_that_ends_and_reads_nothing_does_not_keep_the_connection(side: str, last: Frame) -> None:
    async with raw_peer(side, receive_buffer=SMALL_WINDOW) as peer:
        await fill(peer)
        peer.send(last)
        assert (await end(peer))[0] == (1000 if last == closing(1000) else 1002)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("fragments", [1, 4])
async def test_text_messages_have_a_bound_of_their_own(side: str, fragments: int) -> None:
    size = (1 << 20) // fragments
    async with raw_peer(side, max_message_bytes=16 << 20) as peer:
        for opcode, more in ((BINARY, 4096), (TEXT, 0), (TEXT, 4096)):
            parts = [b"x" * size] * (fragments - 1) + [b"x" * (size + more)]
            for number, part in enumerate(parts):
                peer.send(Frame(CONT if number else opcode, part, fin=number == fragments - 1))
        assert await peer.close_code() == 1009
        assert [len(message) for message in peer.messages] == [(1 << 20) + 4096, 1 << 20]
        peer.send(closing(1009))
        assert await end(peer) == (1009, "text message over 1048576 bytes")
