"""Gemini Live: JSON with base64 audio, s16le at 16 kHz to the model and 24 kHz from it; sessions that can be resumed.

Source: ``google.genai.live`` of the package ``google-genai`` 3.6 and its types. Choices where these are silent:
``docs/decisions/models.md``.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec

from bridge.audio.format import SLIN_RATES
from bridge.dialects.agent import AgentSettings
from bridge.dialects.base import CallInfo, Command, Message, Reconnect, ReportedError, Send, Transcript
from bridge.dialects.json_media import decoded
from bridge.dialects.model import ModelDialect, merged

MODEL: Final = "gemini-3.1-flash-live-preview"
"""The model, unless another is configured."""
RATES: Final = (8000, 16000, 24000)
OUTPUT_RATE: Final = 24000
"""Sampling rate in Hz of the model's audio, unless its messages name another."""
MAX_TRANSCRIPT: Final = 10_000
"""Longest transcript of one utterance, in characters; it arrives in pieces."""


class GeminiLive(ModelDialect):
    """One session.

    Args:
        agent: how the model is configured; ``parameters`` are merged into ``setup``.
        rate: sampling rate in Hz of the audio to the model, which converts it to 16000 itself.
        connect: the model may speak; otherwise only the caller's transcript is used.

    Raises:
        ValueError: an option is invalid; the message is for the administrator.
    """

    name: ClassVar[str] = "gemini_live"
    key_header: ClassVar[str] = "x-goog-api-key: {key}"

    def __init__(self, agent: AgentSettings | None = None, rate: int = 16000, *, connect: bool = False) -> None:
        if rate not in RATES:
            raise ValueError(f"rate must be one of {', '.join(map(str, RATES))}, not {rate!r}")
        super().__init__(agent, rate=rate, connect=connect)
        self._handle = ""  # resumes the session on the next connection
        self._leaving = False  # the server has announced the end of the connection
        self._speaking = False  # the model's turn is not complete
        self._turn = 0
        self._heard = self._spoken = ""  # transcripts of the current utterances

    @property
    def expected(self) -> str:
        """The messages that the application may send, as the log lists them when it sends another."""
        return "JSON with the server messages of BidiGenerateContent"

    # To the model

    def opened(self, call: CallInfo, tracks: Sequence[str], now: float, wall: float) -> Sequence[Message]:
        """Return ``setup``, which resumes the session of the previous connection."""
        if not self.ready:
            self._handle = ""  # the previous connection did not accept it
        super().opened(call, tracks, now, wall)
        self._leaving = self._speaking = False
        self._heard = self._spoken = ""
        return (_json({"setup": merged(self._setup(), self.agent.parameters)}),)

    def append(self, pcm: bytes) -> Message:
        """Return ``realtimeInput`` with audio."""
        data = binascii.b2a_base64(pcm, newline=False).decode()
        return f'{{"realtimeInput":{{"audio":{{"mimeType":"audio/pcm;rate={self.rate}","data":"{data}"}}}}}}'

    def user_text(self, text: str) -> Sequence[Message]:
        """Return ``realtimeInput`` with text."""
        return (_json({"realtimeInput": {"text": text}}),)

    def tool_output(self, id: str, name: str, output: str) -> Sequence[Message]:
        """Return ``toolResponse``."""
        response = {"id": id, "name": name, "response": {"output": output}}
        return (_json({"toolResponse": {"functionResponses": [response]}}),)

    def _setup(self) -> Mapping[str, Any]:
        agent = self.agent
        model = agent.model or MODEL
        speech: dict[str, Any] = {}
        if agent.voice:
            speech["voiceConfig"] = {"prebuiltVoiceConfig": {"voiceName": agent.voice}}
        if agent.language:
            speech["languageCode"] = agent.language
        setup: dict[str, Any] = {
            "model": model if "/" in model else f"models/{model}",
            "generationConfig": {"responseModalities": ["AUDIO"]} | ({"speechConfig": speech} if speech else {}),
            "inputAudioTranscription": {},
            "outputAudioTranscription": {},
            "contextWindowCompression": {"slidingWindow": {}},  # without it, a session ends after 15 minutes
            "sessionResumption": {"handle": self._handle} if self._handle else {},
        }
        if agent.instructions:
            setup["systemInstruction"] = {"parts": [{"text": agent.instructions}]}
        if agent.tools and self.two_way:
            functions = [
                {"name": tool.name, "description": tool.description, "parametersJsonSchema": tool.parameters}
                for tool in agent.tools
            ]
            setup["tools"] = [{"functionDeclarations": functions}]
        return setup

    # From the model

    def receive(self, message: Message) -> Sequence[Command]:
        """Decode a message, of type text or binary; ignore those that concern no caller."""
        received = self.parsed(message, _DECODER)
        if received is None:
            return ()
        commands: list[Command] = []
        if received.setupComplete is not None and not self.ready:
            commands += self._begin()
        if received.sessionResumptionUpdate is not None and received.sessionResumptionUpdate.resumable:
            self._handle = received.sessionResumptionUpdate.newHandle
        if received.serverContent is not None:
            commands += self._content(received.serverContent, message)
        if received.toolCall is not None and self.two_way:
            commands += self._flush_transcript()
            for call in received.toolCall.functionCalls:
                commands.append(self.call_tool(call.id, call.name, bytes(call.args).decode()))
        if received.toolCallCancellation is not None:
            for id in received.toolCallCancellation.ids:
                self.calls.pop(id, None)
        if received.error is not None:
            commands.append(ReportedError(f"{received.error.status or received.error.code}: {received.error.message}"))
        if received.goAway is not None:
            self._leaving = True
        if self._leaving and not self._speaking and not self.calls:
            self._leaving = False
            commands.append(Reconnect("the model ends the connection"))
        return commands

    def _begin(self) -> Sequence[Command]:
        """Greet, and let audio flow."""
        commands = list(self.begin())
        if request := self.greeting_request:
            self.greeted = True
            commands[:0] = [Send(message) for message in self.user_text(request)]
        return commands

    def _content(self, content: _Content, message: Message) -> Sequence[Command]:
        commands: list[Command] = []
        if content.inputTranscription is not None:
            self._heard = (self._heard + content.inputTranscription.text)[:MAX_TRANSCRIPT]
        if content.modelTurn is not None or content.outputTranscription is not None:
            commands += self._flush_transcript()
        if content.outputTranscription is not None:
            self._spoken = (self._spoken + content.outputTranscription.text)[:MAX_TRANSCRIPT]
        if content.modelTurn is not None:
            self._speaking = True
            for part in content.modelTurn.parts:
                if part.inlineData is not None and self.two_way:
                    commands += self._audio(part.inlineData, message)
        if content.interrupted:
            self.turns += 1
            commands += self.clear()
        if content.interrupted or content.turnComplete:
            self._turn += 1
            self._speaking = False
            if self._spoken and self.two_way:
                commands.append(Transcript("agent", self._spoken.strip()))
            self._spoken = ""
        return commands

    def _audio(self, blob: _Blob, message: Message) -> Sequence[Command]:
        data, rate = decoded(blob.data), _rate(blob.mimeType)
        if data is None or rate not in SLIN_RATES:
            self.discard(message, "base64 of audio/pcm")
            return ()
        return self.play(str(self._turn), data, rate)

    def _flush_transcript(self) -> Sequence[Command]:
        """Return the caller's transcript: the model answers it."""
        heard, self._heard = self._heard.strip(), ""
        return (Transcript("caller", heard),) if heard else ()


