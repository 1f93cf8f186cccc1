"""The Asterisk side of an AudioSocket connection: dials, sends its UUID, sends and receives messages."""

from __future__ import annotations

import asyncio
import contextlib
from uuid import UUID

from bridge.audio.audiosocket import MessageKind, encode
from tests.fakes.dialed import dial

Message = tuple[int, bytes, float]
"""Kind, payload, and when it came (seconds on the loop's clock)."""


class FakeAsterisk:
    """One AudioSocket connection, as Asterisk would open it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def dial(cls, port: int, uuid: UUID | None = None) -> FakeAsterisk:
        """Connect, and say ``uuid`` if there is one."""
        peer = cls(*await dial("127.0.0.1", port))
        if uuid is not None:
            peer.writer.write(encode(MessageKind.UUID, uuid.bytes))
        return peer

    def pause_reading(self) -> None:
        """Let what the bridge sends pile up."""
        self.writer.transport.pause_reading()  # type: ignore[attr-defined]  # asyncio's is a transport of both kinds

    async def read(self) -> Message:
        """Return the next message; raises IncompleteReadError at the end of the connection."""
        # Not wait_for: before Python 3.12 it loses a cancellation that comes in the same turn as its result, and
        # `read_for` would never end.
        async with asyncio.timeout(60):
            head = await self.reader.readexactly(3)
            payload = await self.reader.readexactly(int.from_bytes(head[1:], "big"))
        return head[0], payload, asyncio.get_running_loop().time()

    async def read_for(self, seconds: float) -> list[Message]:
        """Return all messages that arrive within a time."""
        messages: list[Message] = []
        try:
            async with asyncio.timeout(seconds):
                while True:
                    messages.append(await self.read())
        except (TimeoutError, asyncio.IncompleteReadError):
            return messages

    async def ended(self, seconds: float = 3.0) -> bool:
        """Return whether the connection ends within a time, whatever arrives before."""
        try:
            async with asyncio.timeout(seconds):
                while await self.reader.read(65536):
                    pass
        except TimeoutError:
            return False
        except ConnectionError:
            return True
        return True

    def send(self, kind: int, payload: bytes) -> None:
        self.writer.write(encode(kind, payload))

    async def hang_up(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()
