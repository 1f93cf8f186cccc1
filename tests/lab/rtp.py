"""A server for external media by RTP."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

from bridge.testing import judge, peer
from bridge.testing.lab_engine import Lab
from tests.lab.streaming import APPLICATION_HZ, RATE


class Rtp(asyncio.DatagramProtocol):
    """Keeps the packets that it receives, and sends to where they came from."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []
        self.source: tuple[str, int] | None = None
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a protocol for datagrams gets their transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.packets.append(data)
        self.source = addr

    @property
    def heard(self) -> peer.Samples:
        """The audio in the packets; each must be G.711 as documented."""
        assert {len(packet) for packet in self.packets} <= {172}
        types, payload = peer.rtp_payloads(self.packets)
        assert set(types) <= {0}
        return peer.ulaw_samples(payload)

    async def say(self, seconds: float) -> None:
        """Send a tone, packet by packet."""
        packets = peer.rtp_packets(peer.ulaw_bytes(judge.tone(APPLICATION_HZ, seconds, RATE)), 0, 160)
        begin = asyncio.get_running_loop().time()
        for index, packet in enumerate(packets):
            due_s = begin + index * 0.02 - asyncio.get_running_loop().time()
            await asyncio.sleep(max(0, due_s))  # as a phone's clock does
            assert self.transport is not None
            self.transport.sendto(packet, self.source)


@contextlib.asynccontextmanager
async def rtp_server(lab: Lab) -> AsyncIterator[tuple[Rtp, str]]:
    """Open a server; yield it, and the address at which Asterisk finds it."""
    for module in ("res_rtp_multicast.so", "chan_rtp.so"):  # the second one does not load without the first
        await lab.cli(f"module load {module}")
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
        Rtp, local_addr=(lab.audiosocket_bind, 0), family=socket.AF_INET
    )
    try:
        yield server, f"{lab.audiosocket_host}:{transport.get_extra_info('sockname')[1]}"
    finally:
        transport.close()
