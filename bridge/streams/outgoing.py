"""Starts the streams that we dial, within the limit, and knows all that there are."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator

from bridge.access import Principal
from bridge.audio.format import AudioFormat
from bridge.audio.playout import Playout
from bridge.audit import FAILED, NO_AUDIT, OK, Audit, Value
from bridge.config import Config
from bridge.dialects.base import CallInfo, Setting
from bridge.errors import Overloaded
from bridge.media.counters import Counters
from bridge.media.dial import Backoff, Destination, dial
from bridge.media.websocket import Link
from bridge.outbound.gate import Gate
from bridge.streams.events import Nobody, Publisher, stream_event
from bridge.streams.keys import KeyPresses
from bridge.streams.limit import StreamLimit
from bridge.streams.pushed import SHUTTING_DOWN, PushedStream
from bridge.streams.sensitive import NoneSensitive, SensitiveCalls
from bridge.streams.subscription import Subscription, Target, account_of
from bridge.taps.taps import Taps

log = logging.getLogger(__name__)

GIVE_WAY_S = 0.5
"""What an application may take to receive our last words when we are stopped and others wait to go on."""


class Outgoing:
    """All streams that this process has dialled.

    Args:
        room: the limit that all streams share.
        press: presses keys on a channel (its id, the digits).
        gate: what may be connected to.
        events: where ``stream_started``, ``stream_connected`` and ``stream_ended`` are published.
        sensitive: which calls are in sensitive mode.
        audit: where their start and end are recorded.
    """

    def __init__(
        self,
        config: Config,
        *,
        taps: Taps,
        counters: Counters,
        new_playout: Callable[[AudioFormat], Playout],
        room: StreamLimit,
        press: Callable[[str, str], Awaitable[None]],
        gate: Gate | None = None,
        events: Publisher | None = None,
        sensitive: SensitiveCalls | None = None,
        audit: Audit = NO_AUDIT,
    ) -> None:
        self._config = config
        self._gate = gate or Gate()
        self._taps = taps
        self._counters = counters
        self._new_playout = new_playout
        self._room = room
        self._press = press
        self._events = events or Nobody()
        self._sensitive = sensitive or NoneSensitive()
        self._audit = audit
        self._streams: dict[str, PushedStream] = {}
        self._numbers = room.numbers()

    def __len__(self) -> int:
        return len(self._streams)

    def __iter__(self) -> Iterator[PushedStream]:
        return iter(tuple(self._streams.values()))

    def start(
        self,
        label: str,
        call: CallInfo,
        tracks: Iterable[str],
        target: Target,
        on_end: Callable[[PushedStream, str], None],
        *,
        principal: Principal,
        two_way: bool = False,
    ) -> PushedStream | None:
        """Start a stream as `open` does; None if there is no room, which is logged."""
        try:
            return self.open(label, call, tracks, target, on_end, principal=principal, two_way=two_way)
        except Overloaded as error:
            log.warning("call=%s of=%s not streamed: %s", call.call_id, label, error)
            return None

    def open(
        self,
        label: str,
        call: CallInfo,
        tracks: Iterable[str],
        target: Target,
        on_end: Callable[[PushedStream, str], None],
        *,
        principal: Principal,
        two_way: bool = False,
    ) -> PushedStream:
        """Start a stream; it has no tracks until `PushedStream.set_tracks`.

        Args:
            label: what starts it, for logs and lists.
            tracks: names of the tracks that are asked for.
            target: the application, and what it speaks.
            principal: who causes it.
            two_way: let the application speak where its dialect can.

        Raises:
            Overloaded: there is no room for it.
        """
        self._room.check()
        account = account_of(self._config, target.dialect)
        dialect = target.new_dialect(Setting(target.layout, two_way, account))
        headers = {**target.headers, **dialect.handshake_headers(target.url, account)}
        destination = Destination(
            target.url,
            headers,
            verify=target.verify_tls,
            ca_file=target.ca_file,
            ca_dir=None if target.configured else self._gate.ca_dir,
            configured=target.host_configured,
        )
        settings = self._config.streams

        keys = KeyPresses(lambda digits: self._press(stream.first_channel, digits), self._counters)

        def ended(stream: PushedStream, reason: str) -> None:
            keys.close()
            if self._streams.pop(stream.stream_id, None) is not None:
                self._room.open -= 1
            self._publish("stream_ended", stream, reason)
            ending: dict[str, Value] = {
                "call": stream.call.call_id,
                "parties": list(stream.parties),
                "reason": reason,
                "seconds": round(time.time() - stream.opened_at, 3),
                "connects": stream.connects,
            }
            outcome = OK if stream.connects else FAILED
            self._audit.record("stream.end", principal, outcome, **audited | ending)
            on_end(stream, reason)

        stream = PushedStream(
            f"p{next(self._numbers)}",
            label,
            call,
            tracks,
            dialect=dialect,
            dial=lambda: self._dial(destination),
            backoff=Backoff(settings.retry_first_s, settings.retry_last_s),
            taps=self._taps,
            counters=self._counters,
            new_playout=self._new_playout,
            window_ms=settings.window_ms if target.window_ms is None else target.window_ms,
            on_end=ended,
            on_dtmf=keys.add,
            principal=principal,
            on_connected=lambda stream: self._publish("stream_connected", stream),
            is_sensitive=self._sensitive.covers,
        )
        self._streams[stream.stream_id] = stream
        self._room.open += 1
        self._counters.streams_opened += 1
        self._publish("stream_started", stream)
        audited: dict[str, Value] = {
            "stream": stream.stream_id,
            "call": call.call_id,
            "started_by": label,
            "subscription": target.id if isinstance(target, Subscription) else "",
            "dialect": dialect.name,
            "application": target.place,
            "listen": stream.asked,
            "speak": two_way and dialect.two_way,
        }
        self._audit.record("stream.start", principal, **audited)
        return stream

    def key_pressed(self, channel_id: str, digit: str) -> None:
        """A party pressed a key, as ARI tells."""
        for stream in self:
            stream.key_pressed(channel_id, digit)

    def end_of_principal(self, principal_id: str, code: int, reason: str) -> int:
        """End every stream that a principal caused, with this close code; return how many."""
        streams = [stream for stream in self if stream.principal.id == principal_id]
        for stream in streams:
            stream.end(reason, code=code)
        return len(streams)

    def review(self) -> None:
        """Let every stream adopt or leave sensitive mode, as its call has."""
        for stream in self:
            stream.review()

    async def stop(self) -> None:
        """End every stream and wait until all is closed; where there are other bridges, until they may begin."""
        streams = tuple(self)
        give_way_s = GIVE_WAY_S if self._config.cluster.enabled else None
        for stream in streams:
            stream.end(SHUTTING_DOWN, give_way_s=give_way_s)
        if streams:
            await asyncio.wait([asyncio.ensure_future(stream.wait()) for stream in streams], timeout=10)

    def _publish(self, event: str, stream: PushedStream, reason: str = "") -> None:
        call_id, dialect = stream.call.call_id, stream.dialect.name
        principal = stream.principal.id
        self._events.publish(event, stream_event(stream.stream_id, call_id, stream.label, dialect, principal, reason))

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
