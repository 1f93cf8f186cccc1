"""The least that a bridge on our loop and libraries can be: what the product costs beyond it is its own doing.

    python -m tests.load.peers.bridge_bare AUDIOSOCKET_PORT APPLICATION_PORT

Frames of 20 ms of s16le at 8000 Hz both ways, whole ones only; no bounds, no counters, no errors, nothing but audio.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from typing import Any

import aiofastnet
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from bridge.config import MediaConfig
from bridge.media.loop import FrameLoop

FRAME_BYTES = 320
HEADER = b"\x10\x01\x40"
SILENCE = HEADER + bytes(FRAME_BYTES)
BINARY = WSMsgType.BINARY
PHASES = 4
SLOT_S = 0.02 / PHASES

_buffer = memoryview(bytearray(65536))
_payload = _buffer[len(HEADER) : len(SILENCE)]


class Call(asyncio.BufferedProtocol):
    """One AudioSocket connection."""

    __slots__ = ("begun", "queue", "send", "write")

    def __init__(self, bridge: Bridge) -> None:
        self.begun: Bridge | None = bridge
        self.queue: deque[bytes] = deque()
        self.send: Any = None

    def connection_made(self, transport: Any) -> None:
        self.write = transport.write

    def get_buffer(self, _: int) -> memoryview:
        return _buffer

    def buffer_updated(self, nbytes: int) -> None:
        if nbytes == len(SILENCE) and self.send is not None:
            self.send(BINARY, _payload.tobytes())
        elif self.begun is not None:  # its UUID
            self.begun.add(self)
            self.begun = None


class Application(WSListener):
    """Its WebSocket."""

    __slots__ = ("call",)

    def __init__(self, call: Call) -> None:
        self.call = call

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.call.send = transport.send

    def on_ws_frame(self, _: WSTransport, frame: WSFrame) -> None:
        self.call.queue.append(frame.get_payload_as_bytes())


class Bridge:
    """All calls, in four phases of the tick."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.phases: list[list[Call]] = [[] for _ in range(PHASES)]
        self.tasks: list[asyncio.Task[Any]] = []

    def add(self, call: Call) -> None:
        min(self.phases, key=len).append(call)
        self.tasks.append(asyncio.ensure_future(ws_connect(lambda: Application(call), self.url)))

    def turn(self, slot: int, start: float) -> None:
        for call in self.phases[slot % PHASES]:
            queue = call.queue
            call.write(HEADER + queue.popleft() if queue else SILENCE)
        asyncio.get_running_loop().call_at(start + (slot + 1) * SLOT_S, self.turn, slot + 1, start)


async def main(audiosocket_port: int, application_port: int) -> None:
    loop = asyncio.get_running_loop()
    bridge = Bridge(f"ws://127.0.0.1:{application_port}/")
    server = await aiofastnet.create_server(
        loop, lambda: Call(bridge), "127.0.0.1", audiosocket_port, backlog=1024, reuse_address=True
    )
    bridge.turn(0, loop.time())
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=lambda: FrameLoop(MediaConfig().coalesce_ms)) as runner:
        runner.run(main(int(sys.argv[1]), int(sys.argv[2])))
