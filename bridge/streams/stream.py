"""One stream's life: its WebSocket, its legs on the PBX, and the pump between them.

A stream ends when the application closes, when the call ends, or when its audio cannot be had any more. Whichever comes
first says the Close code; everything that was opened is closed in every case, and the call goes on untouched.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import TypeVar

from bridge.audio.format import AudioFormat, slin
from bridge.audio.playout import Playout
from bridge.calls.tap import Join, Tap, Taps
from bridge.dialects.base import CallInfo, Dialect, TrackInfo
from bridge.errors import AriError
from bridge.media.counters import Counters
from bridge.media.leg import MediaLeg
from bridge.media.pump import Pump
from bridge.media.websocket import Link
from bridge.streams.places import LegPlace

log = logging.getLogger(__name__)

T = TypeVar("T")

CALL_ENDED = (1000, "call ended")
LEFT_APPLICATION = (1000, "the call left the bridge's application; connect again to go on")
SHUTTING_DOWN = (1001, "the bridge is shutting down")
RESTORES = 3
"""A leg that breaks while its party is still there is opened again, so often in a stream's life."""
SETTLE_S = 0.5
"""How long to wait for the news that the call has ended when a leg closes: the socket is quicker than the events."""


class Stream:
    """One WebSocket on one party of a call.

    Args:
        stream_id: short id for logs and lists.
        call_id: the call's linkedid.
        party_id: the channel that the directions refer to.
        track: the name under which the dialect gets the audio.
        party_is_there: asks the call model whether the party still exists.
        send_dtmf: presses keys on the party.
    """

    def __init__(
        self,
        stream_id: str,
        call_id: str,
        party_id: str,
        *,
        dialect: Dialect,
        link: Link,
        leg_places: tuple[LegPlace, ...],
        taps: Taps,
        counters: Counters,
        new_playout: Callable[[AudioFormat], Playout],
        track: str,
        party_is_there: Callable[[], bool],
        send_dtmf: Callable[[str], None],
    ) -> None:
        self.stream_id = stream_id
        self.call_id = call_id
        self.party_id = party_id
        self.dialect = dialect
        self.link = link
        self.track = track
        self.opened_at = time.time()
        self.live = False
        """The legs are open and audio flows."""
        self._taps = taps
        self._counters = counters
        self._party_is_there = party_is_there
        self._legs = [(place, self._new_leg(new_playout(slin(dialect.rate)))) for place in leg_places]
        self._open_taps: list[Tap | None] = [None] * len(self._legs)
        self._restores = 0
        self._displaced = False
        self._ended: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self._broken = asyncio.Event()
        self._pump = Pump(dialect, counters, on_dtmf=send_dtmf)
        self._pump.attach(link)
        link.on_closed = self.end
        for place, leg in self._legs:
            self._connect(place, leg)

    @property
    def name(self) -> str:
        """How the log calls it."""
        return f"stream={self.stream_id} call={self.call_id} dialect={self.dialect.name}"

    @property
    def queued_ms(self) -> float:
        """Audio of the application that waits to be played, in milliseconds."""
        return max((leg.playout.queued_ms for place, leg in self._legs if place.speaks), default=0.0)

    @property
    def dropped_ms(self) -> float:
        """Audio of the application that found no room in the queue, in milliseconds."""
        return max((leg.playout.dropped_ms for place, leg in self._legs if place.speaks), default=0.0)

    def party_left_application(self) -> None:
        """The party is no longer held in our bridge: a leg that joined it there would carry nothing from now on."""
        if any(isinstance(place.place, Join) for place, _ in self._legs):
            self._displaced = True
            self._broken.set()

    def end(self, code: int, reason: str) -> None:
        """Let the stream end; the first reason counts."""
        if not self._ended.done():
            self._ended.set_result((code, reason))
            self._broken.set()

    async def run(self) -> None:
        """Live until the end, then close everything."""
        log.info("%s opening on %s", self.name, self.party_id)
        try:
            await self._unless_ended(self._open_all())
            if not self._ended.done():
                self._counters.streams_opened += 1
                self.live = True
                self._pump.opened(CallInfo(self.call_id), [self.track])
                self._pump.track_started(TrackInfo(self.track, self.party_id))
                log.info("%s live", self.name)
            while not self._ended.done():
                await self._broken.wait()
                self._broken.clear()
                await self._unless_ended(self._restore())
        except AriError as error:
            if self._party_is_there():
                log.warning("%s failed: %s", self.name, error)
                self.end(1011, f"no audio from the PBX: {error.message}")
            else:
                self.end(*CALL_ENDED)
        except Exception:
            log.exception("%s failed", self.name)
            self.end(1011, "internal error")
        finally:
            await self._close()

    def _new_leg(self, playout: Playout) -> MediaLeg:
        return MediaLeg(playout.fmt, playout, self._counters)

    def _connect(self, place: LegPlace, leg: MediaLeg) -> None:
        if place.hears:
            self._pump.hear(leg, self.track)
        if place.speaks:
            self._pump.speak(leg)
        leg.on_closed = self._broken.set

    async def _open_all(self) -> None:
        # One after the other: the second is rare, and a failure of the first then leaves nothing to undo.
        for index, (place, leg) in enumerate(self._legs):
            self._open_taps[index] = await self._taps.open(leg, place.place)

    async def _restore(self) -> None:
        """Open the legs again whose connection broke although their party is still there."""
        if self._displaced:
            await asyncio.sleep(SETTLE_S)
            self.end(*(LEFT_APPLICATION if self._party_is_there() else CALL_ENDED))
            return
        for index, (place, leg) in enumerate(self._legs):
            if not leg.closed:
                continue
            await asyncio.sleep(SETTLE_S)
            if not self._party_is_there():
                self.end(*CALL_ENDED)
                return
            if self._restores >= RESTORES:
                self.end(1011, "the audio connection from the PBX broke repeatedly")
                return
            self._restores += 1
            log.warning("%s lost its audio, opening it again (%d of %d)", self.name, self._restores, RESTORES)
            await self._close_tap(index)
            fresh = self._new_leg(leg.playout)
            self._legs[index] = (place, fresh)
            self._pump.replace(leg, fresh)
            fresh.on_closed = self._broken.set
            self._open_taps[index] = await self._taps.open(fresh, place.place)

    async def _unless_ended(self, act: Coroutine[object, object, T]) -> None:
        """Run ``act``, but give it up when the stream ends."""
        task = asyncio.ensure_future(act)
        try:
            await asyncio.wait((task, self._ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not task.done():
                task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            if not self._ended.done():
                raise

    async def _close_tap(self, index: int) -> None:
        tap, self._open_taps[index] = self._open_taps[index], None
        if tap is not None:
            await self._taps.close(tap)

    async def _close(self) -> None:
        code, reason = self._ended.result() if self._ended.done() else SHUTTING_DOWN
        self.live = False
        for _, leg in self._legs:
            leg.on_closed = _ignore
        self._pump.closed(reason)
        self.link.close(code, reason)
        for index in range(len(self._legs)):
            await self._close_tap(index)
        log.info(
            "%s closed %d %s; dropped %.0f ms to and %.0f ms from the application, %d messages not understood",
            self.name,
            code,
            reason or "by the application",
            self.link.dropped_ms,
            self.dropped_ms,
            self.dialect.discarded,
        )


def _ignore() -> None:
    """What a leg's owner does about its end once the stream is over."""
