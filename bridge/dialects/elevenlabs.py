"""ElevenLabs agents: JSON text with base64 audio, in the formats that the agent was made with.

Source: ``elevenlabs.conversational_ai.conversation`` of the package ``elevenlabs`` 2.78 and its types. Choices where
these are silent: ``docs/decisions/models.md``.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import msgspec

from bridge.audio import g711
from bridge.audio.format import SLIN_RATES
from bridge.audio.resample import Resampler
from bridge.dialects.agent import AgentSettings
from bridge.dialects.base import CallInfo, Command, Message, ReportedError, Send, Stop, Transcript
from bridge.dialects.json_media import decoded
from bridge.dialects.model import ModelDialect, merged, typed

_ULAW: Final = "ulaw_8000"
_PCM: Final = "pcm_"


class ElevenLabs(ModelDialect):
    """One conversation.

    Args:
        agent: how the model is configured; ``parameters`` are merged into ``conversation_initiation_client_data``.
        rate: sampling rate in Hz of the audio from the call; converted if the agent expects another.
        connect: the model may speak; otherwise only the caller's transcript is used.

    Raises:
        ValueError: an option is invalid; the message is for the administrator.
    """

    name: ClassVar[str] = "elevenlabs"
    key_header: ClassVar[str] = "xi-api-key: {key}"

    def __init__(self, agent: AgentSettings | None = None, rate: int = 8000, *, connect: bool = False) -> None:
        if rate not in SLIN_RATES:
            raise ValueError(f"rate must be one of {', '.join(map(str, SLIN_RATES))}, not {rate!r}")
        super().__init__(agent, rate=rate, connect=connect)
        self._input = self._output = ""  # names of the agent's formats
        self._resampler: Resampler | None = None
        self._cut = -1  # audio with numbers up to this was revoked

    @property
    def expected(self) -> str:
        """The messages that the application may send, as the log lists them when it sends another."""
        return "JSON text with the server messages of the agents' WebSocket"

    def url(self, configured: str) -> str:
        """Return the URL with the agent's id in its query, unless it has one already."""
        return self.with_query(configured, "agent_id", self.agent.model)

    # To the model

    def opened(self, call: CallInfo, tracks: Sequence[str], now: float, wall: float) -> Sequence[Message]:
        """Return ``conversation_initiation_client_data``."""
        super().opened(call, tracks, now, wall)
        self._cut = -1
        agent = self.agent
        changed: dict[str, Any] = {}
        if agent.instructions:
            changed["prompt"] = {"prompt": agent.instructions}
        if agent.greeting and self.two_way:
            changed["first_message"] = "" if self.greeted else agent.greeting
        if agent.language:
            changed["language"] = agent.language
        override = ({"agent": changed} if changed else {}) | ({"tts": {"voice_id": agent.voice}} if agent.voice else {})
        data = {"conversation_config_override": override, "dynamic_variables": call.parameters}
        return (typed("conversation_initiation_client_data", **merged(data, agent.parameters)),)

    def append(self, pcm: bytes) -> Message:
        """Return ``user_audio_chunk``."""
        if self._resampler is not None:
            pcm = self._resampler.convert(pcm)
        data = g711.ulaw_encode(pcm) if self._input == _ULAW else pcm
        return f'{{"user_audio_chunk":"{binascii.b2a_base64(data, newline=False).decode()}"}}'

    def user_text(self, text: str) -> Sequence[Message]:
        """Return ``user_message``."""
        return (typed("user_message", text=text),)

    def tool_output(self, id: str, name: str, output: str) -> Sequence[Message]:
        """Return ``client_tool_result``."""
        return (typed("client_tool_result", tool_call_id=id, result=output, is_error=False),)

    # From the model

    def receive(self, message: Message) -> Sequence[Command]:
        """Decode a message; ignore those that concern no caller."""
        received = self.parsed(message, _DECODER)
        if received is None:
            return ()
        match received.type:
            case "audio" if received.audio_event is not None:
                return self._audio(received.audio_event, message)
            case "conversation_initiation_metadata" if received.conversation_initiation_metadata_event is not None:
                return self._begin(received.conversation_initiation_metadata_event)
            case "interruption" if received.interruption_event is not None:
                self.turns += 1
                self._cut = received.interruption_event.event_id
                return self.clear()
            case "ping" if received.ping_event is not None:
                return (Send(typed("pong", event_id=received.ping_event.event_id)),)
            case "client_tool_call" if received.client_tool_call is not None and self.two_way:
                call = received.client_tool_call
                return (self.call_tool(call.tool_call_id, call.tool_name, bytes(call.parameters).decode()),)
        return self._transcript(received)

    def _begin(self, event: _Metadata) -> Sequence[Command]:
        """Begin to send audio in the formats of the agent."""
        for name in (event.user_input_audio_format, event.agent_output_audio_format):
            if name != _ULAW and _rate(name) not in SLIN_RATES:
                reason = f"the agent's audio format {name[:40]!r} is not supported; use ulaw_8000 or pcm_16000"
                return (ReportedError(reason), Stop(reason))
        self._input, self._output = event.user_input_audio_format, event.agent_output_audio_format
        wanted = _rate(self._input)
        self._resampler = Resampler(self.rate, wanted) if wanted != self.rate else None
        self.greeted = True
        return self.begin()

    def _audio(self, event: _Audio, message: Message) -> Sequence[Command]:
        if event.event_id <= self._cut or not (self.two_way and self.ready):
            return ()
        data = decoded(event.audio_base_64)
        if data is None:
            self.discard(message, f"base64 of {self._output}")
            return ()
        pcm = g711.ulaw_decode(data) if self._output == _ULAW else data
        return self.play(str(event.event_id), pcm, _rate(self._output))

    def _transcript(self, received: _Received) -> Sequence[Command]:
        match received.type:
            case "user_transcript" if received.user_transcription_event is not None:
                return (Transcript("caller", received.user_transcription_event.user_transcript),)
            case "agent_response" if received.agent_response_event is not None and self.two_way:
                return (Transcript("agent", received.agent_response_event.agent_response.strip()),)
            case "agent_response_correction" if received.agent_response_correction_event is not None and self.two_way:
                return (Transcript("agent", received.agent_response_correction_event.corrected_agent_response.strip()),)
        return ()


