"""Asterisk's ``chan_websocket``, as applications see it: bare audio in binary messages, control in text, one track.

Source: ``channels/chan_websocket.c`` (Asterisk 22, August 2026), and messages of a real one (``tests/wire``). Choices:
``docs/decisions/chan-websocket.md``.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec

from bridge.audio import g711
from bridge.audio.format import FRAME_MS, SLIN_RATES, Encoding
from bridge.dialects.base import CallInfo, Command, Message, Pause, Play, Send, Stop
from bridge.dialects.pcm import PcmDialect

MAX_COMMAND_BYTES: Final = 128
"""Longest message of type text from an application; Asterisk ignores longer ones."""
MAX_FRAMES: Final = 1000
"""Frames in the queue from which a message with audio is discarded."""
XOFF_FRAMES: Final = 900
"""Frames in the queue from which the application should pause."""
XON_FRAMES: Final = 800
"""Frames in the queue below which it may continue."""

_FORMATS: Final = ("json", "plain-text")
_ENCODERS: Final = {"slin": None, "ulaw": g711.ulaw_encode, "alaw": g711.alaw_encode}
_LEVEL, _DRAINED, _MARK, _BUFFERED = "level", "drained:", "mark:", "buffered:"
_LEVEL_MS: Final = 1000  # audio between two looks at the level of the queue


class ChanWebsocket(PcmDialect):
    """One WebSocket of Asterisk's channel driver.

    Args:
        rate: sampling rate in Hz, both ways.
        connect: the application may send audio.
        parameters: entries of ``channel_variables`` besides the facts about the call.
        encoding: ``slin``, ``ulaw`` or ``alaw``; ``rate`` is part of the format's name (``slin16``).
        control_message_format: ``json`` or ``plain-text``, as in chan_websocket.conf.
        rng: source of ``connection_id``, for tests.

    Raises:
        ValueError: an option is invalid; the message is for the administrator.
    """

    name: ClassVar[str] = "chan_websocket"
    subprotocol: ClassVar[str] = "media"
    rates: ClassVar[tuple[int, ...]] = SLIN_RATES
    reserved: ClassVar[frozenset[str]] = frozenset()
    shown_options: ClassVar[frozenset[str]] = frozenset({"encoding", "control_message_format"})

    def __init__(
        self,
        rate: int | None = None,
        *,
        connect: bool = False,
        parameters: Mapping[str, str] | None = None,
        encoding: str = "slin",
        control_message_format: str = "json",
        rng: random.Random | None = None,
    ) -> None:
        if encoding not in _ENCODERS:
            raise ValueError(f"encoding must be one of {', '.join(_ENCODERS)}, not {encoding!r}")
        if control_message_format not in _FORMATS:
            raise ValueError(f"control_message_format must be json or plain-text, not {control_message_format!r}")
        is_slin = encoding == "slin"
        super().__init__(
            rate if rate is not None else 16000 if is_slin else 8000,
            connect=connect,
            parameters=parameters,
            encoding=Encoding(encoding),
        )
        if not is_slin and self.rate != 8000:
            raise ValueError(f"encoding={encoding} is 8000 Hz only, not {rate!r}; use encoding=slin for wider audio")
        self._encode = _ENCODERS[encoding]
        self._json = control_message_format == "json"
        self._rng = rng or random.SystemRandom()
        self._begin("")

    def _begin(self, call_id: str) -> None:
        self._channel_id = call_id
        self._direction = "both"
        self._buffering = False
        self._paused = False
        self._full = False  # XOFF was sent
        self._xon_frames = XON_FRAMES  # the level at which XON is due
        self._refusing = False  # a message was discarded since XOFF
        self._unseen_ms = 0.0  # audio since the last look at the level
        self._drains: int | None = None  # number of marks that wait for the queue to run dry; None: not requested

    @property
    def expected(self) -> str:
        """The messages that the application may send, as the log lists them when it sends another."""
        if not self.two_way:
            return super().expected
        what = '{"command": "..."}' if self._json else "commands in plain text"
        name = self._format.asterisk_name
        return f"binary messages with {name}, or text of at most {MAX_COMMAND_BYTES} bytes: {what} of chan_websocket"

    # To the application

    def first(self, call: CallInfo) -> Message:
        """Return ``MEDIA_START``."""
        self._begin(call.call_id)
        connection_id = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        facts: dict[str, Any] = {
            "connection_id": connection_id,
            "channel": f"WebSocket/{call.call_id}/0x{self._rng.getrandbits(47):012x}",
            "channel_id": call.call_id,
            "format": self._format.asterisk_name,
            "optimal_frame_size": self._format.frame_bytes,
            "ptime": FRAME_MS,
        }
        if self._json:
            variables = call.parameters | call.filled(self._parameters)
            return _json({"event": "MEDIA_START", **facts, "channel_variables": variables})
        return _plain("MEDIA_START", facts)

    def audio(self, track: str, pcm: bytes, now: float) -> Sequence[Message]:
        """Return a message for each 20 ms, unless the application wants none."""
        frames: Sequence[Message] = super().audio(track, pcm, now)
        if self._direction == "out":
            frames = ()
        elif self._encode is not None:
            frames = [self._encode(frame) for frame in frames if isinstance(frame, bytes)]
        return [*frames, *self._level()] if self._full else frames

    def track_stopped(self, track: str, now: float) -> Sequence[Message]:
        """Return the remaining whole frames."""
        frames = super().track_stopped(track, now)
        return [self._encode(frame) for frame in frames if isinstance(frame, bytes)] if self._encode else frames

    def dtmf(self, track: str, digit: str, now: float) -> Sequence[Message]:
        """Report a DTMF digit."""
        if self._json:
            return (self._event("DTMF_END", digit=digit),)
        return (_plain("DTMF_END", {"digit": digit, "channel_id": self._channel_id}),)

    def reached(self, text: str, *, was_cleared: bool) -> Sequence[Message]:
        """Report a mark that was played, or a queue that has run dry or below its limit."""
        if text == _LEVEL:
            return self._level()
        if text.startswith(_DRAINED):
            if text != f"{_DRAINED}{self._drains}":
                return ()  # more audio was queued since
            self._drains = None
            return (self._event("QUEUE_DRAINED"),)
        if was_cleared:  # Asterisk drops them silently
            return ()
        event = "MEDIA_MARK_PROCESSED" if text.startswith(_MARK) else "MEDIA_BUFFERING_COMPLETED"
        return (self._correlated(event, text.partition(":")[2]),)

    def audio_refused(self, duration_ms: float, now: float) -> Sequence[Message]:
        """Return ``MEDIA_XOFF``; ``MEDIA_XON`` is due when half of the queue was played."""
        self._xon_frames = min(XON_FRAMES, max(self._frames(self.queued_ms()) // 2, 1))
        return self._xoff()

    def _xoff(self) -> Sequence[Message]:
        if self._full:
            return ()
        self._full = True
        return (self._event("MEDIA_XOFF"),)

    def _level(self) -> Sequence[Message]:
        if self._full and self._frames(self.queued_ms()) < self._xon_frames:
            self._full = self._refusing = False
            self._xon_frames = XON_FRAMES
            return (self._event("MEDIA_XON"),)
        return ()

    def _event(self, event: str, **values: str) -> str:
        if not self._json:
            return event
        return _json({"event": event, "channel_id": self._channel_id, **values})

    def _correlated(self, event: str, correlation_id: str) -> str:
        if self._json:
            return self._event(event, correlation_id=correlation_id)
        return f"{event} {correlation_id}".rstrip()

    def _error(self, error: str) -> Sequence[Command]:
        if self._json:
            return (Send(self._event("ERROR", error_text=error)),)
        return (Send(_plain("ERROR", {"channel_id": self._channel_id, "error_text": error})),)

    # From the application

    def receive(self, message: Message) -> Sequence[Command]:
        """Decode audio in a binary message, a command in text; ignore and count anything else."""
        if self.two_way and isinstance(message, bytes):
            return self._queue(message)
        return super().receive(message)

    def _queue(self, message: bytes) -> Sequence[Command]:
        if self._direction == "in":
            return ()
        queued_ms = self.queued_ms()
        if self._refusing or self._frames(queued_ms) >= MAX_FRAMES:
            self._refusing = True  # until XON: otherwise short messages become fragments
            self.discard(
                message, f"no audio while {MAX_FRAMES} frames of 20 ms wait: pause from MEDIA_XOFF to MEDIA_XON"
            )
            return [Send(event) for event in self._xoff()]
        commands: list[Command] = []
        if not self._buffering and len(message) % self._format.sample_bytes:
            self.discard(message[-1:], "whole samples in each message, except between START_ and STOP_MEDIA_BUFFERING")
            message = message[:-1]
        for pcm, rate in self._raw.receive(message):
            step = rate * 2 * _LEVEL_MS // 1000
            for at in range(0, len(pcm), step):
                piece = pcm[at : at + step]
                commands.append(Play(piece, rate))
                self._unseen_ms += len(piece) * 500 / rate
                queued_ms += len(piece) * 500 / rate
                if self._unseen_ms >= _LEVEL_MS:
                    self._unseen_ms = 0.0
                    commands.append(self.mark(_LEVEL))
        if commands and self._drains is not None:
            commands.append(self._drain(self._drains + 1))
        if self._frames(queued_ms) >= XOFF_FRAMES:
            commands += [Send(event) for event in self._xoff()]
        return commands

    def _drain(self, number: int) -> Command:
        self._drains = number
        return self.mark(f"{_DRAINED}{number}")

    def _frames(self, queued_ms: float) -> int:
        return -int(-queued_ms // FRAME_MS)

    def control(self, text: str) -> Sequence[Command] | None:
        """Decode a command."""
        if len(text.encode()) > MAX_COMMAND_BYTES:
            return None
        if self._json:
            try:
                control = _DECODER.decode(text)
            except (msgspec.DecodeError, RecursionError):
                self.discard(text)
                return self._error("Unable to parse JSON command")
            return self._command(control.command, control.correlation_id or "", control.direction)
        command, _, correlation_id = text.strip().partition(" ")
        return self._command(command, correlation_id, None)

    def _command(self, command: str, correlation_id: str, direction: str | None) -> Sequence[Command] | None:
        if command in _OF_AUDIO:
            if self._direction == "in":
                return self._error(f"{command} not supported while media direction is 'in'")
            return self._audio_command(command, correlation_id)
        match command:
            case "ANSWER":  # the call is answered
                return ()
            case "HANGUP":
                return (Stop("HANGUP"),)
            case "FLUSH_MEDIA":
                self._buffering = False
                self._unseen_ms = 0.0
                return self.clear()
            case "REPORT_QUEUE_DRAINED":
                return (self._drain((self._drains or 0) + 1),)
            case "GET_STATUS":
                return (Send(self._status()),)
            case "SET_MEDIA_DIRECTION":
                return self._set_direction(direction)
        return None

    def _audio_command(self, command: str, correlation_id: str) -> Sequence[Command]:
        match command:
            case "START_MEDIA_BUFFERING":
                self._buffering = True
                return ()
            case "STOP_MEDIA_BUFFERING":
                self._buffering = False
                self._raw = self._new_raw()
                return (self.mark(_BUFFERED + correlation_id),)
            case "MARK_MEDIA":
                return (self.mark(_MARK + correlation_id),)
        self._paused = command == "PAUSE_MEDIA"
        return (Pause(self._paused),)

    def _set_direction(self, direction: str | None) -> Sequence[Command]:
        if not self._json:
            return self._error("SET_MEDIA_DIRECTION only supports JSON format.\n")
        if direction is None:
            return self._error("SET_MEDIA_DIRECTION requires a 'direction' parameter.\n")
        if direction not in ("both", "in", "out"):
            return self._error(f"'{direction}' is not a valid direction for SET_MEDIA_DIRECTION.\n")
        self._direction = direction
        return ()

    def _status(self) -> Message:
        values = {
            "channel_id": self._channel_id,
            "queue_length": self._frames(self.queued_ms()),
            "xon_level": XON_FRAMES,
            "xoff_level": XOFF_FRAMES,
            "queue_full": self._full,
            "bulk_media": self._buffering,
            "media_paused": self._paused,
        }
        return _json({"event": "STATUS", **values}) if self._json else _plain("STATUS", values)


_OF_AUDIO: Final = frozenset(
    {"START_MEDIA_BUFFERING", "STOP_MEDIA_BUFFERING", "MARK_MEDIA", "PAUSE_MEDIA", "CONTINUE_MEDIA"}
)
"""Commands about audio that the application sends."""


class _Control(msgspec.Struct, frozen=True):
    """A command in JSON; unknown fields are ignored."""

    command: str
    correlation_id: str | None = None
    direction: str | None = None


_DECODER = msgspec.json.Decoder(_Control)


def _json(message: Mapping[str, Any]) -> str:
    return msgspec.json.encode(message).decode()


def _plain(event: str, values: Mapping[str, object]) -> str:
    """Return an event in plain text: ``EVENT key:value ...``."""
    shown = (f"{key}:{str(value).lower() if isinstance(value, bool) else value}" for key, value in values.items())
    return " ".join((event, *shown))
