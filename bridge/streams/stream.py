"""One stream's life: its WebSocket, its legs on the PBX, and the pump between them.

A stream ends when the application closes, when the call ends, or when its audio cannot be had any more. Whichever comes
first says the Close code; everything that was opened is closed in every case, and the call goes on untouched.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import TypeVar

from bridge.access import Principal
from bridge.audio.format import AudioFormat, slin
from bridge.audio.playout import Playout
from bridge.dialects.base import CallInfo, Dialect, TrackInfo
from bridge.errors import AriError
from bridge.logs import Fields
from bridge.media.counters import Counters
from bridge.media.leg import MediaLeg
from bridge.media.pump import Pump
from bridge.media.websocket import Link
from bridge.streams.places import LegPlace
from bridge.streams.silence_fill import keep_steady
from bridge.taps.taps import Join, Tap, Taps

log = logging.getLogger(__name__)

T = TypeVar("T")

CALL_ENDED = (1000, "call ended")
CONFERENCE_ENDED = (1000, "conference ended")
SHUTTING_DOWN = (1001, "the bridge is shutting down")
RESTORES = 3
"""A leg that breaks while its party is still there is opened again, so often in a stream's life."""
SETTLE_S = 0.5
"""How long to wait for the news that the call has ended when a leg closes: the socket is quicker than the events."""


@dataclass(eq=False)
class _Leg:
    """One leg of a stream: what it is for, the connection, and what is open for it on the PBX."""

    place: LegPlace
    media: MediaLeg
    tap: Tap | None = None


