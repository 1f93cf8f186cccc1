"""Streams that a flow starts and stops: ``external_media_start`` and ``STREAM``.

They end with the flow, and with the party that they were started for, after the dialect's last message. They follow the
party to other bridges.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import Literal

from msgspec import Struct, field

from bridge.access import Principal
from bridge.config import PbxConfig
from bridge.control.legs import Leg, LegEnded
from bridge.dialects.base import CallInfo
from bridge.errors import Overloaded
from bridge.media.call_admission import CallAdmission
from bridge.streams.external_host import ExternalHost
from bridge.streams.flow_facts import FlowFacts, Numbers
from bridge.streams.flow_options import (
    ExternalApplication,
    ExternalServer,
    FlowDirection,
    FlowTarget,
    StreamStart,
    StreamStop,
)
from bridge.streams.inbound import CallFinder
from bridge.streams.origin import Origin
from bridge.streams.registry import AnyStream, Streams
from bridge.streams.sensitive import NoneSensitive, SensitiveCalls
from bridge.streams.stream import Stream
from bridge.streams.wanted_tracks import flow_tracks
from bridge.tasks import first_of

log = logging.getLogger(__name__)

MAX_EXTERNAL_MEDIA = 5
"""Limit of simultaneous external media of one party."""
SETTLE_S = 0.5
"""A start returns when audio flows, at the latest after this time: the application should receive what follows."""
BACK_S = 0.3
"""Wait after a party has left its bridge, in seconds, as it usually enters another."""
STREAM_LABEL = "flow:STREAM"
EXTERNAL_MEDIA_LABEL = "flow:external_media_start"


class _Started(Struct, eq=False):
    """One stream of a flow."""

    kind: Literal["external_media", "stream"]
    stream: Stream
    url: str
    name: str
    tracks: dict[str, FlowDirection]
    """Requested audio by the track's name."""
    speak: FlowDirection


