"""Playback into calls: one media leg that plays audio in order, in real time."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable

from bridge.audio.format import slin
from bridge.audio.playout import Playout
from bridge.control.legs import Leg, LegEnded
from bridge.control.voice_rate import NARROW, VoiceRates
from bridge.errors import AriError
from bridge.media.counters import Counters
from bridge.media.leg import MediaLeg, ignore
from bridge.taps.taps import Join, Snoop, Tap, TapPoint, Taps
from bridge.tasks import first_of

log = logging.getLogger(__name__)

BLOCK_S = 2.0
"""Audio queued in one step, in seconds; at most two such blocks wait, however long the audio is."""
MAX_QUEUED_MS = 30_000
SETTLE_S = 0.3
"""Wait for the end of a call after its media leg broke, in seconds: sockets are faster than events.

Also after the party left its bridge, which may be the beginning of its end.
"""


class Player:
    """Plays audio at one tap point. The first ``play`` opens its media leg, ``close`` closes it.

    Created by `Players`.

    Args:
        taps: opens and closes media legs.
        counters: the process's counters.
        point: returns the tap point; called when the media leg is opened, also after the party has moved.
        rate: returns the sampling rate of the media leg in Hz; called once.
        leg: its end ends playback; None: the tap point is not a leg's.
    """

    def __init__(
        self,
        taps: Taps,
        counters: Counters,
        point: Callable[[], Awaitable[TapPoint]],
        rate: Callable[[], Awaitable[int]],
        leg: Leg | None = None,
    ) -> None:
        self._taps = taps
        self._counters = counters
        self._point = point
        self._rate = rate
        self._leg = leg
        self._playout: Playout | None = None
        self._tap: Tap | None = None
        self._opened_at: TapPoint | None = None
        self._turn = asyncio.Lock()
        self._opening = asyncio.Lock()
        self._changed = asyncio.Event()
        self._blocks = itertools.count(1)
        self._played = 0
        """Number of the last block that was played or discarded."""
        self._stops = 0
        self._closed = False

    async def play(self, pcm: bytes, rate: int) -> None:
        """Play audio; return when all of it has been sent to Asterisk, or ``stop`` was called.

        Concurrent calls play one after the other. Cancelling one discards the rest of its audio.

        Args:
            pcm: s16le mono samples.
            rate: sampling rate in Hz.

        Raises:
            LegEnded: the party has left.
            AriError: there is no audio connection.
        """
        stops = self._stops
        async with self._turn:
            try:
                await self._play(pcm, rate, stops)
            except BaseException:
                self._clear()
                raise

    def stop(self) -> None:
        """Discard queued audio; every running or waiting ``play`` returns."""
        self._stops += 1
        self._clear()

    async def close(self) -> None:
        """Close the media leg; closing twice is harmless. A running ``play`` returns."""
        self._closed = True
        self.stop()
        async with self._opening:
            await self._close_tap()

    async def _play(self, pcm: bytes, rate: int, stops: int) -> None:
        if self._playout is None:
            self._playout = Playout(slin(await self._rate()), MAX_QUEUED_MS)
        playout = self._playout
        size = int(rate * BLOCK_S) * 2
        from bridge.audio.resample import Resampler  # numpy is only for audio of another rate

        resampler = Resampler(rate, playout.fmt.rate) if rate != playout.fmt.rate else None
        if resampler is not None:
            pcm += bytes(
                int(resampler.delay_ms * rate / 1000 + 1) * 2
            )  # flushes the last milliseconds out of the filter
        restored = False
        last = self._played
        at = 0
        while self._stops == stops and not self._closed:
            self._unless_gone()
            if at < len(pcm) and last - self._played < 2:
                # Queued before the media leg exists: its first frame is audio.
                block = pcm[at : at + size]
                at += size
                if resampler is not None:
                    # Block by block: a conversion of everything would interrupt every call.
                    block = resampler.convert(block)
                playout.play(block)
                last = next(self._blocks)
                playout.mark(str(last))
                continue
            if self._played >= last:
                return
            self._changed.clear()
            if self._is_lost():
                if restored and self._tap is not None and self._tap.leg.closed:
                    raise AriError(0, "POST", "/channels/externalMedia", "the audio connection broke repeatedly")
                restored = restored or (self._tap is not None and self._tap.leg.closed)
                await self._open(playout)
                continue
            await self._wait()

    def _unless_gone(self) -> None:
        if self._leg is not None and self._leg.gone.is_set():
            raise LegEnded(f"{self._leg.name or self._leg.id} has ended")

    def _is_lost(self) -> bool:
        """Return whether there is no media leg where the party is now."""
        if self._tap is None or self._tap.leg.closed:
            return True
        point = self._opened_at
        return self._leg is not None and isinstance(point, Join) and point.bridge_id != self._leg.bridge_id

    async def _wait(self) -> None:
        """Wait until a block was played, the media leg broke, or the party has moved or left."""
        waits: list[Awaitable[object]] = [self._changed.wait()]
        if self._leg is not None and self._leg.bridge_id is not None:
            waits.append(self._leg.left(self._leg.bridge_id))
        await first_of(*waits)

    async def _open(self, playout: Playout) -> None:
        async with self._opening:
            if self._tap is not None:
                # A party that hangs up leaves its bridge first: wait for its end, instead of opening a leg for a
                # channel that is just ending.
                doubtful = self._tap.leg.closed or (self._leg is not None and self._leg.bridge_id is None)
                await self._close_tap()
                if doubtful:
                    await asyncio.sleep(SETTLE_S)
            self._unless_gone()
            if self._closed:
                return
            point = await self._point()
            media = MediaLeg(playout.fmt, playout, self._counters)
            media.on_mark = self._mark_reached
            media.on_closed = self._changed.set
            try:
                self._tap = await self._taps.open(media, point)
            except AriError:
                self._unless_gone()
                raise
            self._opened_at = point

    async def _close_tap(self) -> None:
        tap, self._tap = self._tap, None
        if tap is not None:
            tap.leg.on_closed = ignore
            await self._taps.close(tap)

    def _clear(self) -> None:
        if self._playout is not None:
            for name in self._playout.clear():
                self._mark_reached(name)
        self._changed.set()

    def _mark_reached(self, name: str) -> None:
        self._played = max(self._played, int(name))
        self._changed.set()


class Players:
    """Creates players.

    Args:
        taps: opens their media legs.
        counters: the process's counters.
        rates: sampling rates of playback to parties.
    """

    def __init__(self, taps: Taps, counters: Counters, rates: VoiceRates) -> None:
        self._taps = taps
        self._counters = counters
        self._rates = rates

    def of(self, leg: Leg) -> Player:
        """Return a player for a leg, wherever it is bridged; other members of its bridge receive the audio too.

        The first ``play`` answers the leg and puts it into a bridge if necessary.
        """

        async def point() -> TapPoint:
            return Join(await leg.hold_in_bridge())

        return Player(self._taps, self._counters, point, lambda: self._rates.of(leg.id), leg)

    def at(self, point: TapPoint) -> Player:
        """Return a player at a tap point: a party of any call (a whispering `Snoop`), or a bridge.

        A bridge may have members with narrow codecs, so its playback uses the narrow rate.
        """

        async def fixed() -> TapPoint:
            return point

        async def rate() -> int:
            return await self._rates.of(point.channel_id) if isinstance(point, Snoop) else NARROW

        return Player(self._taps, self._counters, fixed, rate)
