"""A WebSocket peer that writes bytes as a test wants them, against links that were accepted and dialed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from typing import NamedTuple

import aiofastnet

from bridge.dialects.base import Message
from bridge.media.counters import Counters
from bridge.media.picows_link import PicowsLink
from bridge.media.websocket import Link
from tests.fakes.dialed import dial

from .dialling import MAX_MESSAGE_BYTES, dialed
from .servers import accept, serving

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
SIDES = ("accepted", "dialed")
REQUEST = (
    b"GET /stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Frame(NamedTuple):
    opcode: int
    payload: bytes = b""
    fin: bool = True
    rsv: int = 0


def closing(code: int, reason: bytes = b"") -> Frame:
    """Return a Close frame."""
    return Frame(CLOSE, code.to_bytes(2, "big") + reason)


class RawPeer:
    """One side of a connection, without any library; its peer is a link.

    Args:
        masks: whether this end is the client, and masks what it sends (with zeros).
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, masks: bool) -> None:
        self.reader = reader
        self.writer = writer
        self._masks = masks
        self.link: Link
        self.messages: list[Message] = []
        self.closed: asyncio.Queue[tuple[int, str]] = asyncio.Queue()

    def hears(self, link: Link) -> None:
        """Take down what ``link`` receives, and its end."""
        self.link = link
        link.on_closed = lambda code, reason: self.closed.put_nowait((code, reason))
        link.on_message = self.messages.append

    def encoded(self, frame: Frame) -> bytes:
        """Return the bytes of ``frame``, as this side sends them."""
        size, mask_bit = len(frame.payload), 0x80 if self._masks else 0
        head = bytes([(0x80 if frame.fin else 0) | frame.rsv << 4 | frame.opcode])
        if size < 126:
            head += bytes([mask_bit | size])
        elif size < 1 << 16:
            head += bytes([mask_bit | 126]) + size.to_bytes(2, "big")
        else:
            head += bytes([mask_bit | 127]) + size.to_bytes(8, "big")
        return head + (bytes(4) if self._masks else b"") + frame.payload

    def send(self, *frames: Frame) -> None:
        """Write ``frames`` in one go."""
        self.writer.write(b"".join(map(self.encoded, frames)))

    async def flood(self, *frames: Frame, bytes_at_most: int) -> int:
        """Write ``frames`` again and again until the link ends; gives the bytes that were taken."""
        block = b"".join(map(self.encoded, frames))
        block *= max(1, 65536 // len(block))
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < bytes_at_most and not self.link.closed:
                self.writer.write(block)
                await asyncio.wait_for(self.writer.drain(), 60)
                sent += len(block)
        return sent

    async def frame(self) -> Frame:
        """Return the next frame of the link."""
        async with asyncio.timeout(60):
            head = await self.reader.readexactly(2)
            size = head[1] & 0x7F
            if size >= 126:
                size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
            mask = await self.reader.readexactly(4) if head[1] & 0x80 else bytes(4)
            payload = await self.reader.readexactly(size)
        payload = bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))
        return Frame(head[0] & 0x0F, payload, bool(head[0] & 0x80), head[0] >> 4 & 7)

    async def close_code(self) -> int:
        """Return the code of the next Close frame; 1005 if it has none."""
        while (frame := await self.frame()).opcode != CLOSE:
            pass
        return int.from_bytes(frame.payload[:2], "big") if frame.payload else 1005

    async def got(self, count: int) -> list[Message]:
        """Wait until the link has received ``count`` messages, and return them."""
        async with asyncio.timeout(60):
            while len(self.messages) < count:
                await asyncio.sleep(0.005)
        return self.messages


@contextlib.asynccontextmanager
async def raw_peer(
    side: str,
    *,
    ping_interval_s: float = 20.0,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    receive_buffer: int = 0,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[RawPeer]:
    """Open a link and yield its peer.

    Args:
        side: one of `SIDES`.
        receive_buffer: what the peer's kernel takes unread, in bytes; 0: as usual.
        tls: of a server that is dialed.
    """
    async with contextlib.AsyncExitStack() as stack:
        if side == "dialed":
            peer = await _dialed(stack, ping_interval_s, max_message_bytes, receive_buffer, tls)
        else:
            peer = await _accepted(stack, ping_interval_s, max_message_bytes, receive_buffer)
        try:
            yield peer
        finally:
            peer.link.abort(1001, "test over")
            peer.writer.transport.abort()


async def _accepted(
    stack: contextlib.AsyncExitStack,
    ping_interval_s: float,
    max_message_bytes: int,
    receive_buffer: int,
) -> RawPeer:
    link = PicowsLink(
        Counters(), max_unsent_ms=1000, ping_interval_s=ping_interval_s, max_message_bytes=max_message_bytes
    )
    server = await aiofastnet.create_server(asyncio.get_running_loop(), link.protocol, "127.0.0.1", 0)
    stack.callback(server.close)
    sock = socket.socket()
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, server.sockets[0].getsockname())
    reader, writer = await dial(sock=sock, limit=2048)
    writer.write(REQUEST)
    await reader.readuntil(b"\r\n\r\n")
    peer = RawPeer(reader, writer, masks=True)
    peer.hears(link)
    return peer


async def _dialed(
    stack: contextlib.AsyncExitStack,
    ping_interval_s: float,
    max_message_bytes: int,
    receive_buffer: int,
    tls: ssl.SSLContext | None,
) -> RawPeer:
    connected: asyncio.Future[RawPeer] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()
    stack.callback(over.set)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(accept(await reader.readuntil(b"\r\n\r\n")))
        connected.set_result(RawPeer(reader, writer, masks=False))
        await over.wait()

    sock = socket.create_server(("127.0.0.1", 0))
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    port = await stack.enter_async_context(serving(serve, tls, sock))
    link = await dialed(
        f"{'wss' if tls else 'ws'}://127.0.0.1:{port}/",
        ping_interval_s=ping_interval_s,
        max_message_bytes=max_message_bytes,
        verify=False,
    )
    peer = await connected
    peer.hears(link)
    return peer
