"""Deepgram's Voice Agent: JSON text messages, and audio of both parties in binary ones.

Source: the types of the package ``deepgram-sdk`` 7.17 (``deepgram.agent.v1``). Choices where these are silent:
``docs/decisions/models.md``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec

from bridge.dialects.agent import AgentSettings
from bridge.dialects.base import Command, Message, ReportedError, Send, Transcript
from bridge.dialects.json_media import Coding, alaw, mulaw
from bridge.dialects.model import ModelDialect, merged, typed

MODEL: Final = "gpt-4o-mini"
"""The language model, unless another is configured."""
VOICE: Final = "aura-2-thalia-en"
"""The voice, unless another is configured."""
RECOGNIZER: Final = "nova-3"
"""The recognizer, if a language is configured."""

_FORMATS: Final = {each.name: each for each in (mulaw("mulaw"), alaw("alaw"), Coding("linear16", (16000,)))}


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
        self._format = _FORMATS[format]
        super().__init__(agent, rate=self._format.rates[0], connect=connect)

    @property
    def expected(self) -> str:
        """The messages that the application may send, as the log lists them when it sends another."""
        return "JSON text with the server messages of the Voice Agent API, and binary messages with audio"

    # To the model

    def append(self, pcm: bytes) -> Message:
        """Return the audio."""
        encode = self._format.encode
        return encode(pcm) if encode is not None else pcm

    def user_text(self, text: str) -> Sequence[Message]:
        """Return the message that injects the text as the user's."""
        return (typed("InjectUserMessage", content=text),)

    def tool_output(self, id: str, name: str, output: str) -> Sequence[Message]:
        """Return ``FunctionCallResponse``."""
        return (typed("FunctionCallResponse", id=id, name=name, content=output),)

    def _settings(self) -> Mapping[str, Any]:
        agent = self.agent
        audio = {"encoding": self._format.name, "sample_rate": self.rate}
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
        received = self.parsed(message, _DECODER)
        if received is None:
            return ()
        match received.type:
            case "Welcome" if not self.ready:
                return (Send(typed("Settings", **self._settings())),)
            case "SettingsApplied" if not self.ready:
                self.greeted = True  # the settings contained the greeting
                return self.begin()
            case "UserStartedSpeaking":
                self.turns += 1
                return self.clear()
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
        return self.play("", decode(data) if decode is not None else data)

    def _transcript(self, received: _Received) -> Sequence[Command]:
        if received.role == "user":
            return (Transcript("caller", received.content),)
        return (Transcript("agent", received.content),) if self.two_way else ()

    def _call(self, received: _Received) -> Sequence[Command]:
        """Return the functions to run: not those of the server itself, and none that is cancelled."""
        if received.type == "FunctionCallCancelled":
            for function in received.functions:
                self.calls.pop(function.id, None)
            return ()
        return [
            self.call_tool(function.id, function.name, function.arguments)
            for function in received.functions
            if function.client_side
        ]


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
