"""What the fakes of models have in common: the server, and the conversation.

A fake reads strings out of the caller's audio and sends strings as such audio (`bridge.testing.modem`): a test detects
whether each arrived exactly. It repeats what it receives, except for these commands:

- ``talk``: speaks for `LONG_SPEECH_S` seconds, until the caller interrupts.
- ``tool NAME JSON``: calls a function, and speaks its result.
- ``bye``: ends the conversation, after the good-bye.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from bridge.testing import modem
from bridge.testing.judge import Samples, silence, tone
from tests.agents.ear import Ear

LONG_SPEECH_HZ = 700
LONG_SPEECH_S = 20.0
PIECE_S = 0.25  # audio in one message: models send an answer faster than it is spoken
PATIENCE_S = 15.0


class FakeModel(ABC):
    """One conversation of a fake; the vendor's module adds the messages.

    Args:
        socket: of the client.
    """

    rate_in: ClassVar[int] = 8000
    """Sampling rate in Hz of the caller's audio."""
    rate_out: ClassVar[int] = 8000
    """Sampling rate in Hz of the fake's audio."""
    path: ClassVar[str]
    """Of the address that clients dial."""

    def __init__(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        self.socket = socket
        self.requested = socket.request.path
        self.headers = socket.request.headers
        self.messages: list[dict[str, Any]] = []
        """JSON messages that the client has sent, of those with audio only the first."""
        self.heard: list[str] = []
        """Strings in the caller's audio."""
        self.audio_messages = 0
        """How many messages with audio have come."""
        self.turn = 0
        self._ear = Ear(self.rate_in)
        self._talking = False
        self._spoke = False

    # What a vendor's module adds

    async def hello(self) -> None:  # noqa: B027 - most servers wait for the client
        """Send the first message, if the server begins."""

    @abstractmethod
    async def received(self, message: str | bytes) -> None:
        """Handle a message: calls `hear`, `say` and `tool_result`."""

    @abstractmethod
    async def send_audio(self, pcm: bytes) -> None:
        """Send s16le at `rate_out`."""

    async def send_done(self) -> None:  # noqa: B027 - some report nothing
        """Report that the answer is complete."""

    @abstractmethod
    async def send_transcript(self, role: str, text: str) -> None:
        """Report the words of the ``caller`` or the ``agent``."""

    @abstractmethod
    async def send_interruption(self) -> None:
        """Report that the caller speaks."""

    @abstractmethod
    async def send_call(self, call_id: str, name: str, arguments: dict[str, Any]) -> None:
        """Call a function."""

    # The conversation

    async def send(self, **message: Any) -> None:
        """Send a JSON message."""
        await self.socket.send(json.dumps(message))

    async def hear(self, samples: Samples, message: dict[str, Any] | None = None) -> None:
        """Listen to the caller.

        Args:
            samples: at `rate_in`.
            message: that the audio came in, if it is JSON.
        """
        if message is not None and not self.audio_messages:
            self.messages.append(message)
        self.audio_messages += 1
        for at in range(0, len(samples), self.rate_in // 50):
            text = self._ear.hear(samples[at : at + self.rate_in // 50])
            if self._ear.speaking and not self._talking and self._spoke:
                await self.send_interruption()
            self._talking = self._ear.speaking
            if text:
                await self._answer(text)

    async def say(self, text: str) -> None:
        """Speak."""
        await self.speak(modem.modulate(text, self.rate_out), text)

    async def speak(self, samples: Samples, text: str) -> None:
        """Send audio, and its transcript."""
        self._spoke = True
        self.turn += 1
        await self.send_transcript("agent", text)
        for at in range(0, len(samples), round(PIECE_S * self.rate_out)):
            await self.send_audio(samples[at : at + round(PIECE_S * self.rate_out)].astype("<i2").tobytes())
        await self.send_done()

    async def tool_result(self, output: str) -> None:
        """Handle what a function has returned."""
        await self.say(f"Result: {output}")

    async def _answer(self, text: str) -> None:
        self.heard.append(text)
        await self.send_transcript("caller", text)
        if text == "talk":
            await self.speak(tone(LONG_SPEECH_HZ, LONG_SPEECH_S, self.rate_out), "a long speech")
        elif text == "bye":
            speech = np.concatenate([modem.modulate("Bye", self.rate_out), silence(0.3, self.rate_out)])
            await self.speak(speech, "Bye")
            await asyncio.sleep(len(speech) / self.rate_out)
            await self.socket.close()
        elif text.startswith("tool "):
            _, name, arguments = text.split(" ", 2)
            await self.send_call(f"call-{len(self.heard)}", name, json.loads(arguments))
        else:
            await self.say(f"You said: {text}")


Fake = TypeVar("Fake", bound=FakeModel)


class Models(Generic[Fake]):
    """A server with its conversations.

    Args:
        kind: of the vendor.
    """

    def __init__(self, kind: type[Fake]) -> None:
        self._kind = kind
        self.url = ""
        self.conversations: list[Fake] = []
        self.refuse = False
        """Whether new connections are refused with 503."""

    async def conversation(self, count: int = 1) -> Fake:
        """Wait for the n-th conversation."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.conversations) < count:
                await asyncio.sleep(0.02)
        return self.conversations[count - 1]

    def admit(self, socket: ServerConnection, _: Request) -> Response | None:
        """Refuse a connection if `refuse` is set."""
        return socket.respond(503, "busy") if self.refuse else None

    async def serve(self, socket: ServerConnection) -> None:
        """Hold one conversation."""
        model = self._kind(socket)
        self.conversations.append(model)
        with contextlib.suppress(ConnectionClosed):
            await model.hello()
            async for message in socket:
                await model.received(message)


@contextlib.asynccontextmanager
async def running(kind: type[Fake], tls: ssl.SSLContext | None = None) -> AsyncIterator[Models[Fake]]:
    """Run a fake, and yield it with its address."""
    models = Models(kind)
    async with serve(models.serve, "127.0.0.1", 0, ssl=tls, process_request=models.admit) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        models.url = f"{'wss' if tls else 'ws'}://localhost:{port}{kind.path}"
        yield models
