"""OpenAI's Realtime API (GA), and the many servers that speak its events: JSON text with base64 audio, one model.

Source: the types of the package ``openai`` 3.57 (``openai.types.realtime``). Names of the former beta are accepted, as
self-hosted servers still send them. Choices where these are silent: ``docs/decisions/openai-realtime.md``.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec

from bridge.dialects.agent import AgentSettings
from bridge.dialects.base import CallInfo, Command, Message, ReportedError, Send, Transcript
from bridge.dialects.json_media import Coding, alaw, decoded, mulaw
from bridge.dialects.model import ModelDialect, merged, typed

TRANSCRIBER: Final = "gpt-4o-mini-transcribe"
"""Transcribes the caller, unless ``parameters`` name another."""


_FORMATS: Final = {
    "pcmu": mulaw("audio/pcmu"),
    "pcma": alaw("audio/pcma"),
    "pcm": Coding("audio/pcm", (24000,)),
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
        super().__init__(agent, rate=self._format.rates[0], connect=connect)
        self._configured = False
        self._yields = True  # the server stops its answer when the caller begins to speak
        self._response = ""  # the id of the latest response
        self._cut = ""  # the id of the response that the caller has interrupted
        self._responding = False
        self._answer_due = False  # a response is due when the running one is done

    @property
    def expected(self) -> str:
        """The messages that the application may send, as the log lists them when it sends another."""
        return "JSON text with the server events of the Realtime API"

    def url(self, configured: str) -> str:
        """Return the URL with the model in its query, unless it names one already."""
        return self.with_query(configured, "model", self.agent.model)

    # To the model

    def opened(self, call: CallInfo, tracks: Sequence[str], now: float, wall: float) -> Sequence[Message]:
        """Wait for ``session.created``."""
        self._configured = self._responding = self._answer_due = False
        self._response = self._cut = ""
        return super().opened(call, tracks, now, wall)

    def append(self, pcm: bytes) -> Message:
        """Return ``input_audio_buffer.append``."""
        encode = self._format.encode
        data = encode(pcm) if encode is not None else pcm
        payload = binascii.b2a_base64(data, newline=False).decode()
        return f'{{"type":"input_audio_buffer.append","audio":"{payload}"}}'

    def user_text(self, text: str) -> Sequence[Message]:
        """Return a message of the user, and request an answer."""
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
        return [typed("conversation.item.create", item=item), *self._respond()]

    def interrupted(self, item: str, played_ms: int, now: float) -> Sequence[Message]:
        """Return ``conversation.item.truncate``: the model discards what the caller did not hear."""
        return (typed("conversation.item.truncate", item_id=item, content_index=0, audio_end_ms=played_ms),)

    def tool_output(self, id: str, name: str, output: str) -> Sequence[Message]:
        """Return the output of a function, and request an answer when every function has returned."""
        item = {"type": "function_call_output", "call_id": id, "output": output}
        answer = () if self.calls else self._respond()
        return [typed("conversation.item.create", item=item), *answer]

    def _session(self) -> Mapping[str, Any]:
        agent = self.agent
        detection: dict[str, Any] = {"type": "server_vad"}
        if not self.two_way:
            detection |= {"create_response": False, "interrupt_response": False}
        transcription = {"model": TRANSCRIBER} | ({"language": agent.language} if agent.language else {})
        format: dict[str, Any] = {"type": self._format.name}
        if self._format.encode is None:
            format["rate"] = self.rate
        listening = {"format": format, "turn_detection": detection, "transcription": transcription}
        speaking = {"format": format} | ({"voice": agent.voice} if agent.voice else {})
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
        return (typed("response.create"),)

    # From the model

    def receive(self, message: Message) -> Sequence[Command]:
        """Decode a server event; ignore those that concern no caller."""
        event = self.parsed(message, _DECODER)
        if event is None:
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
                return (self.call_tool(event.call_id, event.name, event.arguments),)
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
        return (Send(typed("session.update", session=session)),)

    def _begin(self) -> Sequence[Command]:
        """Greet, and let audio flow, after the first ``session.updated``."""
        if self.ready:
            return ()
        commands = list(self.begin())
        if request := self.greeting_request:
            self.greeted = self._responding = True
            commands.insert(0, Send(typed("response.create", response={"instructions": request})))
        return commands

    def _audio(self, event: _Event, message: Message) -> Sequence[Command]:
        if not self.two_way or (event.response_id and event.response_id == self._cut):
            return ()  # late audio of an interrupted response
        data = decoded(event.delta)
        if data is None:
            self.discard(message, f"base64 of {self._format.name} at {self.rate} Hz")
            return ()
        decode = self._format.decode
        return self.play(event.item_id, decode(data) if decode is not None else data)

    def _interrupt(self) -> Sequence[Command]:
        if not (self._yields and self.two_way):
            return ()
        self._cut = self._response
        return self.clear()

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