class Stream:
    """One WebSocket on one party of a call, or on a conference.

    Args:
        stream_id: short id for logs and lists.
        call_id: the call's linkedid; empty on a conference.
        party_id: the channel that the directions refer to; empty on a conference.
        leg_places: where the legs go at first.
        find_places: where they go now, asked when the party has entered or left our application.
        new_playout: makes the queue of one leg.
        track: the name under which the dialect gets the audio.
        party_is_there: asks the call model whether the party, or the conference, still exists.
        send_dtmf: presses keys on the party.
        principal: who opened it.
        conference_id: the conference; empty on a party.
        steady: the track goes on in silence while the PBX sends none: nobody else is there.
        is_sensitive: whether the application must not receive the call's audio and digits now.
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
        find_places: Callable[[], Awaitable[tuple[LegPlace, ...]]],
        taps: Taps,
        counters: Counters,
        new_playout: Callable[[AudioFormat], Playout],
        track: str,
        party_is_there: Callable[[], bool],
        send_dtmf: Callable[[str], None],
        principal: Principal,
        conference_id: str = "",
        steady: bool = False,
        is_sensitive: Callable[[], bool] = lambda: False,
    ) -> None:
        self.stream_id = stream_id
        self.call_id = call_id
        self.party_id = party_id
        self.conference_id = conference_id
        self.principal = principal
        self.dialect = dialect
        self.link = link
        self.track = track
        self.opened_at = time.time()
        self.live = False
        """The legs are open and audio flows."""
        self._find_places = find_places
        self._taps = taps
        self._counters = counters
        self._new_playout = new_playout
        self._party_is_there = party_is_there
        self._steady = steady
        self._over = CONFERENCE_ENDED if conference_id else CALL_ENDED
        self._restores = 0
        self._displaced = False
        self._ended: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self._broken = asyncio.Event()
        self._is_sensitive = is_sensitive
        self._pump = Pump(dialect, counters, on_dtmf=send_dtmf)
        self.review()
        self._pump.attach(link)
        self._legs = self._new_legs(leg_places)
        link.on_closed = self.end

    @property
    def name(self) -> Fields:
        """How the log calls it."""
        where = {"conference": self.conference_id} if self.conference_id else {"call": self.call_id}
        return Fields(stream=self.stream_id, **where, dialect=self.dialect.name)

    @property
    def bridge_id(self) -> str | None:
        """The bridge of our application that its legs have joined; None if they reach the party from outside."""
        joins = (leg.place.place for leg in self._legs)
        return next((place.bridge_id for place in joins if isinstance(place, Join)), None)

    @property
    def ended_because(self) -> str:
        """Why it has ended, in words; empty before, and if the application closed without a word."""
        return self._ended.result()[1] if self._ended.done() else ""

    @property
    def close_code(self) -> int:
        """The WebSocket's close code once it has ended; 1001 before: so it ends when the bridge does."""
        return self._ended.result()[0] if self._ended.done() else SHUTTING_DOWN[0]

    @property
    def speaks(self) -> bool:
        """Whether the application's audio is played."""
        return any(leg.place.speaks for leg in self._legs)

    @property
    def queued_ms(self) -> float:
        """Audio of the application that waits to be played, in milliseconds."""
        return self._pump.queued_ms

    @property
    def dropped_ms(self) -> float:
        """Audio of the application that exceeded the limit of the queue, in milliseconds."""
        return self._pump.dropped_ms

    @property
    def sensitive(self) -> bool:
        """The application receives silence in the place of the call's audio."""
        return self._pump.silent

    def review(self) -> None:
        """Adopt or leave sensitive mode, as the call has."""
        self._pump.silent = self._is_sensitive()

    def party_moved(self) -> None:
        """The party has entered or left our application, or a bridge: where its audio was reached is none any more."""
        self._displaced = True
        self._broken.set()

    def end(self, code: int, reason: str) -> None:
        """Let the stream end; the first reason counts."""
        if not self._ended.done():
            self._ended.set_result((code, reason))
            self._broken.set()

    async def run(self) -> None:
        """Live until the end, then close everything."""
        log.info("%s opening on %s", self.name, self.party_id or "the whole of it")
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
            await self._unless_ended(asyncio.sleep(SETTLE_S))
            if self._party_is_there():
                log.warning("%s failed: %s", self.name, error)
                self.end(1011, f"no audio from the PBX: {error.message}")
            else:
                self.end(*self._over)
        except Exception:
            log.exception("%s failed", self.name)
            self.end(1011, "internal error")
        finally:
            await self._close()

    def _new_legs(self, leg_places: Iterable[LegPlace], playouts: Iterable[Playout] = ()) -> list[_Leg]:
        """Legs that are not open yet; those that speak take over ``playouts``, as far as there are some."""
        inherited = iter(playouts)
        legs = []
        for place in leg_places:
            playout = next(inherited, None) if place.speaks else None
            leg = _Leg(place, self._new_media(playout or self._new_playout(slin(self.dialect.rate))))
            if place.hears:
                self._pump.hear(leg.media, self.track)
                if self._steady:
                    keep_steady(leg.media)
            if place.speaks:
                self._pump.speak(leg.media)
            legs.append(leg)
        return legs

    def _new_media(self, playout: Playout) -> MediaLeg:
        media = MediaLeg(playout.fmt, playout, self._counters)
        media.on_closed = self._broken.set
        return media

    async def _open_all(self) -> None:
        # One after the other: the second is rare, and a failure of the first then leaves nothing to undo.
        for leg in self._legs:
            leg.tap = await self._taps.open(leg.media, leg.place.place)

    async def _restore(self) -> None:
        """Put right what has broken although the party is still there."""
        if not self._displaced and not any(leg.media.closed for leg in self._legs):
            return
        if self._displaced:
            await self._close_legs()  # or what is queued would play to nobody meanwhile
        await asyncio.sleep(SETTLE_S)
        if not self._party_is_there():
            self.end(*self._over)
        elif self._displaced:
            await self._move()
        elif self._restores >= RESTORES:
            self.end(1011, "the audio connection from the PBX broke repeatedly")
        else:
            self._restores += 1
            log.warning("%s lost its audio, opening it again (%d of %d)", self.name, self._restores, RESTORES)
            for leg in self._legs:
                if leg.media.closed:
                    await self._close_tap(leg)
                    broken, leg.media = leg.media, self._new_media(leg.media.playout)
                    self._pump.replace(broken, leg.media)
                    leg.media.on_tick = broken.on_tick
                    leg.tap = await self._taps.open(leg.media, leg.place.place)

    async def _move(self) -> None:
        """Reach the party where it is now; what waits to be played is not lost."""
        self._displaced = False
        await self._close_legs()
        playouts = [leg.media.playout for leg in self._legs if leg.place.speaks]
        for leg in self._legs:
            self._pump.forget(leg.media)
        self._legs = self._new_legs(await self._find_places(), playouts)
        await self._open_all()
        log.info("%s follows its party %s", self.name, self.party_id)

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

    async def _close_legs(self) -> None:
        for leg in self._legs:
            leg.media.on_closed = _ignore
            await self._close_tap(leg)

    async def _close_tap(self, leg: _Leg) -> None:
        tap, leg.tap = leg.tap, None
        if tap is not None:
            await self._taps.close(tap)

    async def _close(self) -> None:
        code, reason = self._ended.result() if self._ended.done() else SHUTTING_DOWN
        self.live = False
        try:
            self._pump.closed(reason)
        except Exception:
            log.exception("%s could not say its last words", self.name)
        self.link.close(code, reason)
        await self._close_legs()
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
    """What a leg's owner does about its end once it is not wanted any more."""
