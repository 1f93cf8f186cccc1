"""A stream that we dial: one WebSocket to an application, with tracks that come and go as the call's parties do.

It dials while the call lives: a connection that fails is tried again after a growing wait, one that the application
closed cleanly is not, and one that it refused (a wrong credential) ends the stream. The call notices nothing of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field

from bridge.ari.dispatch import call_safely
from bridge.audio.format import AudioFormat, slin
from bridge.audio.playout import Playout
from bridge.calls.tap import Place, Tap, Taps
from bridge.dialects.base import CallInfo, Dialect, TrackInfo
from bridge.errors import AriError
from bridge.media.counters import Counters
from bridge.media.dial import Backoff, LinkFailed, LinkRefused, clean
from bridge.media.leg import MediaLeg
from bridge.media.pump import Pump
from bridge.media.websocket import Link

log = logging.getLogger(__name__)

Dial = Callable[[], Awaitable[Link]]
REOPEN_S = (0.5, 1.0, 2.0, 5.0)
"""Waits before a track's leg is opened again; the last one for all further tries."""
SHUTTING_DOWN = "the bridge is shutting down"
STABLE_S = 10.0
"""A connection that lived so long starts the waits anew."""


def _ignore(*_: object) -> None:
    """What nobody listens to any more."""


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
    place: Place | None
    speaks: bool = False
    hears: bool = True


@dataclass(eq=False)
class _Track:
    """A running track."""

    wanted: TrackPlace
    leg: MediaLeg
    tap: Tap | None = None
    task: asyncio.Task[None] | None = None
    live: bool = False
    told: bool = False
    """The dialect has been told that it started."""
    stir: asyncio.Event = field(default_factory=asyncio.Event)
    """Its leg has broken, or belongs elsewhere."""


