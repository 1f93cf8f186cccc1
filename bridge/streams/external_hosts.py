"""Opens external media between the PBX and other servers, within the limit, and knows all that there are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Mapping

from bridge.access import Principal
from bridge.ari.client import AriClient
from bridge.audio.format import AudioFormat
from bridge.audio.playout import Playout
from bridge.audit import FAILED, OK, Audit, Value
from bridge.calls.ids import OwnIds
from bridge.control.legs import Leg
from bridge.media.counters import Counters
from bridge.outbound.gate import Gate
from bridge.streams.events import Publisher, stream_event
from bridge.streams.external_host import ExternalHost
from bridge.streams.flow_options import ExternalServer
from bridge.streams.limit import StreamLimit
from bridge.streams.sensitive import SensitiveCalls
from bridge.taps.taps import Taps

SILENCED_S = 5.0
"""How long a request for sensitive mode waits at most until each is disconnected from its party."""
DIALECT = "asterisk"
"""What lists and events show as the dialect: the PBX speaks to the server, not we."""
EXTERNAL_MEDIA_LABEL = "flow:external_media_start"
"""What lists and events show as what has started it."""
NOT_COUNTED = (
    *("queued_ms", "unsent_ms", "dropped_to_application_ms", "dropped_from_application_ms", "discarded_messages"),
)


class ExternalHosts:
    """All external media between the PBX and other servers.

    Args:
        room: the limit that all streams share.
        gate: what Asterisk may be told to send audio to.
        new_playout: makes the queue of the leg that feeds a bridge.
        events: where ``stream_started``, ``stream_connected`` and ``stream_ended`` are published.
        sensitive: which calls are in sensitive mode.
        audit: where their start and end are recorded.
    """

    def __init__(
        self,
        *,
        client: AriClient,
        ids: OwnIds,
        taps: Taps,
        counters: Counters,
        room: StreamLimit,
        gate: Gate,
        new_playout: Callable[[AudioFormat], Playout],
        events: Publisher,
        sensitive: SensitiveCalls,
        audit: Audit,
    ) -> None:
        self._client = client
        self._ids = ids
        self._taps = taps
        self._counters = counters
        self._room = room
        self._gate = gate
        self._new_playout = new_playout
        self._events = events
        self._sensitive = sensitive
        self._audit = audit
        self._hosts: dict[str, ExternalHost] = {}
        self._call_ids: dict[str, str] = {}
        self._numbers = room.numbers()

    def __iter__(self) -> Iterator[ExternalHost]:
        return iter(tuple(self._hosts.values()))

    @property
    def object_ids(self) -> Collection[str]:
        """Ids of all channels and bridges that were made for them."""
        return {object_id for host in self for object_id in host.object_ids}

    @property
    def described(self) -> list[Mapping[str, object]]:
        """What lists of streams say about each; none of the audio is counted, as none passes through us."""
        return [
            {
                "id": host.stream_id,
                "call_id": self._call_ids[host.stream_id],
                "channel_id": host.leg.id,
                "started_by": EXTERNAL_MEDIA_LABEL,
                "principal": host.principal.id,
                "dialect": DIALECT,
                "direction_listen": host.server.listen,
                "live": host.live,
                "sensitive": host.sensitive,
                "opened_at": host.opened_at,
                **dict.fromkeys(NOT_COUNTED, 0),
            }
            for host in self
        ]

    def end_of_principal(self, principal_id: str, reason: str) -> int:
        """End all that a principal caused; return how many."""
        hosts = [host for host in self if host.principal.id == principal_id]
        for host in hosts:
            host.end_soon(reason)
        return len(hosts)

    async def silenced(self) -> None:
        """Wait until those whose call is in sensitive mode are disconnected from their party."""
        await asyncio.gather(*(host.silenced(SILENCED_S) for host in self))

    def review(self) -> None:
        """Disconnect those whose call is in sensitive mode from their party, and connect the others again."""
        for host in self:
            host.moved()

    def open(
        self,
        call_id: str,
        leg: Leg,
        server: ExternalServer,
        principal: Principal,
        on_end: Callable[[ExternalHost], object],
    ) -> ExternalHost:
        """Open one; its life goes on in a task of its own.

        Raises:
            Overloaded: there is no room for it.
        """
        self._room.check()

        def tell(event: str, host: ExternalHost, reason: str = "") -> None:
            data = stream_event(host.stream_id, call_id, EXTERNAL_MEDIA_LABEL, DIALECT, principal.id, reason)
            self._events.publish(event, data)

        def ended(host: ExternalHost, reason: str) -> None:
            del self._hosts[host.stream_id], self._call_ids[host.stream_id]
            self._room.open -= 1
            tell("stream_ended", host, reason)
            seconds = round(time.time() - host.opened_at, 3)
            outcome = OK if host.live else FAILED
            self._audit.record("stream.end", principal, outcome, **audited, reason=reason, seconds=seconds)
            on_end(host)

        host = ExternalHost(
            f"x{next(self._numbers)}",
            leg,
            server,
            principal=principal,
            client=self._client,
            ids=self._ids,
            taps=self._taps,
            counters=self._counters,
            gate=self._gate,
            new_playout=self._new_playout,
            on_open=lambda host: tell("stream_connected", host),
            on_end=ended,
            is_sensitive=lambda: self._sensitive.covers(leg.id),
        )
        self._hosts[host.stream_id] = host
        self._call_ids[host.stream_id] = call_id
        self._room.open += 1
        tell("stream_started", host)
        audited: dict[str, Value] = {
            "stream": host.stream_id,
            "call": call_id,
            "party": leg.id,
            "started_by": EXTERNAL_MEDIA_LABEL,
            "dialect": DIALECT,
            "application": server.host,
            "listen": [server.listen],
            "speak": bool(server.speak),
        }
        self._audit.record("stream.start", principal, **audited)
        return host