class _OfLeg(Struct, eq=False):
    """The streams of one leg."""

    leg: Leg
    streams: list[_Started] = []
    hosts: list[ExternalHost] = []
    watch: asyncio.Task[None] | None = None
    later: asyncio.TimerHandle | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set whenever one of them has ended."""

    @property
    def media(self) -> int:
        """Number of external media among them."""
        return sum(started.kind == "external_media" for started in self.streams) + len(self.hosts)


class FlowStreams:
    """All streams that flows have started, by leg.

    Args:
        calls: the current calls, for numbers.
        naming: how numbers and trunks are recognized.
        streams: all streams of this process.
        new_host: creates external media between the PBX and another server.
        admission: the limit on streams.
        numbers: returns caller and callee of an originated call, by its channel's id; None for any other.
        sensitive: which calls are in sensitive mode.
    """

    def __init__(
        self,
        *,
        calls: CallFinder,
        naming: PbxConfig,
        streams: Streams,
        new_host: Callable[..., ExternalHost],
        admission: CallAdmission,
        numbers: Callable[[str], Numbers | None] = lambda _: None,
        sensitive: SensitiveCalls | None = None,
    ) -> None:
        self._streams = streams
        self._new_host = new_host
        self._admission = admission
        self._facts = FlowFacts(calls, naming, numbers)
        self._sensitive = sensitive or NoneSensitive()
        self._legs: dict[Leg, _OfLeg] = {}
        self._others: dict[Leg, tuple[Leg, asyncio.Task[None]]] = {}
        """The party connected with a leg, by the leg."""

    @property
    def object_ids(self) -> Collection[str]:
        """Ids of all channels and bridges of external media to other servers; for the sweep."""
        return {object_id for host in self._hosts for object_id in host.object_ids}

    async def silenced(self) -> None:
        """Wait until external media to other servers is disconnected from parties in sensitive mode."""
        await asyncio.gather(*(host.silenced() for host in self._hosts))

    @property
    def _hosts(self) -> list[ExternalHost]:
        return [host for of_leg in self._legs.values() for host in of_leg.hosts]

    def of(self, leg: Leg) -> list[Stream]:
        """Return the streams to applications that were started for a leg."""
        of_leg = self._legs.get(leg)
        return [started.stream for started in of_leg.streams] if of_leg else []

    def started(self, leg: Leg) -> list[tuple[str, str, Stream]]:
        """Return name, URL and stream of each `stream_start` for a leg that has not been stopped."""
        of_leg = self._legs.get(leg)
        streams = of_leg.streams if of_leg else []
        return [(each.name, each.url, each.stream) for each in streams if each.kind == "stream"]

    async def facts_of(self, leg: Leg) -> CallInfo:
        """Return the facts of a leg's call, for templates."""
        return await self._facts.call_of(leg)

    # external_media_start, external_media_stop

    async def external_media_start(
        self, leg: Leg, wanted: ExternalApplication | ExternalServer, principal: Principal
    ) -> Stream | ExternalHost:
        """Open external media; return when audio flows, at the latest after half a second.

        An unreachable server does not delay the flow, and connecting is retried as for any stream.

        Args:
            leg: the party.
            wanted: the request.
            principal: who causes it.

        Raises:
            Overloaded: the party has 5 already, or ``media.max_streams`` is reached.
            LegEnded: the party is gone.
            AriError: the party could not be answered.
        """
        media = self._legs.get(leg, _OfLeg(leg)).media
        if media >= MAX_EXTERNAL_MEDIA:
            raise Overloaded(f"the limit of {MAX_EXTERNAL_MEDIA} external media of a call is reached")
        if isinstance(wanted, ExternalServer):
            return await self._start_host(leg, wanted, principal)
        target = wanted.target
        tracks: dict[str, FlowDirection] = {wanted.track: wanted.listen} if wanted.listen else {}
        return await self._start(
            *(leg, EXTERNAL_MEDIA_LABEL, (wanted.track,), target, principal),
            lambda stream: _Started("external_media", stream, target.url, "", tracks, wanted.speak),
        )

    async def external_media_stop(self, leg: Leg) -> None:
        """End all external media of a leg, and wait until they have ended."""
        of_leg = self._legs.get(leg)
        if of_leg is not None:
            media = [started.stream for started in of_leg.streams if started.kind == "external_media"]
            await self._end([*media, *of_leg.hosts], "the flow stopped it")

    async def external_media_over(self, leg: Leg) -> None:
        """Wait until a leg has no external media: the other side or the call has ended."""
        while (of_leg := self._legs.get(leg)) is not None and of_leg.media:
            of_leg.ended.clear()
            await of_leg.ended.wait()

    # STREAM

    async def stream_start(
        self, leg: Leg, wanted: StreamStart, principal: Principal, label: str = STREAM_LABEL
    ) -> Stream:
        """Start a stream, or add tracks to the one with the same URL and dialect.

        Returns when audio flows, at the latest after half a second.

        Args:
            leg: the party.
            wanted: the request.
            principal: who causes it.
            label: what starts it, for logs and lists.

        Returns:
            The stream; its ``wait()`` returns when it has ended: for ``connect``.

        Raises:
            Overloaded: ``media.max_streams`` is reached.
            LegEnded: the party is gone.
            AriError: the party could not be answered.
        """
        target, tracks = wanted.target, dict(wanted.tracks)
        of_leg = self._legs.get(leg)
        running = self._running(of_leg, wanted) if of_leg is not None else None
        if of_leg is not None and running is not None:
            running.tracks |= tracks
            running.stream.ask(tracks)
            if wanted.data is not None:
                running.stream.dialect.update(wanted.data)
            self._arrange(of_leg, running)
            await running.stream.settled(SETTLE_S)
            return running.stream
        speak: FlowDirection = "both" if target.sends_audio else ""
        return await self._start(
            *(leg, label, tracks, target, principal),
            lambda stream: _Started("stream", stream, target.url, wanted.name, tracks, speak),
        )

    async def stream_stop(self, leg: Leg, wanted: StreamStop) -> None:
        """Stop tracks of a stream (by default all), and end it when none is left.

        Selects the stream with the URL; without a URL, with the name; without both, all. No match is not an error.
        Returns when the tracks have stopped and ended streams are closed.
        """
        of_leg = self._legs.get(leg)
        if of_leg is None:
            return
        over = []
        for started in [one for one in of_leg.streams if one.kind == "stream"]:
            if wanted.url and started.url != wanted.url:
                continue
            if not wanted.url and wanted.name and started.name != wanted.name:
                continue
            if wanted.data is not None:
                started.stream.dialect.update(wanted.data)
            named = wanted.tracks
            started.tracks = {name: spy for name, spy in started.tracks.items() if named and name not in named}
            if started.tracks:
                self._arrange(of_leg, started)
            else:
                over.append(started)
        await self._end([started.stream for started in over], "the flow stopped it")

    # Events of legs

    def transfer_joined(self, leg: Leg, other: Leg) -> None:
        """Start tracks named ``transfer``, until ``other`` leaves: it was called for ``leg`` and has answered."""
        self.transfer_left(leg)
        watch = asyncio.create_task(self._until_left(leg, other), name=f"streams of {leg.id} watch {other.id}")
        self._others[leg] = (other, watch)
        self._arrange_all(leg)

    def transfer_left(self, leg: Leg) -> None:
        """Stop tracks named ``transfer``: the party connected with ``leg`` has left."""
        before = self._others.pop(leg, None)
        if before is not None:
            before[1].cancel()
            self._arrange_all(leg)

    def moved(self, channel_id: str) -> None:
        """Follow a leg to another bridge, to none, or to another channel (`Legs.on_moved`)."""
        of_leg = next((each for leg, each in self._legs.items() if leg.id == channel_id), None)
        if of_leg is None:
            return
        if of_leg.later is not None:
            of_leg.later.cancel()
            of_leg.later = None
        if of_leg.leg.bridge_id is None:
            of_leg.later = asyncio.get_running_loop().call_later(BACK_S, self._arrange_all, of_leg.leg)
        else:
            self._arrange_all(of_leg.leg)

    async def stop(self, leg: Leg, reason: str = "the flow ended") -> None:
        """End everything that was started for a leg, and wait until it has ended."""
        self.transfer_left(leg)
        of_leg = self._legs.get(leg)
        if of_leg is not None:
            await self._end([*self.of(leg), *of_leg.hosts], reason)

    async def close(self) -> None:
        """End all streams, for the end of the process."""
        await asyncio.gather(*(self.stop(each.leg, "the bridge is shutting down") for each in [*self._legs.values()]))
        for _, watch in self._others.values():
            watch.cancel()
        self._others.clear()

    # Internals

    async def _call_of(self, leg: Leg) -> CallInfo:
        """Return the facts of a leg's call, after answering and bridging the leg."""
        self._admission.check(admitted=True)
        if leg.gone.is_set():
            raise LegEnded(f"the channel {leg.id} has ended")
        if leg.bridge_id is None:
            await leg.hold_in_bridge()
        call = await self._facts.call_of(leg)
        if leg.gone.is_set():
            raise LegEnded(f"the channel {leg.id} has ended")
        return call

    def _of(self, leg: Leg) -> _OfLeg:
        """Return the entry of a leg; the caller must add a stream immediately."""
        of_leg = self._legs.get(leg)
        if of_leg is None:
            of_leg = self._legs[leg] = _OfLeg(leg)
            of_leg.watch = asyncio.create_task(self._until_gone(leg), name=f"streams of {leg.id} watch it")
        return of_leg

    async def _start(
        self,
        leg: Leg,
        label: str,
        tracks: Collection[str],
        target: FlowTarget,
        principal: Principal,
        make: Callable[[Stream], _Started],
    ) -> Stream:
        call = await self._call_of(leg)
        stream = self._streams.dial(
            *(label, call, tracks, target, lambda stream, _: self._ended(leg, stream)),
            principal=principal,
            two_way=target.two_way,
            admitted=True,
        )
        of_leg = self._of(leg)
        started = make(stream)
        of_leg.streams.append(started)
        self._arrange(of_leg, started)
        await stream.settled(SETTLE_S)
        return stream

    async def _start_host(self, leg: Leg, server: ExternalServer, principal: Principal) -> ExternalHost:
        call = await self._call_of(leg)
        origin = Origin(
            EXTERNAL_MEDIA_LABEL, principal, party_id=leg.id, plays=bool(server.speak), application=server.host
        )

        def ended(host: ExternalHost, reason: str) -> None:
            self._streams.remove(host, reason, good=host.live)
            self._ended(leg, host)

        host = self._new_host(
            *(self._streams.new_id("x", admitted=True), origin, call, leg, server),
            on_open=self._streams.connected,
            on_end=ended,
            is_sensitive=lambda: self._sensitive.covers(leg.id),
        )
        self._streams.add(host)
        self._of(leg).hosts.append(host)
        await host.settled(SETTLE_S)
        return host

    async def _end(self, streams: Collection[AnyStream], reason: str) -> None:
        for stream in streams:
            stream.end(reason)
        await asyncio.gather(*(stream.wait() for stream in streams))

    def _ended(self, leg: Leg, stream: AnyStream) -> None:
        of_leg = self._legs.get(leg)
        if of_leg is not None:
            of_leg.streams = [started for started in of_leg.streams if started.stream is not stream]
            of_leg.hosts = [host for host in of_leg.hosts if host is not stream]
            of_leg.ended.set()
            self._tidy(leg)

    def _tidy(self, leg: Leg) -> None:
        """Remove the entry of a leg without streams."""
        of_leg = self._legs.get(leg)
        if of_leg is None or of_leg.streams or of_leg.hosts:
            return
        del self._legs[leg]
        if of_leg.watch is not None and of_leg.watch is not asyncio.current_task():
            of_leg.watch.cancel()
        if of_leg.later is not None:
            of_leg.later.cancel()

    async def _until_gone(self, leg: Leg) -> None:
        await leg.gone.wait()
        await self.stop(leg, leg.departure)

    async def _until_left(self, leg: Leg, other: Leg) -> None:
        await first_of(leg.gone.wait(), other.gone.wait())
        present = self._others.get(leg)
        if present is not None and present[0] is other:
            del self._others[leg]
            self._arrange_all(leg)

    def _running(self, of_leg: _OfLeg, wanted: StreamStart) -> _Started | None:
        """Return the stream to which tracks can be added."""
        for started in of_leg.streams:
            stream = started.stream
            same = (started.kind, started.url, stream.dialect.name) == (
                "stream",
                wanted.target.url,
                wanted.target.dialect,
            )
            if not same or stream.ended:
                continue
            if stream.dialect.track_set != "open" and wanted.tracks.keys() != started.tracks.keys():
                continue  # other tracks need a stream of their own
            return started
        return None

    # Tap points

    def _arrange_all(self, leg: Leg) -> None:
        of_leg = self._legs.get(leg)
        if of_leg is None or of_leg.leg.gone.is_set():
            return
        for started in of_leg.streams:
            self._arrange(of_leg, started)
        for host in of_leg.hosts:
            host.review()

    def _arrange(self, of_leg: _OfLeg, started: _Started) -> None:
        """Move a stream's tracks to where its parties are now."""
        other = self._others.get(of_leg.leg)
        started.stream.set_tracks(
            flow_tracks(of_leg.leg, other[0] if other else None, started.tracks, started.speak, self._facts.track)
        )