class _Blob(msgspec.Struct, frozen=True):
    data: str = ""
    mimeType: str = ""  # noqa: N815


class _Part(msgspec.Struct, frozen=True):
    inlineData: _Blob | None = None  # noqa: N815


class _Turn(msgspec.Struct, frozen=True):
    parts: list[_Part] = []


class _Transcription(msgspec.Struct, frozen=True):
    text: str = ""


class _Content(msgspec.Struct, frozen=True):
    modelTurn: _Turn | None = None  # noqa: N815
    inputTranscription: _Transcription | None = None  # noqa: N815
    outputTranscription: _Transcription | None = None  # noqa: N815
    interrupted: bool = False
    turnComplete: bool = False  # noqa: N815


class _Call(msgspec.Struct, frozen=True):
    id: str
    name: str
    args: msgspec.Raw = msgspec.Raw(b"{}")


class _Calls(msgspec.Struct, frozen=True):
    functionCalls: list[_Call] = []  # noqa: N815


class _Ids(msgspec.Struct, frozen=True):
    ids: list[str] = []


class _Resumption(msgspec.Struct, frozen=True):
    newHandle: str = ""  # noqa: N815
    resumable: bool = False


class _Error(msgspec.Struct, frozen=True):
    code: int = 0
    message: str = ""
    status: str = ""


class _Received(msgspec.Struct, frozen=True):
    """A message from the model; unknown fields are ignored."""

    setupComplete: dict[str, Any] | None = None  # noqa: N815
    serverContent: _Content | None = None  # noqa: N815
    toolCall: _Calls | None = None  # noqa: N815
    toolCallCancellation: _Ids | None = None  # noqa: N815
    sessionResumptionUpdate: _Resumption | None = None  # noqa: N815
    goAway: dict[str, Any] | None = None  # noqa: N815
    error: _Error | None = None


_DECODER = msgspec.json.Decoder(_Received)


def _rate(kind: str) -> int:
    """Return the sampling rate in a MIME type, in Hz; 0: it is not bare audio."""
    name, _, rate = kind.replace(" ", "").partition(";rate=")
    if name != "audio/pcm":
        return 0
    return int(rate) if rate.isascii() and rate.isdecimal() and len(rate) < 6 else OUTPUT_RATE


def _json(message: Mapping[str, Any]) -> Message:
    return msgspec.json.encode(message).decode()
