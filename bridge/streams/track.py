"""One track of a stream: its leg is opened, reopened after failures, and moved with its party."""

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
from bridge.streams.wanted_tracks import WantedTrack
from bridge.taps.taps import Tap, Taps

log = logging.getLogger(__name__)

SUCCEED_S = 0.15
"""Delay in seconds of a track that replaces another party's under the same name.

At the end of a call its parties leave one after the other; a party that remains for some milliseconds must not send
audio under the name of the one that left first.
"""


class Recovery:
    """The policy for reopening the leg of a track after a failure: until the stream ends."""

    waits_s: tuple[float, ...] = (0.5, 1.0, 2.0, 5.0)
    """Waits before the attempts, in seconds; the last one repeats."""

    def allows(self, track: RunningTrack, error: AriError | None) -> bool:  # noqa: ARG002
        """Return whether to reopen the leg, after the wait.

        Args:
            track: the track.
            error: why it could not be opened; None: its connection broke.
        """
        return True


class RunningTrack:
    """A running track.

    Args:
        wanted: its facts and tap point.
        leg: its leg, open already if there is no tap point.
        label: its fields in log lines.
        pump: carries the audio.
        taps: opens and closes media legs.
        counters: the process's counters.
        recovery: decides about reopening.
        on_live: called once, when audio flows for the first time.
        on_failed: called while an exception is handled that ends the track: an internal error.
        wait_s: delay of the first opening, in seconds.
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
        on_live: Callable[[RunningTrack], object],
        on_failed: Callable[[], object],
        wait_s: float = 0,
    ) -> None:
        self.wanted = wanted
        self.leg = leg
        self.live = False
        """Whether audio flows, or has flowed."""
        self.announced = False
        """Whether the dialect has announced the start."""
        self.early_digits = ""
        """DTMF digits of its party that wait for the announcement."""
        self.reopened = 0
        """How many times its leg was reopened."""
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
        if wanted.captures:
            pump.capture(leg, name)
        # The dialect's clock advances even when Asterisk sends nothing: a caller on hold, or silence suppression.
        leg.on_tick = lambda: pump.from_call(name, b"") if self.live else None
        if wanted.fills_silence:
            fill_silence(leg, pump.dialect.tally)
        if wanted.plays:
            pump.play_on(leg)
        self._task: asyncio.Task[None] | None = None
        if wanted.tap_point is not None:
            self._task = asyncio.create_task(self._run(wait_s), name=label)

    def change(self, wanted: WantedTrack) -> None:
        """Apply new facts; at a new tap point the track continues, and so does its queued audio."""
        before, self.wanted = self.wanted, wanted
        if before.tap_point != wanted.tap_point:
            self._moved = True  # even if it returns before its leg is closed
            self._stir.set()

    def go_live(self) -> None:
        """Handle the first audio."""
        if not self.live:
            self.live = True
            self._on_live(self)

    def silence(self) -> None:
        """Stop receiving and sending; `close` follows."""
        self.leg.on_closed = _ignore
        self.leg.on_audio = _ignore
        self.leg.on_tick = None
        self.leg.on_dtmf = _ignore
        self._pump.remove_leg(self.leg)

    async def close(self) -> None:
        """Close the leg and everything that was created for it."""
        task, self._task = self._task, None  # the traceback of its cancellation refers to this track
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))
        if self._tap is not None:
            await self._taps.close(self._tap)
        self.leg.close()

    async def _run(self, wait_s: float) -> None:
        try:
            await self._keep_open(wait_s)
        except Exception:
            self._on_failed()

    async def _keep_open(self, wait_s: float) -> None:
        """Keep the leg open at its tap point, until `close` cancels this."""
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
                failure = error.with_traceback(None)  # it refers to this frame
                if error.status != 404:  # 404: the party has just left, which the model will report
                    log.warning(
                        "track has no audio, retrying %s error=%s", self.label, error, extra=cause(error.message)
                    )
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
                log.info("track follows its party %s", self.label)
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
                log.warning("track lost its audio, reopening %s count=%d", self.label, self.reopened, extra=cause())


def _ignore(*_: object) -> None:
    """Ignore events after the end."""
