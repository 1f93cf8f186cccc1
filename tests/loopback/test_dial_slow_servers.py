"""A dialed server that does not read loses the oldest audio but no text; what it has not received can be withdrawn."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest

from bridge.media.websocket import Link

from .dialling import Ear, dialed
from .servers import Authority, accept

pytestmark = pytest.mark.usefixtures("nothing_is_left")


class Stalled:
    """Accepts one WebSocket and then reads only on command; with blocking sockets, as asyncio's TLS reads ahead."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._listening = socket.socket()
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen()
        self.port: int = self._listening.getsockname()[1]
        self._tls = tls
        self._go = threading.Event()
        self.received = b""
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        sock = self._listening.accept()[0]
        self._listening.close()
        sock.settimeout(5)
        if self._tls is not None:
            sock = self._tls.wrap_socket(sock, server_side=True)
        with sock:
            head = b""
            while b"\r\n\r\n" not in head:
                head += sock.recv(4096)
            sock.sendall(accept(head))
            self._go.wait(10)
            with contextlib.suppress(OSError):
                while data := sock.recv(65536):
                    self.received += data

    async def read_what_came(self) -> int:
        """Read what is left, now that the peer is gone, and return the number of bytes."""
        self._go.set()
        await asyncio.to_thread(self.thread.join, 5)
        return len(self.received)

    async def read_everything(self, link: Link) -> bytes:
        self._go.set()
        async with asyncio.timeout(60):
            while link.unsent_ms:
                await asyncio.sleep(0.01)
        link.close(1000, "")
        await asyncio.to_thread(self.thread.join, 5)
        return self.received


@pytest.mark.parametrize("secure", [False, True])
async def test_a_slow_server_loses_the_oldest_audio_but_no_text(
    secure: bool, authority: Authority, localhost_tls: ssl.SSLContext
) -> None:
    stalled = Stalled(localhost_tls if secure else None)
    link = await dialed(f"{'wss' if secure else 'ws'}://localhost:{stalled.port}/", ca_file=str(authority.file))
    Ear(link)
    for n in range(5000):
        link.send(n.to_bytes(4, "big") * 80, 20)
        if n == 4990:
            link.send("mark")
        if n < 500:
            await asyncio.sleep(0)  # let it fill everything below
    assert link.unsent_ms <= 1000
    unseen_ms = 5000 * 20 - link.dropped_ms - link.unsent_ms
    frames = list(frames_of(await stalled.read_everything(link)))
    numbers = [int.from_bytes(frame[:4], "big") for frame in frames if len(frame) == 320]
    assert numbers == sorted(numbers)
    assert numbers[-49:] == list(range(4951, 5000))
    assert frames.count(b"mark") == 1
    assert len(numbers) * 20 + link.dropped_ms == 5000 * 20
    # What lies in the kernel and the transports cannot be dropped any more: 40 to 60 KB, measured 2.2 s and 3.0 s.
    assert unseen_ms < 4000


@pytest.mark.parametrize("secure", [False, True])
async def test_what_a_server_has_not_received_is_taken_back(
    secure: bool, authority: Authority, localhost_tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    stalled = Stalled(localhost_tls if secure else None)
    link = await dialed(f"{'wss' if secure else 'ws'}://localhost:{stalled.port}/", ca_file=str(authority.file))
    ear = Ear(link)
    for _ in range(200):
        link.send(bytes(320), 20)
        await asyncio.sleep(0)
    link.close(1000, "somebody else goes on", discard_unacked_after_s=0.1)
    assert await asyncio.wait_for(ear.closed.get(), 1) == (1000, "somebody else goes on")
    assert await stalled.read_what_came() < 100 * 320
    assert "undelivered data of an application discarded" in caplog.text


def frames_of(data: bytes) -> Iterator[bytes]:
    """Contents of whole masked frames."""
    while data:
        at = 4 if data[1] & 0x7F == 126 else 2
        size = int.from_bytes(data[2:4], "big") if at == 4 else data[1] & 0x7F
        mask, content = data[at : at + 4], data[at + 4 : at + 4 + size]
        data = data[at + 4 + size :]
        if len(content) == size:
            yield bytes(byte ^ mask[n % 4] for n, byte in enumerate(content))
