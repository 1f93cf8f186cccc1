"""One track of a stream that we dial: its leg is opened, opened again when it breaks, and moved with its party."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass

from bridge.dialects.base import TrackInfo
from bridge.errors import AriError
from bridge.media.counters import Counters
from bridge.media.leg import MediaLeg
from bridge.media.pump import Pump
from bridge.taps.taps import Tap, TapPoint, Taps

log = logging.getLogger(__name__)

SUCCEED_S = 0.15
"""How long a track waits that takes the place of another party's under the same name. When a call ends its parties
leave one after the other, and who is still there for some milliseconds is not to be heard under the name of who went
first."""
REOPEN_S = (0.5, 1.0, 2.0, 5.0)
"""Waits before a track's leg is opened again; the last one for all further tries."""


@dataclass(frozen=True, slots=True)
class TrackPlace:
    """One track and where it is heard.

    Args:
        info: what the dialect may say about it.
        place: where its leg goes; None for a leg that is open already (`PushedStream.adopt`).
        speaks: the application's audio is played there.
        hears: what is heard there goes to the application. If not, the dialect does not know of the track.
    """

    info: TrackInfo
    place: TapPoint | None
    speaks: bool = False
    hears: bool = True

    def may_become(self, other: TrackPlace) -> bool:
        """Whether this track may go on as the other: it is the same party's, and used for the same."""
        same_party = self.place == other.place or self.info.channel_id == other.info.channel_id != ""
        return same_party and (self.speaks, self.hears) == (other.speaks, other.hears)


class Track:
    """A running track.

    Args:
        wanted: what it is, and where it ought to be.
        leg: its leg, open already if there is no place.
        label: how the log calls it.
        on_live: told once, when its audio flows for the first time.
        wait_s: open the leg not before so many seconds.
    """

    def __init__(
        self,
        wanted: TrackPlace,
        leg: MediaLeg,
        label: str,
        *,
        pump: Pump,
        taps: Taps,
        counters: Counters,
        on_live: Callable[[Track], object],
        wait_s: float = 0,
    ) -> None:
        self.wanted = wanted
        self.leg = leg
        self.live = False
        """Its audio flows, or has flowed."""
        self.told = False
        """The dialect has been told that it started."""
        self._label = label
        self._pump = pump
        self._taps = taps
        self._counters = counters
        self._on_live = on_live
        self._tap: Tap | None = None
        self._stir = asyncio.Event()
        name = wanted.info.name
        if wanted.hears:
            pump.hear(leg, name)
        # Time passes for the dialect even when Asterisk sends nothing: a caller on hold, or silence suppression.
        leg.on_tick = lambda: pump.from_call(name, b"") if self.live else None
        if wanted.speaks:
            pump.speak(leg)
        self._task: asyncio.Task[None] | None = None
        if wanted.place is not None:
            self._task = asyncio.create_task(self._keep_open(wait_s), name=label)

    def change(self, wanted: TrackPlace) -> None:
        """Be ``wanted`` from now on. In another place the track goes on, and so does what waits to be played."""
        before, self.wanted = self.wanted, wanted
        if before.place != wanted.place:
            self._stir.set()

    def goes_live(self) -> None:
        """Its audio flows."""
        if not self.live:
            self.live = True
            self._on_live(self)

    def silence(self) -> None:
        """Neither hear nor speak from now on; `close` follows."""
        self.leg.on_closed = _ignore
        self.leg.on_audio = _ignore
        self.leg.on_tick = None
        self._pump.forget(self.leg)

    async def close(self) -> None:
        """Close the leg and all that was made for it."""
        if self._task is not None:
            self._task.cancel()
            for result in await asyncio.gather(self._task, return_exceptions=True):
                if isinstance(result, Exception):
                    log.error("%s failed", self._label, exc_info=result)
        if self._tap is not None:
            await self._taps.close(self._tap)
        self.leg.close()

    async def _keep_open(self, wait_s: float) -> None:
        """Keep the leg open, and where it belongs, until `close` cancels this."""
        await asyncio.sleep(wait_s)
        waits = _waits()
        while True:
            place = self.wanted.place
            assert place is not None
            self._stir.clear()
            self.leg.on_closed = self._stir.set
            try:
                self._tap = await self._taps.open(self.leg, place)
            except AriError as error:
                if error.status != 404:  # else the party has just left, and the model will say so
                    log.warning("%s has no audio: %s", self._label, error)
            else:
                self.goes_live()
                await self._stir.wait()
                tap, self._tap = self._tap, None
                await self._taps.close(tap)
            fresh = MediaLeg(self.leg.fmt, self.leg.playout, self._counters)
            fresh.on_tick = self.leg.on_tick
            self._pump.replace(self.leg, fresh)
            self.leg = fresh
            if self.wanted.place != place:
                log.info("%s follows its party", self._label)
                waits = _waits()
                continue
            if self.live:
                log.warning("%s lost its audio", self._label)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(next(waits)):
                    self._stir.clear()
                    await self._stir.wait()


def _waits() -> itertools.chain[float]:
    return itertools.chain(REOPEN_S, itertools.repeat(REOPEN_S[-1]))


def _ignore(*_: object) -> None:
    """What nobody listens to any more."""