class _Metadata(msgspec.Struct, frozen=True):
    agent_output_audio_format: str = "pcm_16000"
    user_input_audio_format: str = "pcm_16000"


class _Audio(msgspec.Struct, frozen=True):
    audio_base_64: str = ""
    event_id: int = 0


class _Event(msgspec.Struct, frozen=True):
    event_id: int = 0


class _Call(msgspec.Struct, frozen=True):
    tool_call_id: str
    tool_name: str
    parameters: msgspec.Raw = msgspec.Raw(b"{}")


class _Heard(msgspec.Struct, frozen=True):
    user_transcript: str = ""


class _Response(msgspec.Struct, frozen=True):
    agent_response: str = ""


class _Correction(msgspec.Struct, frozen=True):
    corrected_agent_response: str = ""


class _Received(msgspec.Struct, frozen=True):
    """A message from the model; unknown fields are ignored."""

    type: str
    conversation_initiation_metadata_event: _Metadata | None = None
    audio_event: _Audio | None = None
    interruption_event: _Event | None = None
    ping_event: _Event | None = None
    client_tool_call: _Call | None = None
    user_transcription_event: _Heard | None = None
    agent_response_event: _Response | None = None
    agent_response_correction_event: _Correction | None = None


_DECODER = msgspec.json.Decoder(_Received, strict=False)  # the SDK converts numbers of events


def _rate(name: str) -> int:
    """Return the sampling rate in the name of a format, in Hz; 0: there is none."""
    digits = name.removeprefix(_PCM) if name != _ULAW else "8000"
    return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < 6 else 0
