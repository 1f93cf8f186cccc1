"""OpenAI's Realtime API (GA), and the many servers that speak its events: JSON text with base64 audio, one model.

Source: the types of the package ``openai`` 3.57 (``openai.types.realtime``). Names of the former beta are accepted, as
self-hosted servers still send them. Choices where these are silent: ``docs/decisions/openai-realtime.md``.
"""

from __future__ import annotations

import binascii
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
from bridge.dialects.json_media import decoded
from bridge.dialects.model import ModelDialect, merged

TRANSCRIBER: Final = "gpt-4o-mini-transcribe"
"""Transcribes the caller, unless ``parameters`` name another."""


class _Format(NamedTuple):
    """A format of audio.

    Args:
        rate: sampling rate in Hz.
        value: its description in ``session.update``.
        encode: s16le to it; None: it is s16le.
        decode: it to s16le; None: it is s16le.
    """

    rate: int
    value: Mapping[str, Any]
    encode: Callable[[bytes], bytes] | None = None
    decode: Callable[[bytes], bytes] | None = None


_FORMATS: Final = {
    "pcmu": _Format(8000, {"type": "audio/pcmu"}, g711.ulaw_encode, g711.ulaw_decode),
    "pcma": _Format(8000, {"type": "audio/pcma"}, g711.alaw_encode, g711.alaw_decode),
    "pcm": _Format(24000, {"type": "audio/pcm", "rate": 24000}),
}
_AUDIO: Final = frozenset({"response.output_audio.delta", "response.audio.delta"})


