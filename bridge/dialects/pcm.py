"""What dialects of bare audio have in common: s16le in binary messages, control in JSON text, one track."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Literal

from bridge.audio import wav
from bridge.audio.clocked_track import ClockedTrack
from bridge.audio.format import FRAME_MS, AudioFormat, Encoding, slin
from bridge.audio.raw import RawAudio
from bridge.dialects.base import CallInfo, Clear, Command, Dialect, Mark, Message, Play, Setting, TrackInfo

_CLEARED: Final = ""  # name of the mark behind a clear


class PcmDialect(Dialect):
    """A stream of one track, whose application sends audio of any size at the same rate.

    Args:
        rate: sampling rate in Hz, both ways.
        connect: the application may send audio.
        parameters: entries of the first message besides those that the dialect sets.
        encoding: of binary messages, both ways.

    Raises:
        ValueError: an option is invalid; the message is for the administrator.
    """

    rates: ClassVar[tuple[int, ...]]
    """Sampling rates that the vendor supports, in Hz."""
    reserved: ClassVar[frozenset[str]]
    """Names that ``parameters`` must not have."""

    default_layout: ClassVar[str] = "caller"
    caller_track: ClassVar[str] = "caller"
    flow_tracks: ClassVar[tuple[str, ...]] = ("caller",)
    flow_keys: ClassVar[frozenset[str]] = frozenset({"parameters"})
    track_set: ClassVar[Literal["open", "fixed", "single"]] = "single"

    def __init__(
        self,
        rate: int,
        *,
        connect: bool = False,
        parameters: Mapping[str, str] | None = None,
        encoding: Encoding = Encoding.SLIN,
    ) -> None:
        if rate not in self.rates:
            raise ValueError(f"rate must be one of {', '.join(map(str, self.rates))}, not {rate!r}")
        for name, value in (parameters or {}).items():
            if name in self.reserved:
                raise ValueError(f"parameters must not contain {name!r}, which the dialect sets")
            if not isinstance(name, str) or not isinstance(value, str):
                raise ValueError(f"parameters must be strings; the value of {name!r} is {value!r}")
        self.rate = rate
        self.message_ms = float(FRAME_MS)
        self.two_way = connect
        self._parameters = dict(parameters or {})
        self._track: ClockedTrack | None = None
        self._format = AudioFormat(encoding, rate)
        self._raw = self._new_raw()
        self._clears = 0  # so far: marks from before the last one were cleared, not played

    @classmethod
    def arguments(cls, options: Mapping[str, Any], setting: Setting) -> Mapping[str, Any]:
        """Return the options, with the direction as a default."""
        return {"connect": setting.two_way, **options}

    @abstractmethod
    def first(self, call: CallInfo) -> Message:
        """Return the first message."""

    @abstractmethod
    def control(self, text: str) -> Sequence[Command] | None:
        """Return the commands in a message of type text; None if it is invalid and not yet discarded."""

    @abstractmethod
    def reached(self, text: str, *, was_cleared: bool) -> Sequence[Message]:
        """Return the report of a mark.

        Args:
            text: of the mark.
            was_cleared: the audio before it was cleared, at least in part.
        """

    def cleared(self) -> Sequence[Message]:
        """Return the answer to a clear."""
        return ()

    def opened(self, call: CallInfo, tracks: Sequence[str], now: float, wall: float) -> Sequence[Message]:
        """Return the first message."""
        self._track = None
        self._raw = self._new_raw()
        return (self.first(call),)

    def track_started(self, track: TrackInfo, now: float) -> Sequence[Message]:
        """Start the track's clock."""
        ended = self.track_stopped(track.name, now)
        self._track = ClockedTrack(slin(self.rate), FRAME_MS, now, tally=self.tally)
        return ended

    def audio(self, track: str, pcm: bytes, now: float) -> Sequence[Message]:
        """Return a message for each 20 ms."""
        return self._track.push(pcm, now) if self._track is not None else ()

    def track_stopped(self, track: str, now: float) -> Sequence[Message]:
        """Return the remaining whole frames; the format has no message for the end of a track."""
        if self._track is None:
            return ()
        frames, _ = self._track.finish(now)
        self._track = None
        return frames

    def closed(self, reason: str, now: float, error: str | None = None) -> Sequence[Message]:
        """Return the remaining whole frames; the end of the WebSocket ends the stream."""
        return self.track_stopped("", now)

    def receive(self, message: Message) -> Sequence[Command]:
        """Decode audio in a binary message, control in text; ignore and count anything else."""
        if not self.two_way:
            self.discard(message)
            return ()
        if isinstance(message, bytes):
            if self._raw.plain and not len(message) & 1 and not wav.is_wav(message):
                return (Play(message, self.rate),) if message else ()
            return [Play(pcm, rate) for pcm, rate in self._raw.receive(message)]
        commands = self.control(message)
        if commands is None:
            self.discard(message)
            return ()
        return commands

    def clear(self) -> Sequence[Command]:
        """Return the commands of a clear; `cleared` follows when it is done."""
        self._raw = self._new_raw()
        self._clears += 1
        return (Clear(), Mark(_CLEARED))

    def _new_raw(self) -> RawAudio:
        return RawAudio(self._format, self.discard)

    def mark(self, text: str) -> Mark:
        """Return a mark; `reached` follows."""
        return Mark(f"{self._clears}:{text}")

    def mark_reached(self, name: str, now: float) -> Sequence[Message]:
        """Return the answer to a clear, or the report of a mark."""
        if name == _CLEARED:
            return self.cleared()
        clears, _, text = name.partition(":")
        return self.reached(text, was_cleared=int(clears) != self._clears)
