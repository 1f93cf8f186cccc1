"""The running tracks of one stream."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from uuid import UUID

from msgspec.structs import replace

from bridge.audio.format import AudioFormat, slin
from bridge.audio.playout import Playout
from bridge.dialects.base import Dialect, TrackInfo
from bridge.logs import Fields
from bridge.media.counters import Counters
from bridge.media.leg import MediaLeg, ignore
from bridge.media.pump import Pump
from bridge.streams.track import SUCCEED_S, Recovery, RunningTrack
from bridge.streams.wanted_tracks import WantedTrack
from bridge.taps.taps import Taps

log = logging.getLogger(__name__)

MAX_PARTIES = 50
MAX_EARLY_DIGITS = 32
"""Limit of DTMF digits kept for each track while the application cannot receive them."""


class Tracks:
    """Starts and stops tracks, and lets the dialect announce them.

    Args:
        pump: carries the audio.
        dialect: the wire format.
        taps: opens and closes media legs.
        counters: the process's counters.
        label: returns the stream's fields in log lines.
        new_playout: creates the queue of one leg.
        recovery: decides about reopening legs.
        connected: returns whether there is a WebSocket.
        on_change: called when a track has stopped or its audio flows.
        on_failed: called while an exception of a track is handled: an internal error.
    """

    def __init__(
        self,
        pump: Pump,
        dialect: Dialect,
        taps: Taps,
        counters: Counters,
        *,
        label: Callable[[], Fields],
        new_playout: Callable[[AudioFormat], Playout],
        recovery: Recovery,
        connected: Callable[[], bool],
        on_change: Callable[[], object],
        on_failed: Callable[[], object],
    ) -> None:
        self.parties: dict[str, None] = {}
        """Ids of channels whose audio was carried so far, the first `MAX_PARTIES` of them."""
        self._pump = pump
        self._dialect = dialect
        self._taps = taps
        self._counters = counters
        self._label = label
        self._new_playout = new_playout
        self._recovery = recovery
        self._connected = connected
        self._on_change = on_change
        self._on_failed = on_failed
        self._tracks: dict[str, RunningTrack] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tracks)

    def __iter__(self) -> Iterator[WantedTrack]:
        """Iterate over the tracks, including those that only send."""
        return (track.wanted for track in self._tracks.values())

    @property
    def received(self) -> list[TrackInfo]:
        """The tracks that the application receives."""
        return [track.info for track in self if track.captures]

    @property
    def channels(self) -> list[str]:
        """The channel of each track."""
        return [track.info.channel_id for track in self]

    @property
    def first_channel(self) -> str:
        """The channel of the first track, to which DTMF digits are sent; empty in a conference."""
        return next(iter(self.channels), "")

    @property
    def live(self) -> bool:
        """The audio of each track flows."""
        return all(track.live for track in self._tracks.values())

    def set(self, wanted: Iterable[WantedTrack]) -> None:
        """Start and stop tracks until exactly these run."""
        by_name = {track.info.name: track for track in wanted}
        before = {name: running.wanted.info.channel_id for name, running in self._tracks.items()}
        waiting: list[Playout] = []
        # If the set of sending tracks changes, the first one plays the queued audio: all that only send start again.
        regrouped = _speakers(self) != _speakers(by_name.values())
        for name, running in tuple(self._tracks.items()):
            now_wanted = by_name.get(name)
            again = regrouped and running.wanted.plays and not running.wanted.captures
            if now_wanted is None or again or not running.wanted.may_become(now_wanted):
                self._stop(name)
                if running.wanted.plays:
                    waiting.append(running.leg.playout)
                    running.leg.playout = self._new_playout(running.leg.fmt)
        for name, track in by_name.items():
            existing = self._tracks.get(name)
            if existing is None:
                other_party = before.get(name, track.info.channel_id) != track.info.channel_id
                leg = self._new_leg(waiting.pop(0) if track.plays and waiting else None)
                self._start(track, leg, SUCCEED_S if other_party else 0)
                continue
            if existing.announced and existing.wanted.info != track.info:
                self._pump.track_changed(track.info)
            existing.change(track)

    def displace(self) -> None:
        """Close all legs until `set` is called: queued audio would be played to nobody."""
        for track in self._tracks.values():
            track.change(replace(track.wanted, tap_point=None))

    def adopt(self, info: TrackInfo, uuid: UUID) -> MediaLeg:
        """Return the leg of a connection that Asterisk opens by itself, for both directions."""
        leg = self._new_leg()
        leg.uuid = uuid
        # Without ARI only the connection reports DTMF digits; with ARI, each would be reported twice.
        track = self._start(WantedTrack(info, None, plays=self._dialect.two_way), leg)
        leg.on_dtmf = lambda digit: self._report_digit(track, digit)
        track.go_live()
        return leg

    def _new_leg(self, playout: Playout | None = None) -> MediaLeg:
        fmt = slin(self._dialect.rate)
        return MediaLeg(fmt, playout or self._new_playout(fmt), self._counters)

    def announce(self) -> None:
        """Send the dialect's messages for the start of all tracks on a new connection."""
        for track in self._tracks.values():
            track.announced = track.live and track.wanted.captures
            if track.announced:
                self._announce(track)

    def key_pressed(self, channel_id: str, digit: str) -> None:
        """Report a DTMF digit of a party on its track, or keep it until the track is announced."""
        for track in self._tracks.values():
            if track.wanted.info.channel_id == channel_id and track.wanted.captures:
                self._report_digit(track, digit)
                return

    def _report_digit(self, track: RunningTrack, digit: str) -> None:
        if track.announced and (self._connected() or self._dialect.replays):
            self._pump.key_pressed(track.wanted.info.name, digit)
        elif not self._pump.silent and len(track.early_digits) < MAX_EARLY_DIGITS:
            track.early_digits += digit

    def _announce(self, track: RunningTrack) -> None:
        self._pump.track_started(track.wanted.info)
        digits, track.early_digits = track.early_digits, ""
        for digit in digits:
            self._pump.key_pressed(track.wanted.info.name, digit)

    def stop(self) -> None:
        """Stop all tracks, after the dialect's last message. `closed` follows."""
        for name in tuple(self._tracks):
            self._stop(name, announce=False)

    async def closed(self) -> None:
        """Wait until all stopped tracks are closed."""
        if self._closing:
            await asyncio.wait(set(self._closing))

    def release(self) -> None:
        """Drop the callbacks, which refer back to the owner, at its end."""
        self._label, self._connected, self._recovery = Fields, bool, Recovery()
        self._on_change = self._on_failed = ignore

    def _start(self, wanted: WantedTrack, leg: MediaLeg, wait_s: float = 0) -> RunningTrack:
        name = wanted.info.name
        track = self._tracks[name] = RunningTrack(
            wanted,
            leg,
            self._label().and_also(track=name),
            pump=self._pump,
            taps=self._taps,
            counters=self._counters,
            recovery=self._recovery,
            on_live=self._went_live,
            on_failed=self._on_failed,
            wait_s=wait_s,
        )
        return track

    def _went_live(self, track: RunningTrack) -> None:
        info = track.wanted.info
        if info.channel_id and len(self.parties) < MAX_PARTIES:
            self.parties[info.channel_id] = None
        track.announced = track.wanted.captures and (self._dialect.replays or self._connected())
        if track.announced:
            self._announce(track)
        self._on_change()

    def _stop(self, name: str, *, announce: bool = True) -> None:
        track = self._tracks.pop(name)
        if track.announced and announce:
            self._pump.track_stopped(name)
        if track.early_digits:
            log.info(
                "track ended with unsent DTMF digits, no connection %s count=%d", track.label, len(track.early_digits)
            )
        track.silence()
        self._on_change()
        task = asyncio.create_task(track.close(), name=f"{self._label()} closes {name}")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _speakers(tracks: Iterable[WantedTrack]) -> list[str]:
    return [track.info.name for track in tracks if track.plays]