class PushedStream:
    """One WebSocket that we dial for a call.

    Args:
        stream_id: short id for logs and lists.
        label: what started it, for logs and lists: a subscription or a rule of the dialplan.
        call: what the dialect may say about the call.
        tracks: names of the tracks that are asked for (they need not be there yet).
        dial: opens the WebSocket; raises LinkRefused or LinkFailed.
        new_playout: makes the queue of one leg.
        on_end: told once, when all is closed, why it ended.
        on_dtmf: presses keys that the application wants pressed.
        on_connected: told of each connection that was opened.
    """

    def __init__(
        self,
        stream_id: str,
        label: str,
        call: CallInfo,
        tracks: Iterable[str],
        *,
        dialect: Dialect,
        dial: Dial,
        backoff: Backoff,
        taps: Taps,
        counters: Counters,
        new_playout: Callable[[AudioFormat], Playout],
        window_ms: int,
        on_end: Callable[[PushedStream, str], None],
        on_dtmf: Callable[[str], None],
        on_connected: Callable[[PushedStream], object] = _ignore,
    ) -> None:
        self.stream_id = stream_id
        self.label = label
        self.call = call
        self.dialect = dialect
        self.opened_at = time.time()
        self.link: Link | None = None
        self.connects = 0
        """Connections that were opened so far."""
        self.trouble: str | None = None
        """Why there is no connection, in words; None while all is well."""
        self._dropped_ms = 0.0
        self._asked = tuple(tracks)
        self._dial = dial
        self._backoff = backoff
        self._taps = taps
        self._counters = counters
        self._new_playout = new_playout
        self._on_end = on_end
        self._on_connected = on_connected
        self._news = asyncio.Event()
        self._tracks: dict[str, _Track] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._ended: asyncio.Future[tuple[str, str | None]] = asyncio.get_running_loop().create_future()
        self._pump = Pump(dialect, counters, on_dtmf=on_dtmf, window_ms=window_ms)
        if dialect.replays:
            self._pump.opened(call, self._asked)
        self._task = asyncio.create_task(self._run(), name=f"stream {stream_id}")

    # What lists show

    @property
    def name(self) -> str:
        """How the log calls it."""
        return f"stream={self.stream_id} call={self.call.call_id} dialect={self.dialect.name} of={self.label}"

    @property
    def live(self) -> bool:
        """The WebSocket is open."""
        return self.link is not None

    @property
    def tracks(self) -> list[TrackInfo]:
        """The tracks that there are now and that the application hears."""
        return [track.wanted.info for track in self._tracks.values() if track.wanted.hears]

    @property
    def asked(self) -> tuple[str, ...]:
        """Names of the tracks that were asked for."""
        return self._asked

    @property
    def ended(self) -> bool:
        """It has ended, or is about to."""
        return self._ended.done()

    @property
    def first_channel(self) -> str:
        """The channel of the first track: where keys are pressed."""
        return next((track.wanted.info.channel_id for track in self._tracks.values()), "")

    @property
    def missed_ms(self) -> float:
        """Audio lost while there was no connection, in milliseconds."""
        return self._pump.missed_ms

    @property
    def dropped_ms(self) -> float:
        """Audio lost because the application did not read, in milliseconds."""
        return self._dropped_ms + (self.link.dropped_ms if self.link is not None else 0.0)

    # What its owner calls

    def set_tracks(self, wanted: Iterable[TrackPlace]) -> None:
        """Start and stop tracks so that exactly these run."""
        if self._ended.done():
            return
        by_name = {track.info.name: track for track in wanted}
        for name, running in tuple(self._tracks.items()):
            now_wanted = by_name.get(name)
            if now_wanted is None or not _same(now_wanted, running.wanted):
                self._stop(name)
        for name, track in by_name.items():
            existing = self._tracks.get(name)
            if existing is None:
                self._start(track)
                continue
            before, existing.wanted = existing.wanted, track
            if before.info != track.info and existing.told:
                self._pump.track_changed(track.info)
            if before.place != track.place:
                existing.stir.set()  # the same party, reached elsewhere: the track goes on, and so does what is queued

    def ask(self, tracks: Iterable[str]) -> None:
        """Ask for further tracks, by name; a later connection's first words will name them."""
        self._asked = tuple(dict.fromkeys((*self._asked, *tracks)))

    def adopt(self, info: TrackInfo, leg: MediaLeg) -> None:
        """Take a leg that Asterisk has opened by itself (`AudioSocket()` in the dialplan), both ways."""
        track = _Track(TrackPlace(info, None, speaks=self.dialect.two_way), leg)
        self._tracks[info.name] = track
        self._connect(track)
        # Without ARI the connection is the only one that tells of keys; with it, every key would be told twice.
        leg.on_dtmf = lambda digit: self._pump.key_pressed(info.name, digit)
        leg.on_closed = lambda: self.end("the call ended")
        self._goes_live(track)

    def new_leg(self) -> MediaLeg:
        """A leg in the dialect's rate."""
        return MediaLeg(slin(self.dialect.rate), self._new_playout(slin(self.dialect.rate)), self._counters)

    def key_pressed(self, channel_id: str, digit: str) -> None:
        """A party pressed a key, as ARI tells."""
        for track in self._tracks.values():
            if track.wanted.info.channel_id == channel_id and track.told:
                self._pump.key_pressed(track.wanted.info.name, digit)
                return

    def end(self, reason: str, error: str | None = None) -> None:
        """Let the stream end; the first reason counts. ``error`` as in `Dialect.closed`."""
        if not self._ended.done():
            self._ended.set_result((reason, error))
            self._news.set()

    async def wait(self) -> None:
        """Until all is closed."""
        await asyncio.wait([self._task])

    async def settled(self, timeout_s: float) -> None:
        """Until it is connected and every track is heard, something is in the way of that, or so many seconds pass."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not (self.ended or self.trouble or (self.live and all(t.live for t in self._tracks.values()))):
                    self._news.clear()
                    await self._news.wait()

    # The WebSocket

    async def _run(self) -> None:
        log.info("%s begins", self.name)
        try:
            while not self._ended.done():
                link = await self._connected()
                if link is None:
                    break
                began = time.monotonic()
                code, reason = await self._until_closed(link)
                if self._ended.done():
                    break
                if clean(code):
                    self.end(reason or "the application closed the stream")
                else:
                    self._say_trouble(f"the connection broke ({code} {reason})")
                    if time.monotonic() - began > STABLE_S:
                        self._backoff.reset()
                    await self._pause()
        except Exception:
            log.exception("%s failed", self.name)
            self.end("internal error", "internal")
        finally:
            await self._close()

    async def _connected(self) -> Link | None:
        """A fresh connection, however long it takes; None when the stream has ended meanwhile."""
        while not self._ended.done():
            task = asyncio.ensure_future(self._dial())
            await asyncio.wait((task, self._ended), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                task.cancel()
            try:
                link = await task
            except asyncio.CancelledError:
                if self._ended.done():
                    return None
                raise
            except LinkRefused as error:
                log.warning("%s refused: %s", self.name, error)
                self.trouble = str(error)
                self.end(f"refused: {error}", "connect_failed")
                return None
            except LinkFailed as error:
                self._say_trouble(str(error))
                await self._pause()
                continue
            self.connects += 1
            self.trouble = None
            log.info("%s connected", self.name)
            call_safely(self._on_connected, self)
            return link
        return None

    async def _until_closed(self, link: Link) -> tuple[int, str]:
        closed: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()

        def on_closed(code: int, reason: str) -> None:
            self._dropped_ms += link.dropped_ms
            self.link = None
            self._pump.detach()
            if not closed.done():
                closed.set_result((code, reason))

        if link.closed:
            return 1006, "closed at once"
        link.on_closed = on_closed
        self.link = link
        self._pump.attach(link)
        if not self.dialect.replays:
            self._pump.opened(self.call, self._asked)
            for track in self._tracks.values():
                track.told = track.live and track.wanted.hears
                if track.told:
                    self._pump.track_started(track.wanted.info)
        self._news.set()
        await asyncio.wait((closed, self._ended), return_when=asyncio.FIRST_COMPLETED)
        return closed.result() if closed.done() else (1000, "")

    async def _pause(self) -> None:
        delay_s = self._backoff.next_delay()
        await asyncio.wait((self._ended,), timeout=delay_s)

    def _say_trouble(self, reason: str) -> None:
        if reason != self.trouble:
            log.warning("%s has no connection: %s; trying again", self.name, reason)
        self.trouble = reason
        self._news.set()

    async def _close(self) -> None:
        reason, error = self._ended.result() if self._ended.done() else (SHUTTING_DOWN, None)
        self._pump.closed(reason, error)
        for name in tuple(self._tracks):
            self._stop(name, tell=False)
        if self.link is not None:
            self.link.close(1011 if error else 1001 if reason == SHUTTING_DOWN else 1000, reason)
        if self._closing:
            await asyncio.wait(set(self._closing))
        log.info("%s ended: %s; missed %.0f ms", self.name, reason, self.missed_ms)
        call_safely(self._on_end, self, reason)

    # Tracks

    def _start(self, wanted: TrackPlace) -> None:
        track = _Track(wanted, self.new_leg())
        self._tracks[wanted.info.name] = track
        self._connect(track)
        track.task = asyncio.create_task(self._open(track), name=f"stream {self.stream_id} track {wanted.info.name}")

    def _connect(self, track: _Track) -> None:
        name = track.wanted.info.name
        if track.wanted.hears:
            self._pump.hear(track.leg, name)
        # Time passes for the dialect even when Asterisk sends nothing: a caller on hold, or silence suppression.
        track.leg.on_tick = lambda: self._pump.from_call(name, b"") if track.live else None
        if track.wanted.speaks:
            self._pump.speak(track.leg)

    async def _open(self, track: _Track) -> None:
        """Keep the track's leg open for as long as the track is wanted (`_stop` cancels this)."""
        waits = _reopen_waits()
        while True:
            place = track.wanted.place
            assert place is not None
            track.stir.clear()
            track.leg.on_closed = track.stir.set
            try:
                track.tap = await self._taps.open(track.leg, place)
            except AriError as error:
                if error.status != 404:  # else the party has just left, and the model will say so
                    log.warning("%s track=%s has no audio: %s", self.name, track.wanted.info.name, error)
            else:
                self._goes_live(track)
                await track.stir.wait()
                tap, track.tap = track.tap, None
                await self._taps.close(tap)
            fresh = MediaLeg(track.leg.fmt, track.leg.playout, self._counters)
            fresh.on_tick = track.leg.on_tick
            self._pump.replace(track.leg, fresh)
            track.leg = fresh
            if track.wanted.place != place:
                log.info("%s track=%s follows its party", self.name, track.wanted.info.name)
                waits = _reopen_waits()
                continue
            if track.live:
                log.warning("%s track=%s lost its audio", self.name, track.wanted.info.name)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(next(waits)):
                    track.stir.clear()
                    await track.stir.wait()

    def _goes_live(self, track: _Track) -> None:
        if not track.live:
            track.live = True
            track.told = track.wanted.hears and (self.dialect.replays or self.link is not None)
            if track.told:
                self._pump.track_started(track.wanted.info)
            self._news.set()

    def _stop(self, name: str, *, tell: bool = True) -> None:
        track = self._tracks.pop(name)
        track.leg.on_closed = _ignore
        track.leg.on_audio = _ignore
        track.leg.on_tick = None
        if track.told and tell:
            self._pump.track_stopped(name)
        self._pump.forget(track.leg)
        self._news.set()
        task = asyncio.create_task(self._shut(track), name=f"stream {self.stream_id} closes {name}")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _shut(self, track: _Track) -> None:
        if track.task is not None:
            track.task.cancel()
            for result in await asyncio.gather(track.task, return_exceptions=True):
                if isinstance(result, Exception):
                    log.error("%s track=%s failed", self.name, track.wanted.info.name, exc_info=result)
        if track.tap is not None:
            await self._taps.close(track.tap)
        track.leg.close()


def _same(one: TrackPlace, other: TrackPlace) -> bool:
    """Whether a track may go on as the other: the same party, used for the same."""
    roles = (one.speaks, one.hears) == (other.speaks, other.hears)
    return roles and (one.place == other.place or one.info.channel_id == other.info.channel_id != "")


def _reopen_waits() -> Iterator[float]:
    return itertools.chain(REOPEN_S, itertools.repeat(REOPEN_S[-1]))
