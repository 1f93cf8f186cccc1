"""One track of a stream: its leg is opened, opened again when it breaks, and moved with its party."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from bridge.errors import AriError
from bridge.logs import Fields, cause
from bridge.media.counters import Counters
from bridge.media.leg import MediaLeg
from bridge.media.pump import Pump
from bridge.streams.silence_fill import fill_silence
from bridge.streams.wanted import WantedTrack
from bridge.taps.taps import Tap, Taps

log = logging.getLogger(__name__)

SUCCEED_S = 0.15
"""How long a track waits that takes the place of another party's under the same name. When a call ends its parties
leave one after the other, and who is still there for some milliseconds is not to be heard under the name of who went
first."""


class Recovery:
    """When the leg of a track is opened again whose audio could not be had, or is lost: as long as the stream lives."""

    waits_s: tuple[float, ...] = (0.5, 1.0, 2.0, 5.0)
    """Waits before each attempt; the last one for all further attempts."""

    def allows(self, track: Track, error: AriError | None) -> bool:  # noqa: ARG002
        """Return whether the leg is opened again, now that the wait is over.

        Args:
            error: why it could not be opened; None: it was open, and its connection broke.
        """
        return True


class Track:
    """A running track.

    Args:
        wanted: what it is, and where it ought to be.
        leg: its leg, open already if there is no tap point.
        label: how the log calls it.
        on_live: called once, when its audio flows for the first time.
        on_failed: called while an exception is handled that ends the track: an internal error.
        wait_s: open the leg not before so many seconds.
    """

    def __init__(
        self,
        wanted: WantedTrack,
        leg: MediaLeg,
        label: Fields,
        *,
        pump: Pump,
        taps: Taps,
        counters: Counters,
        recovery: Recovery,
        on_live: Callable[[Track], object],
        on_failed: Callable[[], object],
        wait_s: float = 0,
    ) -> None:
        self.wanted = wanted
        self.leg = leg
        self.live = False
        """Its audio flows, or has flowed."""
        self.announced = False
        """The dialect has announced that it started."""
        self.early_digits = ""
        """DTMF digits of its party that wait until it is announced."""
        self.reopened = 0
        """How many times its leg was opened again after it had failed or broken."""
        self.label = label
        self._pump = pump
        self._taps = taps
        self._counters = counters
        self._recovery = recovery
        self._on_live = on_live
        self._on_failed = on_failed
        self._tap: Tap | None = None
        self._stir = asyncio.Event()
        self._moved = False
        name = wanted.info.name
        if wanted.hears:
            pump.hear(leg, name)
        # Time passes for the dialect even when Asterisk sends nothing: a caller on hold, or silence suppression.
        leg.on_tick = lambda: pump.from_call(name, b"") if self.live else None
        if wanted.steady:
            fill_silence(leg, pump.dialect.tally)
        if wanted.speaks:
            pump.speak(leg)
        self._task: asyncio.Task[None] | None = None
        if wanted.tap_point is not None:
            self._task = asyncio.create_task(self._run(wait_s), name=label)

    def change(self, wanted: WantedTrack) -> None:
        """Be ``wanted`` from now on. In another place the track continues, and so does what waits to be played."""
        before, self.wanted = self.wanted, wanted
        if before.tap_point != wanted.tap_point:
            self._moved = True  # also if it is back there before its leg is closed
            self._stir.set()

    def go_live(self) -> None:
        """Note that its audio flows."""
        if not self.live:
            self.live = True
            self._on_live(self)

    def silence(self) -> None:
        """Neither receive nor speak from now on; `close` follows."""
        self.leg.on_closed = _ignore
        self.leg.on_audio = _ignore
        self.leg.on_tick = None
        self._pump.forget(self.leg)

    async def close(self) -> None:
        """Close the leg and all that was made for it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        if self._tap is not None:
            await self._taps.close(self._tap)
        self.leg.close()

    async def _run(self, wait_s: float) -> None:
        try:
            await self._keep_open(wait_s)
        except Exception:
            self._on_failed()

    async def _keep_open(self, wait_s: float) -> None:
        """Keep the leg open, and where it belongs, until `close` cancels this."""
        await asyncio.sleep(wait_s)
        tries = 0
        while True:
            self._stir.clear()
            self._moved = False
            tap_point = self.wanted.tap_point
            if tap_point is None:
                await self._stir.wait()
                continue
            self.leg.on_closed = self._stir.set
            failure: AriError | None = None
            renewed = False
            try:
                self._tap = await self._taps.open(self.leg, tap_point)
            except AriError as error:
                failure = error
                if error.status != 404:  # else the party has just left, and the model will say so
                    log.warning("%s has no audio: %s", self.label, error, extra=cause(error.message))
            else:
                self.go_live()
                await self._stir.wait()
                tap, self._tap = self._tap, None
                renewed = await self._taps.close(tap)
            fresh = MediaLeg(self.leg.fmt, self.leg.playout, self._counters)
            fresh.on_tick = self.leg.on_tick
            self._pump.replace(self.leg, fresh)
            self.leg = fresh
            if self._moved or renewed:
                log.info("%s follows its party", self.label)
                tries = 0
                continue
            waits_s = self._recovery.waits_s
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(waits_s[min(tries, len(waits_s) - 1)]):
                    self._stir.clear()
                    await self._stir.wait()
                    continue
            tries += 1
            if not self._recovery.allows(self, failure):
                return
            self.reopened += 1
            if failure is None:
                log.warning("%s lost its audio, which is opened again (%d)", self.label, self.reopened, extra=cause())


def _ignore(*_: object) -> None:
    """What nobody listens to any more."""
