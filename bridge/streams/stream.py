"""A stream: one WebSocket with an application, and the tracks of a call or conference that it carries.

Tracks start and stop with the call's parties, and the connection may be replaced; neither affects the call. The starter
of a stream decides which tracks it has (`Stream.set_tracks`) and when it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from uuid import UUID

from bridge.ari.dispatch import call_safely
from bridge.audio.format import AudioFormat
from bridge.audio.playout import Playout
from bridge.dialects.base import AgentCommand, CallInfo, CallRequest, Dialect, TrackInfo
from bridge.logs import Fields
from bridge.media.counters import Counters
from bridge.media.dial import LinkFailed, LinkRefused
from bridge.media.leg import MediaLeg
from bridge.media.pump import Pump
from bridge.media.websocket import Link
from bridge.streams import stream_reports
from bridge.streams.agent_session import AgentSession
from bridge.streams.connection import DISCONNECT_S, RESET_S, GivenUp, StreamConnection, opened
from bridge.streams.origin import Origin
from bridge.streams.stream_reports import SERVICE_RESTART
from bridge.streams.track import Recovery
from bridge.streams.tracks import Tracks
from bridge.streams.wanted_tracks import WantedTrack
from bridge.taps.taps import Taps

log = logging.getLogger(__name__)

SHUTTING_DOWN = "the bridge is shutting down"


def _ignore(*_: object) -> None:
    """Ignore events after the end."""


class Stream:
    """One stream; inactive until `start`.

    Args:
        stream_id: short id for logs and lists.
        origin: what started it.
        call: facts about the call that the dialect may send.
        asked: names of the requested tracks (which need not exist yet).
        dialect: the wire format.
        connection: opens its WebSocket.
        taps: opens and closes media legs.
        counters: the process's counters.
        new_playout: creates the queue of one leg.
        window_ms: audio of a dialect that replays, kept during a disconnection, in milliseconds.
        on_dtmf: sends DTMF digits for the application.
        on_end: called once, when everything is closed, with the reason.
        on_connected: called with each connection that was opened.
        is_sensitive: returns whether the audio and digits of these channels must not reach applications now.
        on_agent: called with commands that concern the conversation of a model, or the call.
        agent: the conversation, if the application is a model.
        recovery: decides about reopening lost audio.
    """

    def __init__(
        self,
        stream_id: str,
        origin: Origin,
        call: CallInfo,
        asked: Iterable[str],
        *,
        dialect: Dialect,
        connection: StreamConnection,
        taps: Taps,
        counters: Counters,
        new_playout: Callable[[AudioFormat], Playout],
        window_ms: int,
        on_dtmf: Callable[[str], None],
        on_end: Callable[[Stream, str], None],
        on_connected: Callable[[Stream], object] = _ignore,
        is_sensitive: Callable[[Iterable[str]], bool] = lambda _: False,
        on_agent: Callable[[Stream, AgentCommand | CallRequest], object] = _ignore,
        agent: AgentSession | None = None,
        recovery: Recovery | None = None,
    ) -> None:
        self.stream_id = stream_id
        self.origin = origin
        self.call = call
        self.dialect = dialect
        self.connection = connection
        self.opened_at = time.time()
        self.link: Link | None = None
        self.connects = 0
        """Number of connections opened so far."""
        self.trouble: str | None = None
        """Why there is no connection; None while connected."""
        self.close_code = SERVICE_RESTART
        """The WebSocket's close code once the stream has ended."""
        self._asked = tuple(asked)
        self._counters = counters
        self._on_end = on_end
        self._on_connected = on_connected
        self._is_sensitive = is_sensitive
        self._on_agent = on_agent
        self.agent = agent
        self._news: asyncio.Event | None = None  # since `changed` was first called
        self._flowed = False
        self._dropped_ms = 0.0
        self._handover_grace_s: float | None = None
        self._link_gone: asyncio.Future[tuple[int, str]] | None = None
        self._ended: asyncio.Future[tuple[str, str | None]] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None
        self.reports = stream_reports.InputReports(self, counters)
        dialect.on_discarded = self.reports.discarded
        self._pump = Pump(
            dialect,
            counters,
            on_dtmf=on_dtmf,
            on_refused=self.reports.refused,
            on_agent=self._agent_command,
            window_ms=window_ms,
        )
        self.tracks = Tracks(
            self._pump,
            dialect,
            taps,
            counters,
            label=lambda: self.name,
            new_playout=new_playout,
            recovery=recovery or Recovery(),
            connected=lambda: self.link is not None,
            on_change=self._changed,
            on_failed=self.fail,
        )

    # State for lists

    @property
    def name(self) -> Fields:
        """The stream's fields in log lines."""
        origin = self.origin
        where = {"conference": origin.conference_id} if origin.conference_id else {"call": self.call.call_id}
        return Fields(stream=self.stream_id, **where, dialect=self.dialect.name, started_by=origin.started_by)

    @property
    def live(self) -> bool:
        """Whether the WebSocket is open and audio of every track flows."""
        return self.link is not None and self.tracks.live

    @property
    def dialect_name(self) -> str:
        """The wire format."""
        return self.dialect.name

    @property
    def asked(self) -> tuple[str, ...]:
        """Names of the requested tracks."""
        return self._asked

    @property
    def ended(self) -> bool:
        """Whether the stream has ended, or is about to."""
        return self._ended.done()

    @property
    def sensitive(self) -> bool:
        """Whether the application receives silence instead of the call's audio."""
        return self._pump.silent

    @property
    def dropped_ms(self) -> float:
        """Audio lost because the application did not read, in milliseconds."""
        return self._dropped_ms + (self.link.dropped_ms if self.link is not None else 0.0)

    def describe(self) -> Mapping[str, object]:
        """Return its entry in lists of streams (`bridge.api.models.streams.Stream`)."""
        return stream_reports.described(self, self._pump)

    # Methods for its owner

    def start(self) -> None:
        """Begin to connect; use an accepted connection immediately."""
        self.reports.begin(self._pump)
        try:
            self.review()
            if self.dialect.replays:
                self._pump.opened(self.call, self._asked)
            if self.connection.accepted is not None:
                self._attach(self.connection.accepted)
        except Exception:
            self.fail()
        self._task = asyncio.create_task(self._run(), name=f"stream {self.stream_id}")
        if self.agent is not None:
            self.agent.watch(self)

    def set_tracks(self, wanted: Iterable[WantedTrack]) -> None:
        """Start and stop tracks until exactly these run; queued audio is kept."""
        if not self._ended.done():
            wanted = tuple(wanted)
            self.review(track.info.channel_id for track in wanted)
            self.tracks.set(wanted)

    def ask(self, tracks: Iterable[str]) -> None:
        """Request further tracks by name, for the first message of later connections."""
        self._asked = tuple(dict.fromkeys((*self._asked, *tracks)))

    def adopt(self, info: TrackInfo, uuid: UUID) -> MediaLeg:
        """Return the leg of a connection that Asterisk opens by itself (`AudioSocket()` in the dialplan)."""
        leg = self.tracks.adopt(info, uuid)
        leg.on_closed = lambda: self.end("the call ended")
        return leg

    def review(self, channel_ids: Iterable[str] = ()) -> None:
        """Update the stream to the sensitive mode of its call.

        Args:
            channel_ids: channels whose tracks are about to start.
        """
        self._pump.silent = self._is_sensitive((*self.tracks.channels, *channel_ids))

    @property
    def channel_id(self) -> str:
        """The channel of the first track; empty before it, and in a conference."""
        return self.tracks.first_channel

    @property
    def queued_ms(self) -> float:
        """Audio that waits to be played into the call, in milliseconds."""
        return self._pump.queued_ms

    @property
    def playout_rate(self) -> int:
        """Sampling rate in Hz of audio for `play`; 0: nothing can be played."""
        return self.dialect.rate if self._pump.speaks else 0

    def play(self, pcm: bytes) -> None:
        """Queue audio for the call that is not the application's, s16le mono at `playout_rate`."""
        self._pump.play(pcm)

    def reconnect(self, reason: str) -> None:
        """Drop the connection, as if it had broken."""
        if self.link is not None:
            self.link.abort(1006, reason)

    async def disconnect(self) -> None:
        """Close the connection of an ended stream, and wait until it is closed."""
        self._close_link()
        if self.link is not None and self._link_gone is not None:
            await asyncio.wait((self._link_gone,), timeout=DISCONNECT_S)

    def tool_result(self, id: str, output: str) -> None:
        """Send the result of a tool (`CallTool`) to the model; too late, it is discarded."""
        if not self._ended.done():
            self._pump.tool_result(id, output)

    def request_answered(self, name: str, answer: Mapping[str, Any], error: str = "") -> None:
        """Report the outcome of `CallRequest` to the application; too late, it is discarded."""
        if not self._ended.done():
            self._pump.request_answered(name, answer, error)

    def end(
        self, reason: str, error: str | None = None, *, code: int | None = None, handover_grace_s: float | None = None
    ) -> None:
        """End the stream; the first reason counts.

        Args:
            reason: why, for the application, logs and events.
            error: as in `Dialect.closed`.
            code: the WebSocket's close code; None: 1011 with an error, else 1012 at shutdown, else 1000.
            handover_grace_s: set if another process continues with the call: data that the application has not received
                after this many seconds must not reach it any more. The stream ends only when that is certain.
        """
        if not self._ended.done():
            self._handover_grace_s = handover_grace_s if self.connection.dialed else None
            self.close_code = code or (1011 if error else SERVICE_RESTART if reason == SHUTTING_DOWN else 1000)
            self._ended.set_result((reason, error))
            self._changed()
        elif self.agent is not None and error != "connect_failed":
            self.agent.abandon()  # by the stream's owner

    def fail(self) -> None:
        """Log the exception that is being handled, an internal error, and end the stream."""
        log.exception("stream failed, an internal error %s", self.name)
        self.end("internal error", "internal")

    async def wait(self) -> None:
        """Wait until everything is closed."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def settled(self, timeout_s: float) -> None:
        """Wait until it is live, has ended or has trouble; at most ``timeout_s`` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not (self.ended or self.trouble or self.live):
                    await self.changed()

    async def changed(self) -> None:
        """Wait until the state of its connection or of a track changes."""
        self._news = self._news or asyncio.Event()
        self._news.clear()
        await self._news.wait()

    # The WebSocket

    async def _run(self) -> None:
        try:
            while not self._ended.done():
                if self._link_gone is None and not await self._connect():
                    break
                assert self._link_gone is not None  # created with the link
                began = time.monotonic()
                await asyncio.wait((self._link_gone, self._ended), return_when=asyncio.FIRST_COMPLETED)
                if self._ended.done():
                    break
                code, reason = self._link_gone.result()
                reason = self.agent.hidden(reason) if self.agent is not None else reason
                self._link_gone = None
                broke = f"the connection broke ({code} {reason})" if reason else f"the connection broke ({code})"
                try:
                    wait_s = self.connection.after_close(code, time.monotonic() - began)
                except GivenUp as error:
                    self._give_up(error, broke)
                    break
                if wait_s is None:
                    failed = self.agent is not None and not self.agent.was_ready
                    why = reason or "the application closed the stream"
                    self.end(why, "connect_failed" if failed else None, code=code)
                else:
                    self._report_trouble(broke)
                    await asyncio.wait((self._ended,), timeout=wait_s)
        except Exception:
            self.fail()
        finally:
            await self._close()

    async def _connect(self) -> bool:
        """Open a connection, however long it takes; return False if the stream ends meanwhile."""
        while not self._ended.done():
            try:
                link = await opened(self.connection, self._ended)
            except LinkRefused as error:
                stream_reports.refused(self, error)
                self.trouble = str(error)
                self.end(f"refused: {error}", "connect_failed")
                return False
            except LinkFailed as error:
                try:
                    wait_s = self.connection.after_failure(error)
                except GivenUp as gave_up:
                    self._give_up(gave_up, str(error))
                    return False
                self._report_trouble(str(error))
                await asyncio.wait((self._ended,), timeout=wait_s)
                continue
            if link is not None:
                self._attach(link)
                return True
        return False

    def _attach(self, link: Link) -> None:
        """Use an open connection."""
        self.connects += 1
        self.trouble = None
        log.info("stream connected %s", self.name)
        call_safely(self._on_connected, self)
        closed = self._link_gone = asyncio.get_running_loop().create_future()

        def on_closed(code: int, reason: str) -> None:
            self._dropped_ms += link.dropped_ms
            self.link = None
            self._pump.detach()
            if not closed.done():
                closed.set_result((code, reason))

        if link.closed:
            closed.set_result((1006, "closed immediately"))
            return
        link.on_closed = on_closed
        self.link = link
        self._pump.attach(link)
        if not self.dialect.replays:
            self._pump.opened(self.call, self._asked)
            self.tracks.announce()
        self._changed()

    def _give_up(self, error: GivenUp, trouble: str) -> None:
        stream_reports.gave_up(self, error, trouble)
        self.trouble = trouble
        self.end(f"{error}: {trouble}", "connect_failed")

    def _report_trouble(self, reason: str) -> None:
        if reason != self.trouble:
            stream_reports.disconnected(self, reason)
        self.trouble = reason
        self._changed()

    def _agent_command(self, command: AgentCommand | CallRequest) -> None:
        call_safely(self._on_agent, self, command)

    def _changed(self) -> None:
        """Handle a changed state of the connection or a track."""
        if not self._flowed and self.tracks and self.live:
            self._flowed = True
            self._counters.streams_opened += 1
        if self._news is not None:
            self._news.set()

    async def _close(self) -> None:
        if not self._ended.done():
            self.end(SHUTTING_DOWN)
        reason, error = self._ended.result()
        self._pump.closed(reason, error)
        if self.agent is not None:
            self._close_link()  # the model receives nothing of what follows
            try:
                await self.agent.ended(self, error)
            except Exception:
                log.exception("conversation not ended properly, an internal error %s", self.name)
        self.tracks.stop()
        self._close_link()
        if self.link is not None and self._link_gone is not None and self._handover_grace_s is not None:
            # Do not wait for an application that has received everything but does not answer the Close.
            await asyncio.wait((self._link_gone,), timeout=self._handover_grace_s + RESET_S)
        await self.tracks.closed()
        stream_reports.ended(self, self._pump, reason)
        call_safely(self._on_end, self, reason)
        self._release()

    def _close_link(self) -> None:
        if self.link is not None:
            reason, _ = self._ended.result()
            self.link.close(self.close_code, reason, discard_unacked_after_s=self._handover_grace_s)

    def _release(self) -> None:
        """Drop the references back to this stream: its memory is freed now instead of by the garbage collector."""
        self.reports.end()
        self._on_end = self._on_connected = self._on_agent = _ignore
        self._is_sensitive = lambda _: False
        self._pump.release()
        self.tracks.release()


OnEnd = Callable[[Stream, str], object]
"""Called when a stream has ended, with the reason."""
