"""Vonage Voice API WebSockets: bare s16le in binary messages, control in JSON text, one track, one way or two ways.

Source: developer.vonage.com, "WebSockets in the Vonage Voice API" (2026), and pipecat 1.14's serializer. Choices where
these are silent: ``docs/decisions/vonage.md``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Literal

import msgspec

from bridge.audio import wav
from bridge.audio.format import FRAME_MS, slin
from bridge.audio.raw import RawAudio
from bridge.audio.steady import SteadyTrack
from bridge.dialects.base import CallInfo, Clear, Command, Dialect, Mark, Message, Play, Setting, TrackInfo

RATES: Final = (8000, 16000, 24000)
"""Sampling rates that the vendor supports, in Hz."""
DTMF_MS: Final = 100
"""Duration of every DTMF digit, in milliseconds: Asterisk reports digits only."""
MAX_PAYLOAD: Final = 1024
"""Longest payload of ``notify``, in characters of JSON: it is kept until everything before it has been played."""

_RESERVED: Final = frozenset({"event", "content-type"})
_CLEARED: Final = ""
"""Name of the mark behind a clear; those of ``notify`` are JSON, so never empty."""


class Vonage(Dialect):
    """One WebSocket of a call.

    Args:
        rate: sampling rate in Hz, both ways: 8000, 16000 or 24000.
        connect: the application may send audio.
        parameters: entries of the first message besides the numbers and the id of the call (the vendor's ``headers``).

    Raises:
        ValueError: an option is invalid; the message is for the administrator.
    """

    name: ClassVar[str] = "vonage"
    default_layout: ClassVar[str] = "caller"
    caller_track: ClassVar[str] = "caller"
    flow_tracks: ClassVar[tuple[str, ...]] = ("caller",)
    flow_keys: ClassVar[frozenset[str]] = frozenset({"parameters"})
    track_set: ClassVar[Literal["open", "fixed", "single"]] = "single"

    def __init__(
        self, rate: int = 16000, *, connect: bool = False, parameters: Mapping[str, str] | None = None
    ) -> None:
        if rate not in RATES:
            raise ValueError(f"rate must be one of {', '.join(map(str, RATES))}, not {rate!r}")
        for name, value in (parameters or {}).items():
            if name in _RESERVED:
                raise ValueError(f"parameters must not contain {name!r}, which the dialect sets")
            if not isinstance(name, str) or not isinstance(value, str):
                raise ValueError(f"parameters must be strings; the value of {name!r} is {value!r}")
        self.rate = rate
        self.message_ms = float(FRAME_MS)
        self.two_way = connect
        self._parameters = dict(parameters or {})
        self._track: SteadyTrack | None = None
        self._raw = RawAudio(slin(rate), self.discard)
        self._clears = 0  # clears whose mark has not been reached: marks until then were cleared, not played

    @classmethod
    def arguments(cls, options: Mapping[str, Any], setting: Setting) -> Mapping[str, Any]:
        """Return the options, with the direction as a default."""
        return {"connect": setting.two_way, **options}

    @property
    def expected(self) -> str:
        """Messages that the application may send, described for its author."""
        if not self.two_way:
            return super().expected
        return (
            f"binary messages with s16le at {self.rate} Hz, or text: "
            '{"action": "clear"}, {"action": "notify", "payload": {...}}'
        )

    def opened(self, call: CallInfo, tracks: Sequence[str], now: float, wall: float) -> Sequence[Message]:
        """Return ``websocket:connected`` with the format of the audio and the parameters."""
        self._track = None
        self._raw = RawAudio(slin(self.rate), self.discard)
        self._clears = 0
        first = {"event": "websocket:connected", "content-type": f"audio/l16;rate={self.rate}"}
        return (_text(first | call.parameters | self._parameters),)

    def track_started(self, track: TrackInfo, now: float) -> Sequence[Message]:
        """Start the track's clock."""
        ended = self.track_stopped(track.name, now)
        self._track = SteadyTrack(slin(self.rate), FRAME_MS, now, tally=self.tally)
        return ended

    def audio(self, track: str, pcm: bytes, now: float) -> Sequence[Message]:
        """Return a message for each 20 ms."""
        return self._track.push(pcm, now) if self._track is not None else ()

    def dtmf(self, track: str, digit: str, now: float) -> Sequence[Message]:
        """Report a DTMF digit."""
        return (_text({"event": "websocket:dtmf", "digit": digit, "duration": DTMF_MS}),)

    def track_stopped(self, track: str, now: float) -> Sequence[Message]:
        """Return the remaining whole frames; the format has no message for the end of a track."""
        if self._track is None:
            return ()
        frames, _ = self._track.finish(now)
        self._track = None
        return frames

    def mark_reached(self, name: str, now: float) -> Sequence[Message]:
        """Return ``websocket:cleared`` or the payload of a ``notify`` whose audio was played."""
        if name == _CLEARED:
            self._clears -= 1
            return (_CLEARED_EVENT,)
        return () if self._clears else (f'{{"event":"websocket:notify","payload":{name}}}',)

    def closed(self, reason: str, now: float, error: str | None = None) -> Sequence[Message]:
        """Return the remaining whole frames; the end of the WebSocket ends the stream."""
        return self.track_stopped("", now)

    def receive(self, message: Message) -> Sequence[Command]:
        """Decode audio in a binary message, ``clear`` and ``notify`` in text; ignore and count anything else."""
        if not self.two_way:
            self.discard(message)
            return ()
        if isinstance(message, bytes):
            if self._raw.plain and not len(message) & 1 and not wav.is_wav(message):
                return (Play(message, self.rate),) if message else ()
            return [Play(pcm, rate) for pcm, rate in self._raw.receive(message)]
        commands = self._control(message)
        if not commands:
            self.discard(message)
        return commands

    def _control(self, text: str) -> Sequence[Command]:
        """Return the commands in text; none if it has no known action."""
        try:
            control = _DECODER.decode(text)
        except (msgspec.DecodeError, RecursionError):
            return ()
        if control.action == "clear":
            self._raw = RawAudio(slin(self.rate), self.discard)
            self._clears += 1
            return (Clear(), Mark(_CLEARED))
        payload = bytes(control.payload).decode()
        if control.action == "notify" and len(payload) <= MAX_PAYLOAD:
            return (Mark(payload),)
        return ()


def _text(message: Mapping[str, Any]) -> str:
    return msgspec.json.encode(message).decode()


class _Control(msgspec.Struct, frozen=True):
    """Control in a message of type text; unknown fields are ignored."""

    action: str
    payload: msgspec.Raw = msgspec.Raw(b"{}")


_DECODER = msgspec.json.Decoder(_Control)
_CLEARED_EVENT: Final = '{"event":"websocket:cleared"}'
