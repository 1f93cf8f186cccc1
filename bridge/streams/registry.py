"""The streams of this process: opening within the limit, listing, ending."""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from msgspec import structs

from bridge.access import Principal
from bridge.audio.format import AudioFormat
from bridge.audio.playout import Playout
from bridge.audit import FAILED, NO_AUDIT, OK, Audit, LineValue
from bridge.config import Config
from bridge.dialects.base import AgentCommand, CallInfo, CallRequest, Dialect, ReportedError, Setting, Transcript
from bridge.dialects.model import ModelDialect
from bridge.errors import AriError
from bridge.logs import cause
from bridge.media.call_admission import CallAdmission
from bridge.media.counters import Counters
from bridge.media.dial import Backoff, Destination, LinkRefused, dial
from bridge.media.websocket import Link
from bridge.outbound.gate import Gate
from bridge.streams.agent_session import Agents, AgentSession
from bridge.streams.connection import Dialed, StreamConnection
from bridge.streams.dialing import GetVariable, credential_of, destination_of, variables_of
from bridge.streams.dtmf_queue import DtmfQueue, ignore_digits
from bridge.streams.events import NullPublisher, Publisher, stream_event, transcript_event
from bridge.streams.origin import Origin
from bridge.streams.sensitive import NoneSensitive, SensitiveCalls
from bridge.streams.stream import SHUTTING_DOWN, OnEnd, Stream
from bridge.streams.stream_reports import ended_well
from bridge.streams.subscription import DialplanRoute, Subscription, Target, account_of
from bridge.streams.track import Recovery
from bridge.taps.taps import Taps

log = logging.getLogger(__name__)

HANDOVER_GRACE_S = 0.5
"""Time for an application to receive the last messages when this process stops and others wait to continue."""

GIVE_UP_S = 30.0
"""How long a model may be unavailable, in seconds, where nothing else is configured."""


class AnyStream(Protocol):
    """Audio of a call exchanged with an application (`Stream`), or between Asterisk and a server (`ExternalHost`)."""

    stream_id: str
    origin: Origin
    call: CallInfo
    opened_at: float

    @property
    def dialect_name(self) -> str:
        """The wire format."""

    @property
    def asked(self) -> Sequence[str]:
        """The requested tracks or direction."""

    def describe(self) -> Mapping[str, object]:
        """Return the entry in lists of streams (`bridge.api.models.streams.Stream`)."""

    def review(self) -> None:
        """Update the stream to the sensitive mode of its call."""

    def end(self, reason: str, *, code: int | None = None, handover_grace_s: float | None = None) -> None:
        """End the stream; the first reason counts (`Stream.end`)."""

    async def wait(self) -> None:
        """Wait until everything is closed."""


OnRequest = Callable[[Stream, CallRequest], object]
"""Called with requests of an application to change the call; answers with `Stream.request_answered`."""
NOT_A_CLIENT = "only a program that has opened the media_stream of a call may request this"


