"""The obvious bridge in Python, to compare with: asyncio's streams, the ``websockets`` library, a task per direction.

    python -m tests.load.peers.bridge_naive AUDIOSOCKET_PORT APPLICATION_PORT DIALECT

Written as one would write it first. Its playout sleeps until absolute deadlines: with ``sleep(0.02)`` it would drift
and lose frames, and comparing with that would be too easy.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import warnings
from collections import deque
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop

UUID, AUDIO = 0x01, 0x10
FRAME_BYTES = 320
FRAME_S = 0.02
MAX_QUEUED_FRAMES = 500
DIALECTS = ("sln", "twilio")


class NaiveBridge:
    """One call.

    Args:
        dialect: ``sln`` or ``twilio``.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dialect: str) -> None:
        self.reader = reader
        self.writer = writer
        self.dialect = dialect
        self.frames: deque[bytes] = deque()
        self.sequence = 0
        self.stream_sid = ""

    async def run(self, url: str) -> None:
        """Run until either side has gone."""
        kind, uuid = await self.read_message()
        if kind != UUID:
            return
        self.stream_sid = "MZ" + uuid.hex()
        async with connect(url, compression=None, max_queue=None) as socket:
            if self.dialect == "twilio":
                await self.greet(socket)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.listen(socket))
                tasks.create_task(self.speak(socket))
                tasks.create_task(self.play())

    async def read_message(self) -> tuple[int, bytes]:
        header = await self.reader.readexactly(3)
        return header[0], await self.reader.readexactly(int.from_bytes(header[1:], "big"))

    async def greet(self, socket: ClientConnection) -> None:
        self.sequence = 1
        await socket.send(json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"}))
        start = {
            "streamSid": self.stream_sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        }
        await socket.send(
            json.dumps({"event": "start", "sequenceNumber": "1", "start": start, "streamSid": self.stream_sid})
        )

    async def listen(self, socket: ClientConnection) -> None:
        """From the call to the application."""
        while True:
            kind, frame = await self.read_message()
            if kind == AUDIO:
                await self.to_application(socket, frame)

    async def to_application(self, socket: ClientConnection, frame: bytes) -> None:
        await socket.send(self.encoded(frame))

    def encoded(self, frame: bytes) -> bytes | str:
        if self.dialect == "sln":
            return frame
        self.sequence += 1
        media = {
            "track": "inbound",
            "chunk": str(self.sequence - 1),
            "timestamp": str(20 * (self.sequence - 2)),
            "payload": base64.b64encode(audioop.lin2ulaw(frame, 2)).decode(),
        }
        return json.dumps(
            {"event": "media", "sequenceNumber": str(self.sequence), "media": media, "streamSid": self.stream_sid}
        )

    async def speak(self, socket: ClientConnection) -> None:
        """From the application to what waits to be played."""
        async for message in socket:
            frame = self.decoded(message)
            if frame and len(self.frames) < MAX_QUEUED_FRAMES:
                self.frames.append(frame)

    def decoded(self, message: str | bytes) -> bytes:
        if isinstance(message, bytes):
            return message
        event: dict[str, Any] = json.loads(message)
        if event["event"] != "media":
            return b""
        return audioop.ulaw2lin(base64.b64decode(event["media"]["payload"]), 2)

    async def play(self) -> None:
        """Play a frame every 20 ms."""
        loop = asyncio.get_running_loop()
        deadline = loop.time()
        while True:
            deadline += FRAME_S
            await asyncio.sleep(max(0.0, deadline - loop.time()))
            await self.to_asterisk(self.frames.popleft() if self.frames else bytes(FRAME_BYTES))

    async def to_asterisk(self, frame: bytes) -> None:
        self.writer.write(bytes([AUDIO]) + len(frame).to_bytes(2, "big") + frame)
        await self.writer.drain()


async def serve(listen_port: int, application_port: int, dialect: str, kind: type[NaiveBridge] = NaiveBridge) -> None:
    """Serve until the process is ended."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await kind(reader, writer, dialect).run(f"ws://127.0.0.1:{application_port}/")
        except* (OSError, asyncio.IncompleteReadError):
            pass  # the call has ended
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", listen_port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
