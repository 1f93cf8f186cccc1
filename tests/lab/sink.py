"""A customer's WebSocket server, as bridges dial it: it keeps all that it is sent, and can misbehave."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import numpy as np
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from bridge.testing.peer import Samples, samples_of, ulaw_samples
from tests.lab.waiting import PATIENCE_S


class Received:
    """One connection, from its handshake to its end."""

    def __init__(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        self.socket = socket
        self.path = socket.request.path
        self.headers = socket.request.headers
        self.messages: list[dict[str, Any]] = []
        """JSON text messages, in order."""
        self.times: list[float] = []
        """When each of them came, by ``time.monotonic()``."""
        self.binary: list[bytes] = []
        """Binary messages, in order."""
        self.ended = asyncio.Event()

    @classmethod
    def together(cls, connections: Sequence[Received]) -> Received:
        """Several connections as if all their messages had come over the first, in the order of arrival."""
        whole = cls(connections[0].socket)
        arrived = [pair for each in connections for pair in zip(each.times, each.messages, strict=True)]
        arrived.sort(key=lambda pair: pair[0])
        whole.times = [at for at, _ in arrived]
        whole.messages = [message for _, message in arrived]
        return whole

    @property
    def close_code(self) -> int | None:
        """The code with which the connection was closed; None while it is open."""
        return self.socket.close_code

    async def send(self, **message: Any) -> None:
        """Send a JSON message."""
        await self.socket.send(json.dumps(message))

    def of(self, **fields: Any) -> list[dict[str, Any]]:
        """Return the messages whose fields have these values."""
        return [message for message in self.messages if all(message.get(key) == value for key, value in fields.items())]

    @property
    def yeastar_channels(self) -> dict[str, str]:
        """The names of the channels by endpoint, by Yeastar's format."""
        channels = {message["channelid"] for message in self.messages}
        return {channel.removeprefix("PJSIP/").rpartition("-")[0]: channel for channel in channels}

    @property
    def samples(self) -> Samples:
        """What the binary messages hold, as signed linear audio."""
        return samples_of(b"".join(self.binary))

    def yeastar(self, channel: str) -> Samples:
        """Return the audio of one channel, in Yeastar's format."""
        found = (message for message in self.of(channelid=channel, status="process"))
        return samples_of(b"".join(base64.b64decode(message["audio"]) for message in found))

    def voxology(self, name: str) -> Samples:
        """Return the audio of one track, in Voxology's format."""
        found = self.of(type="live_track", name=name)
        return ulaw_samples(b"".join(base64.b64decode(message["media"]) for message in found))

    def twilio(self, track: str = "inbound") -> Samples:
        """Return the audio of one track, in Twilio's format."""
        found = [m["media"] for m in self.of(event="media") if m["media"]["track"] == track]
        return ulaw_samples(b"".join(base64.b64decode(media["payload"]) for media in found))


class Sink:
    """The server; made by `open_sink`.

    Args:
        host: the address that it listens at.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.host = host
        self.connections: list[Received] = []
        self.refuse_with: int | None = None
        """Status with which handshakes are refused."""
        self.refused = 0
        self.answers_after_s = 0.0
        """How long a handshake takes."""
        self.tls: ssl.SSLContext | None = None
        """As which server it shows itself; None: without TLS."""
        self.on_message: Callable[[Received, dict[str, Any]], Any] | None = None
        """Called, and awaited, for every message."""
        self.reading = asyncio.Event()
        self.reading.set()
        self.port = 0
        self._server: Server | None = None

    @property
    def url(self) -> str:
        """The address to dial."""
        return f"ws://{self.host}:{self.port}/media"

    async def connected(self, count: int, timeout_s: float = PATIENCE_S) -> list[Received]:
        """Wait for ``count`` connections and return them."""
        async with asyncio.timeout(timeout_s):
            while len(self.connections) < count:
                await asyncio.sleep(0.02)
        return self.connections[:count]

    async def start(self) -> None:
        """Listen; on the same port as before, if it listened before."""
        self._server = await serve(
            *(self._serve, self.host, self.port),
            process_request=self._decide,
            compression=None,
            max_queue=4,
            ssl=self.tls,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def die(self) -> None:
        """Drop every connection without a Close frame, and listen no more."""
        assert self._server is not None
        self._server.close(close_connections=False)
        for connection in self.connections:
            connection.socket.transport.abort()
        await self._server.wait_closed()
        self._server = None

    async def stop(self) -> None:
        """Close everything."""
        self.reading.set()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _decide(self, connection: ServerConnection, _: Request) -> Response | None:
        await asyncio.sleep(self.answers_after_s)  # as slow as the test asks
        if self.refuse_with is None:
            return None
        self.refused += 1
        return connection.respond(http.HTTPStatus(self.refuse_with), "not you\n")

    async def _serve(self, socket: ServerConnection) -> None:
        received = Received(socket)
        self.connections.append(received)
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self.reading.wait()
                data = await socket.recv()
                if isinstance(data, bytes):
                    received.binary.append(data)
                    continue
                received.messages.append(json.loads(data))
                received.times.append(time.monotonic())
                if self.on_message is not None:
                    await self.on_message(received, received.messages[-1])
        received.ended.set()


@contextlib.asynccontextmanager
async def open_sink(host: str = "127.0.0.1") -> AsyncIterator[Sink]:
    """Run a server."""
    sink = Sink(host)
    await sink.start()
    try:
        yield sink
    finally:
        await sink.stop()


def tone_share(samples: Samples, rate: int, hz: float) -> float:
    """Return how much of a passage is one tone: 1 is all of it, 0 none; by 0.1 s blocks."""
    size = rate // 10
    blocks = samples[: len(samples) // size * size].reshape(-1, size).astype(np.float64)
    if not len(blocks):
        return 0.0
    turn = np.exp(-2j * np.pi * hz / rate * np.arange(size))
    levels = 2 * np.abs(blocks @ turn) / size
    return float(np.mean(levels > 3000))
