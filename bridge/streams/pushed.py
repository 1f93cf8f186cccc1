"""A stream that we dial: one WebSocket to an application, with tracks that come and go as the call's parties do.

It dials while the call lives: a connection that fails is tried again after a growing wait, one that the application
closed cleanly is not, and one that it refused (a wrong credential) ends the stream. The call notices nothing of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable

from bridge.access import Principal
from bridge.ari.dispatch import call_safely
from bridge.audio.format import AudioFormat, slin
from bridge.audio.playout import Playout
from bridge.dialects.base import CallInfo, Dialect, TrackInfo
from bridge.logs import Fields
from bridge.media.counters import Counters
from bridge.media.dial import Backoff, LinkFailed, LinkRefused, clean
from bridge.media.leg import MediaLeg
from bridge.media.pump import Pump
from bridge.media.websocket import Link
from bridge.streams.track import SUCCEED_S, Track, TrackPlace
from bridge.taps.taps import Taps

log = logging.getLogger(__name__)

Dial = Callable[[], Awaitable[Link]]
SHUTTING_DOWN = "the bridge is shutting down"
RESET_S = 0.1
"""What a connection that is reset takes to be gone, with some to spare."""
MAX_PARTIES = 50
STABLE_S = 10.0
"""A connection that lived so long starts the waits anew."""


def _ignore(*_: object) -> None:
    """What nobody listens to any more."""


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
        principal: who caused it.
        on_connected: told of each connection that was opened.
        is_sensitive: whether the audio and digits of a call or channel must be kept from applications now.
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
        principal: Principal,
        on_connected: Callable[[PushedStream], object] = _ignore,
        is_sensitive: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self.stream_id = stream_id
        self.label = label
        self.call = call
        self.principal = principal
        self.dialect = dialect
        self.opened_at = time.time()
        self.link: Link | None = None
        self.parties: dict[str, None] = {}
        """Ids of the channels whose audio it had so far, the first `MAX_PARTIES` of them."""
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
        self._news: asyncio.Event | None = None  # while somebody waits for how the stream begins
        self._tracks: dict[str, Track] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._give_way_s: float | None = None
        self._close_code: int | None = None
        self._link_gone: asyncio.Future[tuple[int, str]] | None = None
        self._ended: asyncio.Future[tuple[str, str | None]] = asyncio.get_running_loop().create_future()
        self._is_sensitive = is_sensitive
        self._pump = Pump(dialect, counters, on_dtmf=on_dtmf, window_ms=window_ms)
        self.review()
        if dialect.replays:
            self._pump.opened(call, self._asked)
        self._task = asyncio.create_task(self._run(), name=f"stream {stream_id}")

    # What lists show

    @property
    def name(self) -> Fields:
        """How the log calls it."""
        return Fields(stream=self.stream_id, call=self.call.call_id, dialect=self.dialect.name, of=self.label)

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
    def queued_ms(self) -> float:
        """Audio of the application that waits to be played, in milliseconds."""
        return self._pump.queued_ms

    @property
    def dropped_from_application_ms(self) -> float:
        """Audio of the application that exceeded the limit of the queue, in milliseconds."""
        return self._pump.dropped_ms

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
        self.review(track.info.channel_id for track in by_name.values())
        before = set(self._tracks)
        for name, running in tuple(self._tracks.items()):
            now_wanted = by_name.get(name)
            if now_wanted is None or not running.wanted.may_become(now_wanted):
                self._stop(name)
        for name, track in by_name.items():
            existing = self._tracks.get(name)
            if existing is None:
                self._start(track, self.new_leg(), SUCCEED_S if name in before else 0)
                continue
            if existing.told and existing.wanted.info != track.info:
                self._pump.track_changed(track.info)
            existing.change(track)

    def ask(self, tracks: Iterable[str]) -> None:
        """Ask for further tracks, by name; a later connection's first words will name them."""
        self._asked = tuple(dict.fromkeys((*self._asked, *tracks)))

    def adopt(self, info: TrackInfo, leg: MediaLeg) -> None:
        """Take a leg that Asterisk has opened by itself (`AudioSocket()` in the dialplan), both ways."""
        track = self._start(TrackPlace(info, None, speaks=self.dialect.two_way), leg)
        # Without ARI the connection is the only one that tells of keys; with it, every key would be told twice.
        leg.on_dtmf = lambda digit: self._pump.key_pressed(info.name, digit)
        leg.on_closed = lambda: self.end("the call ended")
        track.goes_live()

    def new_leg(self) -> MediaLeg:
        """A leg in the dialect's rate."""
        return MediaLeg(slin(self.dialect.rate), self._new_playout(slin(self.dialect.rate)), self._counters)

    @property
    def sensitive(self) -> bool:
        """The application receives silence in the place of the call's audio."""
        return self._pump.silent

    def review(self, channel_ids: Iterable[str] = ()) -> None:
        """Adopt or leave sensitive mode, as the call has.

        Args:
            channel_ids: channels whose tracks are about to start.
        """
        channels = [track.wanted.info.channel_id for track in self._tracks.values()]
        self._pump.silent = any(map(self._is_sensitive, filter(None, (self.call.call_id, *channels, *channel_ids))))

    def key_pressed(self, channel_id: str, digit: str) -> None:
        """A party pressed a key, as ARI tells."""
        for track in self._tracks.values():
            if track.wanted.info.channel_id == channel_id and track.told:
                self._pump.key_pressed(track.wanted.info.name, digit)
                return

    def end(
        self, reason: str, error: str | None = None, *, code: int | None = None, give_way_s: float | None = None
    ) -> None:
        """Let the stream end; the first reason counts.

        Args:
            error: as in `Dialect.closed`.
            code: the WebSocket's close code; None: 1011 with an error, else 1001 at shutdown, else 1000.
            give_way_s: another bridge goes on with the call: what the application has not received after so many
                seconds must not reach it any more. The stream is not over before that is certain.
        """
        if not self._ended.done():
            self._give_way_s, self._close_code = give_way_s, code
            self._ended.set_result((reason, error))
            self._tell_news()

    def _tell_news(self) -> None:
        if self._news is not None:
            self._news.set()

    async def wait(self) -> None:
        """Until all is closed."""
        await asyncio.wait([self._task])

    async def settled(self, timeout_s: float) -> None:
        """Until it is connected and every track is heard, something is in the way of that, or so many seconds pass."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not (self.ended or self.trouble or (self.live and all(t.live for t in self._tracks.values()))):
                    self._news = self._news or asyncio.Event()
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
                await self._pause(error.retry_after_s)
                continue
            self.connects += 1
            self.trouble = None
            log.info("%s connected", self.name)
            call_safely(self._on_connected, self)
            return link
        return None

    async def _until_closed(self, link: Link) -> tuple[int, str]:
        closed = self._link_gone = asyncio.get_running_loop().create_future()

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
        self._tell_news()
        await asyncio.wait((closed, self._ended), return_when=asyncio.FIRST_COMPLETED)
        return closed.result() if closed.done() else (1000, "")

    async def _pause(self, asked_s: float = 0.0) -> None:
        """Wait before the next attempt.

        Args:
            asked_s: how long the server asks to wait; the backoff's wait comes on top, as many streams get one answer.
        """
        await asyncio.wait((self._ended,), timeout=asked_s + self._backoff.next_delay())

    def _say_trouble(self, reason: str) -> None:
        if reason != self.trouble:
            log.warning("%s has no connection: %s; trying again", self.name, reason)
        self.trouble = reason
        self._tell_news()

    async def _close(self) -> None:
        reason, error = self._ended.result() if self._ended.done() else (SHUTTING_DOWN, None)
        self._pump.closed(reason, error)
        for name in tuple(self._tracks):
            self._stop(name, tell=False)
        if self.link is not None:
            code = self._close_code or (1011 if error else 1001 if reason == SHUTTING_DOWN else 1000)
            self.link.close(code, reason, take_back_s=self._give_way_s)
            if self._give_way_s is not None:
                assert self._link_gone is not None  # made with the link
                # An application that has all, but does not answer the Close, is not waited for.
                await asyncio.wait((self._link_gone,), timeout=self._give_way_s + RESET_S)
        if self._closing:
            await asyncio.wait(set(self._closing))
        log.info("%s ended: %s; missed %.0f ms", self.name, reason, self.missed_ms)
        call_safely(self._on_end, self, reason)

    # Tracks

    def _start(self, wanted: TrackPlace, leg: MediaLeg, wait_s: float = 0) -> Track:
        name = wanted.info.name
        track = self._tracks[name] = Track(
            wanted,
            leg,
            self.name.and_also(track=name),
            pump=self._pump,
            taps=self._taps,
            counters=self._counters,
            on_live=self._went_live,
            wait_s=wait_s,
        )
        return track

    def _went_live(self, track: Track) -> None:
        if len(self.parties) < MAX_PARTIES:
            self.parties[track.wanted.info.channel_id] = None
        track.told = track.wanted.hears and (self.dialect.replays or self.link is not None)
        if track.told:
            self._pump.track_started(track.wanted.info)
        self._tell_news()

    def _stop(self, name: str, *, tell: bool = True) -> None:
        track = self._tracks.pop(name)
        if track.told and tell:
            self._pump.track_stopped(name)
        track.silence()
        self._tell_news()
        task = asyncio.create_task(track.close(), name=f"stream {self.stream_id} closes {name}")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
