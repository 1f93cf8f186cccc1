"""Deepgram's Voice Agent: JSON text messages, and audio of both parties in binary ones.

Source: the types of the package ``deepgram-sdk`` 7.17 (``deepgram.agent.v1``). Choices where these are silent:
``docs/decisions/models.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple

import msgspec

from bridge.audio import g711
from bridge.audio.raw import WholeSamples
from bridge.dialects.agent import AgentSettings
from bridge.dialects.base import (
    CallInfo,
    CallTool,
    Clear,
    Command,
    Message,
    ReportedError,
    Send,
    Transcript,
)
from bridge.dialects.model import ModelDialect, merged

MODEL: Final = "gpt-4o-mini"
"""The language model, unless another is configured."""
VOICE: Final = "aura-2-thalia-en"
"""The voice, unless another is configured."""
RECOGNIZER: Final = "nova-3"
"""The recognizer, if a language is configured."""


class _Format(NamedTuple):
    """A format of audio.

    Args:
        rate: sampling rate in Hz.
        encode: s16le to it; None: it is s16le.
        decode: it to s16le; None: it is s16le.
    """

    rate: int
    encode: Callable[[bytes], bytes] | None = None
    decode: Callable[[bytes], bytes] | None = None


_FORMATS: Final = {
    "mulaw": _Format(8000, g711.ulaw_encode, g711.ulaw_decode),
    "alaw": _Format(8000, g711.alaw_encode, g711.alaw_decode),
    "linear16": _Format(16000),
}


class DeepgramAgent(ModelDialect):
    """One conversation.

    Args:
        agent: how the model is configured; ``parameters`` are merged into ``Settings``.
        format: of the audio in both directions: ``mulaw`` or ``alaw`` at 8 kHz, or ``linear16`` at 16 kHz.
        connect: the model may speak; otherwise only the caller's transcript is used.

    Raises:
        ValueError: an option is invalid; the message is for the administrator.
    """

    name: ClassVar[str] = "deepgram_agent"
    shown_options: ClassVar[frozenset[str]] = frozenset({"format"})
    key_header: ClassVar[str] = "Authorization: Token {key}"

    def __init__(self, agent: AgentSettings | None = None, format: str = "mulaw", *, connect: bool = False) -> None:
        if format not in _FORMATS:
            raise ValueError(f"format must be one of {', '.join(_FORMATS)}, not {format!r}")
        self._encoding = format
        self._format = _FORMATS[format]
        super().__init__(agent, rate=self._format.rate, connect=connect)
        self._whole = WholeSamples()
        self._calls: dict[str, str] = {}  # names of the functions that run, by id

    @property
    def expected(self) -> str:
        """The messages that the application may send, for errors that its developer reads."""
        return "JSON text with the server messages of the Voice Agent API, and binary messages with audio"

    # To the model

    def opened(self, call: CallInfo, tracks: Sequence[str], now: float, wall: float) -> Sequence[Message]:
        """Wait for ``Welcome``."""
        self._whole = WholeSamples()
        self._calls.clear()
        return super().opened(call, tracks, now, wall)

    def append(self, pcm: bytes) -> Message:
        """Return the audio."""
        encode = self._format.encode
        return encode(pcm) if encode is not None else pcm

    def digits(self, digits: str) -> Sequence[Message]:
        """Return the digits as a message of the user."""
        return (_message("InjectUserMessage", content=f"(The caller has entered {digits} on the keypad)"),)

    def tool_result(self, id: str, output: str, now: float) -> Sequence[Message]:
        """Return ``FunctionCallResponse``, unless the call was cancelled or belongs to a former connection."""
        name = self._calls.pop(id, None)
        if name is None:
            return ()
        self.turns += 1
        return (_message("FunctionCallResponse", id=id, name=name, content=output),)

    def _settings(self) -> Mapping[str, Any]:
        agent = self.agent
        audio = {"encoding": self._encoding, "sample_rate": self.rate}
        think: dict[str, Any] = {"provider": {"type": "open_ai", "model": agent.model or MODEL}}
        if agent.instructions:
            think["prompt"] = agent.instructions
        if agent.tools and self.two_way:
            think["functions"] = [
                {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
                for tool in agent.tools
            ]
        speak = {"provider": {"type": "deepgram", "model": agent.voice or VOICE}}
        settings: dict[str, Any] = {"think": think, "speak": speak}
        if agent.language:
            provider = {"version": "v1", "type": "deepgram", "model": RECOGNIZER, "language": agent.language}
            settings["listen"] = {"provider": provider}
        if agent.greeting and self.two_way and not self.greeted:
            settings["greeting"] = agent.greeting
        message = {"audio": {"input": audio, "output": {**audio, "container": "none"}}, "agent": settings}
        return merged(message, agent.parameters)

    # From the model

    def receive(self, message: Message) -> Sequence[Command]:
        """Decode audio or a message; ignore those that concern no caller."""
        if isinstance(message, bytes):
            return self._audio(message)
        try:
            received = _DECODER.decode(message)
        except (msgspec.DecodeError, RecursionError):
            self.discard(message)
            return ()
        match received.type:
            case "Welcome" if not self.ready:
                return (Send(_message("Settings", **self._settings())),)
            case "SettingsApplied" if not self.ready:
                self.greeted = True  # the settings contained the greeting
                return self.begin()
            case "UserStartedSpeaking":
                return self._interrupt()
            case "ConversationText":
                return self._transcript(received)
            case "FunctionCallRequest" | "FunctionCallCancelled" if self.two_way:
                return self._call(received)
            case "Error" | "Warning":
                return (ReportedError(f"{received.code}: {received.description}"),)
        return ()

    def _audio(self, data: bytes) -> Sequence[Command]:
        if not self.two_way:
            return ()
        decode = self._format.decode
        return self.play("", decode(data) if decode is not None else self._whole.push(data))

    def _interrupt(self) -> Sequence[Command]:
        self.turns += 1
        self._whole = WholeSamples()
        return (Clear(),) if self.two_way else ()

    def _transcript(self, received: _Received) -> Sequence[Command]:
        if received.role == "user":
            return (Transcript("caller", received.content),)
        return (Transcript("agent", received.content),) if self.two_way else ()

    def _call(self, received: _Received) -> Sequence[Command]:
        """Return the functions to run: not those of the server itself, and none that is cancelled."""
        if received.type == "FunctionCallCancelled":
            for function in received.functions:
                self._calls.pop(function.id, None)
            return ()
        requested = [function for function in received.functions if function.client_side]
        self._calls |= {function.id: function.name for function in requested}
        return [CallTool(function.id, function.name, function.arguments) for function in requested]


class _Function(msgspec.Struct, frozen=True):
    id: str
    name: str
    arguments: str = "{}"
    client_side: bool = True


class _Received(msgspec.Struct, frozen=True):
    """A message from the model; unknown fields are ignored."""

    type: str
    role: str = ""
    content: str = ""
    functions: list[_Function] = []
    code: str = ""
    description: str = ""


_DECODER = msgspec.json.Decoder(_Received)


def _message(kind: str, **fields: Any) -> Message:
    return msgspec.json.encode({"type": kind, **fields}).decode()
