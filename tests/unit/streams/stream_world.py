"""One stream, accepted or dialed, and what is around it."""

from __future__ import annotations

import asyncio
from typing import cast

from bridge.access import CONFIGURATION
from bridge.audio.playout import Playout
from bridge.dialects.base import CallInfo, Dialect, TrackInfo
from bridge.media.counters import Counters
from bridge.media.dial import Backoff, LinkFailed
from bridge.media.websocket import Link
from bridge.streams.connection import Accepted, Dialed
from bridge.streams.origin import Origin
from bridge.streams.stream import Stream
from bridge.streams.wanted_tracks import WantedTrack
from bridge.taps.taps import TapPoint, Taps
from tests.fakes.taps import FakeTaps
from tests.fakes.wire import Wire


class World:
    """One stream and what is around it.

    Args:
        kind: ``accepted`` or ``dialed``.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.taps = FakeTaps()
        self.wire = Wire()
        self.reachable = True
        self.backoff = Backoff(5, 5)
        self.asked_s = 0.0
        self.dialed: list[float] = []
        self.streams: list[Stream] = []
        self.ended: list[str] = []
        self.connected = 0
        self.sensitive: set[str] = set()
        self.counters = Counters()

    def stream(self, dialect: Dialect, *tracks: str) -> Stream:
        stream = Stream(
            "1",
            Origin("test", CONFIGURATION, plays=True),
            CallInfo("call"),
            tracks,
            dialect=dialect,
            connection=Accepted(self.wire) if self.kind == "accepted" else Dialed(self._dial, self.backoff),
            taps=cast(Taps, self.taps),
            counters=self.counters,
            new_playout=lambda fmt: Playout(fmt, 10_000, 0),
            window_ms=5000,
            on_end=lambda _, reason: self.ended.append(reason),
            on_dtmf=lambda _: None,
            on_connected=self._count,
            is_sensitive=lambda channels: not self.sensitive.isdisjoint(channels),
        )
        stream.start()
        self.streams.append(stream)
        return stream

    def _count(self, _: Stream) -> None:
        self.connected += 1

    async def _dial(self) -> Link:
        self.dialed.append(asyncio.get_running_loop().time())
        if not self.reachable:
            raise LinkFailed("not there", self.asked_s)
        return self.wire

    @property
    def texts(self) -> list[str]:
        return [message for message in self.wire.sent if isinstance(message, str)]


def track(name: str, place: TapPoint, *, plays: bool = False, captures: bool = True) -> WantedTrack:
    return WantedTrack(TrackInfo(name, "party"), place, plays=plays, captures=captures)