class Streams:
    """All streams of this process.

    Args:
        config: the configuration.
        taps: opens and closes media legs.
        counters: the process's counters.
        new_playout: creates the queue of one leg.
        admission: the limit on streams.
        send_dtmf: sends DTMF digits to a channel (its id, the digits).
        gate: hosts that may be connected to.
        events: publishes ``stream_started``, ``stream_connected`` and ``stream_ended``.
        sensitive: which calls are in sensitive mode.
        audit: records their start and end.
        agents: what conversations with models share; None: streams of models have no limits.
        get_variable: returns a variable of a channel (its id, the name); None: there are no variables.
    """

    def __init__(
        self,
        config: Config,
        *,
        taps: Taps,
        counters: Counters,
        new_playout: Callable[[AudioFormat], Playout],
        admission: CallAdmission,
        send_dtmf: Callable[[str, str], Awaitable[None]],
        gate: Gate | None = None,
        events: Publisher | None = None,
        sensitive: SensitiveCalls | None = None,
        audit: Audit = NO_AUDIT,
        agents: Agents | None = None,
        get_variable: GetVariable | None = None,
    ) -> None:
        self._config = config
        self._get_variable = get_variable
        self._agents = agents
        self._gate = gate or Gate()
        self._taps = taps
        self._counters = counters
        self._new_playout = new_playout
        self._admission = admission
        self._send_dtmf = send_dtmf
        self._events = events or NullPublisher()
        self._sensitive = sensitive or NoneSensitive()
        self._audit = audit
        self._streams: dict[str, AnyStream] = {}
        self._numbers = admission.numbers()

    def __len__(self) -> int:
        return len(self._streams)

    def __iter__(self) -> Iterator[AnyStream]:
        return iter(tuple(self._streams.values()))

    def count_of(self, call_id: str) -> int:
        """Return the number of open streams on a call."""
        return sum(stream.call.call_id == call_id for stream in self._streams.values())

    def open(
        self,
        origin: Origin,
        call: CallInfo,
        asked: Iterable[str],
        *,
        dialect: Dialect,
        connection: StreamConnection,
        window_ms: int = 0,
        on_end: OnEnd = lambda *_: None,
        is_sensitive: Callable[[Iterable[str]], bool] | None = None,
        recovery: Recovery | None = None,
        sends_dtmf: bool = True,
        admitted: bool = False,
        agent: AgentSession | None = None,
        on_request: OnRequest | None = None,
    ) -> Stream:
        """Start a stream; it has no tracks until `Stream.set_tracks`.

        Args:
            origin: what started it.
            call: facts about the call.
            asked: names of the requested tracks.
            dialect: the wire format.
            connection: opens its WebSocket.
            window_ms: audio kept during a disconnection, in milliseconds.
            on_end: called once when everything is closed, with the reason.
            is_sensitive: returns whether the audio and digits of these channels must not be sent now; None: if they, or
                the call, are in sensitive mode.
            recovery: decides about reopening lost audio.
            sends_dtmf: the application may send DTMF digits to the channel of its first track.
            admitted: part of an admitted call (`CallAdmission.check`).
            agent: the conversation, if the application is a model.
            on_request: called with requests of the application to change the call; None: they are refused.

        Raises:
            Overloaded: the limit is reached.
        """
        stream_id = self.new_id("p" if connection.dialed else "s", admitted=admitted)

        def covers(channels: Iterable[str]) -> bool:
            return any(map(self._sensitive.covers, filter(None, (stream.call.call_id, *channels))))

        def ended(stream: Stream, reason: str) -> None:
            keys.close()
            self.remove(
                stream,
                reason,
                good=ended_well(stream),
                parties=list(stream.tracks.parties),
                code=stream.close_code,
                connects=stream.connects,
            )
            on_end(stream, reason)

        async def send_dtmf(digits: str) -> None:
            try:
                await self._send_dtmf(stream.tracks.first_channel, digits)
            except AriError as error:  # the party is not in the Stasis application, or has gone
                log.warning("DTMF digits not sent %s error=%s", stream.name, error, extra=cause(stream_id))

        def commanded(stream: Stream, command: AgentCommand | CallRequest) -> None:
            if not isinstance(command, CallRequest):
                self._agent_command(stream, command)
            elif on_request is not None:
                on_request(stream, command)
            else:
                stream.request_answered(command.name, {"reason": "STATE_INVALID"}, NOT_A_CLIENT)

        keys = DtmfQueue(send_dtmf, self._counters)
        stream = Stream(
            stream_id,
            origin,
            call,
            asked,
            dialect=dialect,
            connection=connection,
            taps=self._taps,
            counters=self._counters,
            new_playout=self._new_playout,
            window_ms=window_ms,
            on_dtmf=keys.add if sends_dtmf else ignore_digits,
            on_end=ended,
            on_connected=self.connected,
            is_sensitive=is_sensitive or covers,
            on_agent=commanded,
            agent=agent,
            recovery=recovery,
        )
        self.add(stream)
        stream.start()
        return stream

    def new_id(self, kind: str, *, admitted: bool = False) -> str:
        """Return an id for a new stream.

        Args:
            kind: its first letter.
            admitted: part of an admitted call.

        Raises:
            Overloaded: the limit is reached.
        """
        self._admission.check(admitted=admitted)
        return f"{kind}{next(self._numbers)}"

    def add(self, stream: AnyStream) -> None:
        """Count, publish and record the start of a stream."""
        self._streams[stream.stream_id] = stream
        self._admission.open += 1
        self._publish("stream_started", stream)
        self._audit.record("stream.start", stream.origin.principal, **_audited(stream))

    def connected(self, stream: AnyStream) -> None:
        """Publish that the other side has accepted the connection."""
        self._publish("stream_connected", stream)

    def remove(self, stream: AnyStream, reason: str, *, good: bool, **ending: LineValue) -> None:
        """Publish and record the end of a stream.

        Args:
            stream: the stream.
            reason: why it ended.
            good: it ended as it should.
            ending: further values for the audit log.
        """
        del self._streams[stream.stream_id]
        self._admission.open -= 1
        self._publish("stream_ended", stream, reason)
        seconds = round(time.time() - stream.opened_at, 3)
        values = _audited(stream) | {"reason": reason, "seconds": seconds} | ending
        self._audit.record("stream.end", stream.origin.principal, OK if good else FAILED, **values)

    def dial(
        self,
        started_by: str,
        call: CallInfo,
        asked: Iterable[str],
        target: Target,
        on_end: OnEnd,
        *,
        principal: Principal,
        two_way: bool = False,
        admitted: bool = False,
        before: Callable[[Stream], Awaitable[object]] | None = None,
    ) -> Stream:
        """Start a stream to an application that asterisk-bridge connects to; without tracks until `Stream.set_tracks`.

        Args:
            started_by: what starts it, for logs and lists.
            call: facts about the call.
            asked: names of the requested tracks.
            target: the application and its dialect.
            on_end: called once when everything is closed, with the reason.
            principal: who causes it.
            two_way: the application may send audio, if its dialect supports it.
            admitted: part of an admitted call.
            before: awaited with the stream before each connection attempt.

        Raises:
            Overloaded: the limit is reached.
        """
        settings, account = self._config.streams, account_of(self._config, target.dialect)
        dialect = target.new_dialect(Setting(target.layout, two_way, account))
        agent, give_up_s = None, target.give_up_s if isinstance(target, DialplanRoute) else 0
        if isinstance(dialect, ModelDialect) and self._agents is not None:
            owner = target.counted_as or started_by
            agent = AgentSession(self._agents, owner, target.agent, dialect, configured=target.host_configured)
            give_up_s = give_up_s or GIVE_UP_S

        async def destination(call: CallInfo) -> Destination:
            credential = await credential_of(target)
            try:
                return destination_of(target, dialect, account, call, ca_dir=ca_dir, credential=credential)
            except ValueError as problem:  # due to the facts about the call, or the key of a model
                raise LinkRefused(0, str(problem)) from None

        ca_dir = None if target.configured else self._gate.ca_dir
        constant = destination_of(target, dialect, account, call, ca_dir=ca_dir)
        varies = agent is not None or target.varies or bool(target.channel_variables)

        async def dial() -> Link:
            stream = opened()
            assert stream is not None  # it waits for this connection
            if before is not None:
                await before(stream)
            if target.channel_variables and not stream.call.variables:
                await self._read_variables(stream, target.channel_variables)
            if agent is not None:
                await agent.prepare(stream.call)
            return await self._dial(await destination(stream.call) if varies else constant)

        started = self.open(
            Origin(
                started_by,
                principal,
                plays=two_way and dialect.two_way,
                application=target.display_url,
                subscription_id=target.id if isinstance(target, Subscription) else "",
            ),
            call,
            asked,
            dialect=dialect,
            connection=Dialed(dial, Backoff(settings.retry_first_s, settings.retry_last_s), give_up_s),
            window_ms=settings.window_ms if target.window_ms is None else target.window_ms,
            on_end=on_end,
            admitted=admitted,
            agent=agent,
        )
        opened = weakref.ref(started)  # the stream refers to `dial`: a cycle would wait for the garbage collector
        return started

    async def _read_variables(self, stream: Stream, names: tuple[str, ...]) -> None:
        """Add channel variables to the facts about a stream's call."""
        if self._get_variable is None:
            return
        channels = tuple(dict.fromkeys(filter(None, (stream.call.call_id, stream.tracks.first_channel))))
        variables = await variables_of(names, channels, self._get_variable)
        stream.call = structs.replace(stream.call, variables=variables)

    def key_pressed(self, channel_id: str, digit: str) -> None:
        """Report a DTMF digit of a party that ARI reported."""
        for stream in self:
            if isinstance(stream, Stream):
                stream.tracks.key_pressed(channel_id, digit)

    def end_of_principal(self, principal_id: str, code: int, reason: str) -> int:
        """End every stream of a principal with a close code; return how many."""
        streams = [stream for stream in self if stream.origin.principal.id == principal_id]
        for stream in streams:
            stream.end(reason, code=code)
        return len(streams)

    def asterisk_lost(self, reason: str) -> None:
        """End the streams of all calls, which Asterisk has lost or is ending; those of conferences are reopened."""
        for stream in self:
            if stream.origin.conference_id:
                continue
            if isinstance(stream, Stream):
                stream.end(reason, "asterisk_restarted")
            else:
                stream.end(reason)

    def review(self) -> None:
        """Update every stream to the sensitive mode of its call."""
        for stream in self:
            stream.review()

    async def stop(self) -> None:
        """End every stream and wait until all are closed; in a cluster, until other nodes may continue."""
        streams, grace_s = tuple(self), HANDOVER_GRACE_S if self._config.cluster.enabled else None
        for stream in streams:
            stream.end(SHUTTING_DOWN, handover_grace_s=grace_s)
        if streams:
            await asyncio.wait([asyncio.ensure_future(stream.wait()) for stream in streams], timeout=10)

    def _agent_command(self, stream: Stream, command: AgentCommand) -> None:
        """Execute a command of a model that does not concern audio."""
        if stream.agent is not None and not stream.agent.admits(stream):
            return
        if isinstance(command, Transcript):
            if stream.agent is not None:
                stream.agent.spoke()
            data = transcript_event(stream.stream_id, stream.call.call_id, command.party, command.text)
            if command.final:
                self._events.publish("transcript_created", data)
            else:
                self._events.publish("transcribe_speech_interim", data)
        elif isinstance(command, ReportedError):
            text = stream.agent.hidden(command.text) if stream.agent is not None else command.text
            log.warning("application reports an error %s error=%s", stream.name, text, extra=cause())
        elif stream.agent is None or not stream.agent.use_tool(command):
            stream.tool_result(command.id, f"unknown tool {command.name!r}")

    def _publish(self, event: str, stream: AnyStream, reason: str = "") -> None:
        origin, principal = stream.origin, stream.origin.principal.id
        ids = (stream.stream_id, stream.call.call_id, origin.started_by, stream.dialect_name, principal)
        self._events.publish(event, stream_event(*ids, reason, conference_id=origin.conference_id))

    async def _dial(self, destination: Destination) -> Link:
        return await dial(
            destination,
            self._counters,
            gate=self._gate,
            connect_timeout_s=self._config.streams.connect_timeout_s,
            max_unsent_ms=self._config.media.max_unsent_ms,
            ping_interval_s=self._config.media.ping_interval_s,
            max_message_bytes=self._config.http.max_message_bytes,
            max_text_bytes=self._config.http.max_text_bytes,
        )


def _audited(stream: AnyStream) -> dict[str, LineValue]:
    origin = stream.origin
    return {
        "stream": stream.stream_id,
        "call": stream.call.call_id,
        "party": origin.party_id,
        "conference": origin.conference_id,
        "started_by": origin.started_by,
        "subscription": origin.subscription_id,
        "dialect": stream.dialect_name,
        "application": origin.application,
        "listen": stream.asked,
        "speak": origin.plays,
    }
