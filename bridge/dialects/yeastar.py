"""Yeastar P-Series "WebSocket Audio Streaming": JSON text, one way, with ``channelid`` for each party.

Source: help.yeastar.com, "WebSocket Audio Streaming Overview" and "Audio Stream Fields" (2026). Choices where the
source is silent: ``docs/decisions/yeastar.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

import msgspec

from bridge.audio.clocked_track import ClockedTrack
from bridge.audio.format import slin
from bridge.dialects.base import CallInfo, Dialect, Message, TrackInfo

FRAGMENT_BYTES: Final = 1280
"""Size of the audio in every message, in bytes: 80 ms at 8000 Hz, 40 ms at 16000 Hz."""
RATES: Final = (8000, 16000)
"""Sampling rates that the vendor supports, in Hz."""


class Yeastar(Dialect):
    """One socket of Yeastar's audio streaming.

    Args:
        rate: sampling rate in Hz, 8000 or 16000.

    Raises:
        ValueError: another rate; the message is for the administrator.
    """

    name: ClassVar[str] = "yeastar"
    default_layout: ClassVar[str] = "parties"
    flow_tracks: ClassVar[tuple[str, ...]] = ("caller", "transfer")

    def __init__(self, rate: int = 8000) -> None:
        if rate not in RATES:
            raise ValueError(f"rate must be one of {', '.join(map(str, RATES))}, not {rate!r}")
        self.rate = rate
        self.message_ms = slin(rate).duration_ms(FRAGMENT_BYTES)
        self.replays = True
        self._call_id = ""
        self._tracks: dict[str, _Track] = {}

    def opened(self, call: CallInfo, tracks: Sequence[str], now: float, wall: float) -> Sequence[Message]:
        """Store the call's id; the first message is audio."""
        self._call_id = call.call_id
        self._tracks = {}
        return ()

    def track_started(self, track: TrackInfo, now: float) -> Sequence[Message]:
        """Start the track's clock."""
        ended = self.track_stopped(track.name, now)
        self._tracks[track.name] = _Track(
            track, ClockedTrack(slin(self.rate), round(self.message_ms), now, tally=self.tally)
        )
        return ended

    def track_changed(self, track: TrackInfo, now: float) -> Sequence[Message]:
        """Use the new number and callflow from the next message on."""
        if track.name in self._tracks:
            self._tracks[track.name].info = track
        return ()

    def audio(self, track: str, pcm: bytes, now: float) -> Sequence[Message]:
        """Return a message for each full fragment of this track, and of others where silence replaces missing audio."""
        messages: list[Message] = []
        for name, each in self._tracks.items():
            for fragment in each.steady.push(pcm, now) if name == track else each.steady.wait(now):
                messages.append(self._message(each.info, fragment))
        return messages

    def track_stopped(self, track: str, now: float) -> Sequence[Message]:
        """Return the last fragment, padded with silence, and the end of this channel."""
        stopped = self._tracks.pop(track, None)
        if stopped is None:
            return ()
        fragments, rest = stopped.steady.finish(now)
        if rest:
            fragments.append(rest.ljust(FRAGMENT_BYTES, b"\0"))
        messages = [self._message(stopped.info, fragment) for fragment in fragments]
        messages.append(self._message(stopped.info, b"", "end"))
        return messages

    def closed(self, reason: str, now: float, error: str | None = None) -> Sequence[Message]:
        """Return the end of every remaining channel."""
        return [message for name in list(self._tracks) for message in self.track_stopped(name, now)]

    def _message(self, info: TrackInfo, audio: bytes, status: str = "process") -> str:
        fragment = _Fragment(self._call_id, info.callflow, audio, info.number, status, info.channel)
        return _ENCODER.encode(fragment).decode()


class _Track(msgspec.Struct):
    info: TrackInfo
    steady: ClockedTrack


class _Fragment(msgspec.Struct, frozen=True):
    """The only message type, its fields in the vendor's order."""

    callid: str
    callflow: str
    audio: bytes  # base64 on the wire
    number: str
    status: str
    channelid: str


_ENCODER = msgspec.json.Encoder()