class OpenAiRealtime(ModelDialect):
    """One session.

    Args:
        agent: how the model is configured; ``parameters`` are merged into ``session``.
        format: of the audio in both directions: ``pcmu`` or ``pcma`` at 8 kHz, or ``pcm`` (s16le at 24 kHz).
        connect: the model may speak; otherwise it only transcribes.

    Raises:
        ValueError: an option is invalid; the message is for the administrator.
    """

    name: ClassVar[str] = "openai_realtime"
    shown_options: ClassVar[frozenset[str]] = frozenset({"format"})

    def __init__(self, agent: AgentSettings | None = None, format: str = "pcmu", *, connect: bool = False) -> None:
        if format not in _FORMATS:
            raise ValueError(f"format must be one of {', '.join(_FORMATS)}, not {format!r}")
        self._format = _FORMATS[format]
        super().__init__(agent, rate=self._format.rate, connect=connect)
        self._whole = WholeSamples()
        self._configured = False
        self._yields = True  # the server stops its answer when the caller begins to speak
        self._response = ""  # the id of the latest response
        self._cut = ""  # the id of the response that the caller has interrupted
        self._responding = False
        self._answer_due = False  # a response is due when the running one is done
        self._calls: set[str] = set()  # tools that run

    @property
    def expected(self) -> str:
        """The messages that the application may send, for errors that its developer reads."""
        return "JSON text with the server events of the Realtime API"

    def url(self, configured: str) -> str:
        """Return the URL with the model in its query, unless it names one already."""
        return self.with_query(configured, "model", self.agent.model)

    # To the model

    def opened(self, call: CallInfo, tracks: Sequence[str], now: float, wall: float) -> Sequence[Message]:
        """Wait for ``session.created``."""
        self._whole = WholeSamples()
        self._configured = self._responding = self._answer_due = False
        self._response = self._cut = ""
        self._calls.clear()
        return super().opened(call, tracks, now, wall)

    def append(self, pcm: bytes) -> Message:
        """Return ``input_audio_buffer.append``."""
        encode = self._format.encode
        data = encode(pcm) if encode is not None else pcm
        payload = binascii.b2a_base64(data, newline=False).decode()
        return f'{{"type":"input_audio_buffer.append","audio":"{payload}"}}'

    def digits(self, digits: str) -> Sequence[Message]:
        """Return the digits as a message of the user, and request an answer."""
        item = {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": f"(The caller has entered {digits} on the keypad)"}],
        }
        return [_message("conversation.item.create", item=item), *self._respond()]

    def interrupted(self, item: str, played_ms: int, now: float) -> Sequence[Message]:
        """Return ``conversation.item.truncate``: the model discards what the caller did not hear."""
        return (_message("conversation.item.truncate", item_id=item, content_index=0, audio_end_ms=played_ms),)

    def tool_result(self, id: str, output: str, now: float) -> Sequence[Message]:
        """Return the output of a function, and request an answer when every function has returned."""
        if id not in self._calls:  # of a former connection
            return ()
        self.turns += 1
        self._calls.discard(id)
        item = {"type": "function_call_output", "call_id": id, "output": output}
        answer = () if self._calls else self._respond()
        return [_message("conversation.item.create", item=item), *answer]

    def _session(self) -> Mapping[str, Any]:
        agent = self.agent
        detection: dict[str, Any] = {"type": "server_vad"}
        if not self.two_way:
            detection |= {"create_response": False, "interrupt_response": False}
        transcription = {"model": TRANSCRIBER} | ({"language": agent.language} if agent.language else {})
        listening = {"format": self._format.value, "turn_detection": detection, "transcription": transcription}
        speaking = {"format": self._format.value} | ({"voice": agent.voice} if agent.voice else {})
        session: dict[str, Any] = {
            "type": "realtime",
            "output_modalities": ["audio" if self.two_way else "text"],
            "audio": {"input": listening, "output": speaking} if self.two_way else {"input": listening},
        }
        if agent.instructions:
            session["instructions"] = agent.instructions
        if agent.tools and self.two_way:
            session["tools"] = [
                {"type": "function", "name": tool.name, "description": tool.description, "parameters": tool.parameters}
                for tool in agent.tools
            ]
            session["tool_choice"] = "auto"
        return merged(session, agent.parameters)

    def _respond(self) -> Sequence[Message]:
        """Return ``response.create``, or nothing until the running response is done: there may be only one."""
        if self._responding:
            self._answer_due = True
            return ()
        self._responding = True
        return (_message("response.create"),)

    # From the model

    def receive(self, message: Message) -> Sequence[Command]:
        """Decode a server event; ignore those that concern no caller."""
        try:
            event = _DECODER.decode(message)
        except (msgspec.DecodeError, RecursionError):
            self.discard(message)
            return ()
        if event.type in _AUDIO:
            return self._audio(event, message)
        match event.type:
            case "session.created":
                return self._configure()
            case "session.updated":
                return self._begin()
            case "input_audio_buffer.speech_started":
                self.turns += 1
                return self._interrupt()
            case "response.created" if event.response is not None:
                self._responding, self._response = True, event.response.id
            case "response.done":
                return self._done(event.response)
            case "response.function_call_arguments.done" if self.two_way:
                self._calls.add(event.call_id)
                return (CallTool(event.call_id, event.name, event.arguments),)
            case "error" if event.error is not None:
                return (ReportedError(f"{event.error.code or event.error.type}: {event.error.message}"),)
        return self._transcript(event)

    def _configure(self) -> Sequence[Command]:
        if self._configured:
            return ()
        self._configured = True
        session = self._session()
        detection = session.get("audio", {}).get("input", {}).get("turn_detection") or {}
        self._yields = detection.get("interrupt_response", True) is not False
        return (Send(_message("session.update", session=session)),)

    def _begin(self) -> Sequence[Command]:
        """Greet, and let audio flow, after the first ``session.updated``."""
        if self.ready:
            return ()
        commands = list(self.begin())
        if self.agent.greeting and self.two_way and not self.greeted:
            self.greeted = self._responding = True
            say = f"Greet the caller now. Say exactly this and nothing else: {self.agent.greeting}"
            commands.insert(0, Send(_message("response.create", response={"instructions": say})))
        return commands

    def _audio(self, event: _Event, message: Message) -> Sequence[Command]:
        if not self.two_way or (event.response_id and event.response_id == self._cut):
            return ()  # late audio of an interrupted response
        data = decoded(event.delta)
        if data is None:
            self.discard(message, f"base64 of {self._format.value['type']} at {self.rate} Hz")
            return ()
        decode = self._format.decode
        return self.play(event.item_id, decode(data) if decode is not None else self._whole.push(data))

    def _interrupt(self) -> Sequence[Command]:
        if not (self._yields and self.two_way):
            return ()
        self._cut = self._response
        self._whole = WholeSamples()
        return (Clear(),)

    def _done(self, response: _Response | None) -> Sequence[Command]:
        self._responding = False
        commands: list[Command] = []
        if response is not None and response.status == "failed":
            details = response.status_details
            error = details.error if details is not None else None
            commands.append(
                ReportedError(f"response failed: {error.code or error.type if error is not None else 'unknown'}")
            )
        if self._answer_due:
            self._answer_due = False
            commands += [Send(message) for message in self._respond()]
        return commands

    def _transcript(self, event: _Event) -> Sequence[Command]:
        match event.type:
            case "conversation.item.input_audio_transcription.completed":
                return (Transcript("caller", event.transcript),)
            case "response.output_audio_transcript.done" | "response.audio_transcript.done":
                return (Transcript("agent", event.transcript),) if event.response_id != self._cut else ()
        return ()


class _Error(msgspec.Struct, frozen=True):
    type: str = ""
    code: str | None = None
    message: str = ""


class _Details(msgspec.Struct, frozen=True):
    error: _Error | None = None


class _Response(msgspec.Struct, frozen=True):
    id: str = ""
    status: str | None = None
    status_details: _Details | None = None


class _Event(msgspec.Struct, frozen=True):
    """A server event; unknown fields are ignored."""

    type: str
    response_id: str = ""
    item_id: str = ""
    delta: str | None = None
    transcript: str = ""
    call_id: str = ""
    name: str = ""
    arguments: str = ""
    response: _Response | None = None
    error: _Error | None = None


_DECODER = msgspec.json.Decoder(_Event)


def _message(kind: str, **fields: Any) -> Message:
    return msgspec.json.encode({"type": kind, **fields}).decode()
