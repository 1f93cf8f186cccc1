"""A small WebSocket application for tests: it records received audio, and sends audio.

It is intentionally independent of the product's dialects and codecs: the formats are implemented here again,
from their specifications, to keep mistakes from canceling each other out.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

Samples = NDArray[np.int16]

RTP_HEADER = struct.Struct("!BBHII")  # RFC 3550, 5.1
AUDIOSOCKET_HEADER = struct.Struct("!BH")
FRAME_S = 0.02


@dataclass(frozen=True)
class ReceivedMessage:
    """One message that arrived.

    Args:
        at: when, by ``time.monotonic()``.
        data: bytes (binary message) or string (text message).
    """

    at: float
    data: bytes | str


class Peer:
    """One open WebSocket; created by `open_peer`."""

    def __init__(self, connection: ClientConnection) -> None:
        self.messages: list[ReceivedMessage] = []
        """Everything that arrived, oldest first."""
        self._connection = connection
        self._reading = asyncio.Event()
        self._reading.set()
        self._arrived = asyncio.Event()
        self._task = asyncio.create_task(self._read())

    @property
    def binary(self) -> list[bytes]:
        """The binary messages."""
        return [message.data for message in self.messages if isinstance(message.data, bytes)]

    @property
    def close_code(self) -> int | None:
        """The code with which the socket was closed; None while it is open."""
        return self._connection.close_code

    @property
    def close_reason(self) -> str:
        """The reason with which the socket was closed."""
        return self._connection.close_reason or ""

    async def heard(self, count: int, timeout_s: float = 30.0) -> list[ReceivedMessage]:
        """Wait until this many messages have arrived; return all messages.

        Raises:
            TimeoutError: fewer have arrived in time.
        """
        async with asyncio.timeout(timeout_s):
            while len(self.messages) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return self.messages

    async def closed(self, timeout_s: float = 30.0) -> int:
        """Wait until the other side has closed and return the close code."""
        async with asyncio.timeout(timeout_s):
            await self._connection.wait_closed()
        return self._connection.close_code or 1006

    def stop_reading(self) -> None:
        """Stop reading, like an application that hangs; the kernel's buffers fill up."""
        self._reading.clear()

    def go_on_reading(self) -> None:
        """Resume reading after `stop_reading`."""
        self._reading.set()

    async def send(self, data: bytes | str) -> None:
        """Send one message."""
        await self._connection.send(data)

    async def play(self, messages: Sequence[bytes | str], every_s: float = FRAME_S) -> None:
        """Send messages, one every ``every_s`` seconds by an absolute clock; 0: without pauses."""
        begin = asyncio.get_running_loop().time()
        for index, message in enumerate(messages):
            wait_s = begin + index * every_s - asyncio.get_running_loop().time()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            await self._connection.send(message)

    async def close(self, code: int = 1000) -> None:
        """Close the socket."""
        self._reading.set()
        await self._connection.close(code)
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def abort(self) -> None:
        """Drop the TCP connection without a Close frame, as a crash would."""
        self._connection.transport.abort()

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self._reading.wait()
                data = await self._connection.recv()
                self.messages.append(ReceivedMessage(time.monotonic(), data))
                self._arrived.set()


@contextlib.asynccontextmanager
async def open_peer(url: str, headers: dict[str, str] | None = None, *, max_queue: int = 16) -> AsyncIterator[Peer]:
    """Connect to a ``ws://`` URL; a context manager that closes the connection.

    Raises:
        websockets.exceptions.InvalidStatus: the server rejected the upgrade; ``.response`` has status and body.
    """
    connection = await connect(
        url, additional_headers=headers, max_size=None, max_queue=max_queue, compression=None, proxy=None
    )
    peer = Peer(connection)
    try:
        yield peer
    finally:
        await peer.close()


def rtp_payloads(messages: Sequence[bytes]) -> tuple[list[int], bytes]:
    """Return the payload types and the joined payloads of RTP packets without extensions (RFC 3550)."""
    types = [RTP_HEADER.unpack_from(message)[1] & 0x7F for message in messages]
    return types, b"".join(message[RTP_HEADER.size :] for message in messages)


def rtp_packets(payload: bytes, payload_type: int, frame_bytes: int, step: int = 160) -> list[bytes]:
    """Return audio as RTP packets (RFC 3550); ``step`` is the number of samples in each."""
    return [
        RTP_HEADER.pack(0x80, payload_type, index & 0xFFFF, index * step & 0xFFFFFFFF, 0x5EED)
        + payload[index * frame_bytes : (index + 1) * frame_bytes]
        for index in range(-(-len(payload) // frame_bytes))
    ]


def audiosocket_audio(messages: Sequence[bytes]) -> tuple[list[int], bytes]:
    """Return the kinds and the joined payloads of AudioSocket messages, however they are split."""
    data = b"".join(messages)
    kinds: list[int] = []
    payloads: list[bytes] = []
    at = 0
    while at + AUDIOSOCKET_HEADER.size <= len(data):
        kind, length = AUDIOSOCKET_HEADER.unpack_from(data, at)
        at += AUDIOSOCKET_HEADER.size
        kinds.append(kind)
        payloads.append(data[at : at + length])
        at += length
    return kinds, b"".join(payloads)


def audiosocket_messages(pcm: bytes, frame_bytes: int = 320, kind: int = 0x10) -> list[bytes]:
    """Return 16-bit audio as AudioSocket messages."""
    return [
        AUDIOSOCKET_HEADER.pack(kind, len(pcm[at : at + frame_bytes])) + pcm[at : at + frame_bytes]
        for at in range(0, len(pcm), frame_bytes)
    ]


def frames(pcm: bytes, frame_bytes: int = 320) -> list[bytes]:
    """Return bytes cut into frames; the last one may be shorter."""
    return [pcm[at : at + frame_bytes] for at in range(0, len(pcm), frame_bytes)]


def samples_of(pcm: bytes) -> Samples:
    """Return signed 16-bit little-endian bytes as samples; an odd last byte is ignored."""
    return np.frombuffer(pcm[: len(pcm) // 2 * 2], "<i2").astype(np.int16)


def ulaw_samples(payload: bytes) -> Samples:
    """Return G.711 µ-law as samples (ITU-T G.711, table 2)."""
    code = ~np.frombuffer(payload, np.uint8)
    magnitude = (((code & 0x0F).astype(np.int32) << 3) + 0x84 << ((code >> 4) & 0x07)) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def ulaw_bytes(samples: Samples) -> bytes:
    """Return samples as G.711 µ-law: for each the code whose value is nearest."""
    values = ulaw_samples(bytes(range(256))).astype(np.int32)
    order = np.argsort(values, kind="stable")
    middles = (values[order][1:] + values[order][:-1]) / 2
    return order[np.searchsorted(middles, samples)].astype(np.uint8).tobytes()
