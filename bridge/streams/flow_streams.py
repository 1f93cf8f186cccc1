"""Streams that a flow starts and stops: ``external_media_start`` and ``STREAM``.

They are the flow's, so they end with it, and with the party for whose sake they were started; what the dialect has to
say at its end is said. What reaches the party through its bridge follows the party into another one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Literal

from bridge.access import Principal
from bridge.calls.facts import Naming
from bridge.control.legs import Leg, LegGone
from bridge.dialects.base import CallInfo
from bridge.errors import Overloaded
from bridge.media.call_admission import CallAdmission
from bridge.streams.external_host import ExternalHost
from bridge.streams.flow_facts import FlowFacts, Numbers
from bridge.streams.flow_options import (
    Direction,
    ExternalApplication,
    ExternalServer,
    FlowTarget,
    StreamStart,
    StreamStop,
)
from bridge.streams.inbound import Calls
from bridge.streams.origin import Origin
from bridge.streams.registry import AnyStream, Streams
from bridge.streams.sensitive import NoneSensitive, SensitiveCalls
from bridge.streams.stream import Stream
from bridge.streams.wanted import flow_tracks
from bridge.tasks import first_of

log = logging.getLogger(__name__)

MAX_EXTERNAL_MEDIA = 5
"""External media that one party may have at once."""
SETTLE_S = 0.5
"""A start returns when audio flows, or after so long: what the flow says next ought to be heard by the application."""
BACK_S = 0.3
"""A party that has left its bridge is about to enter another, as a rule: so long is waited to see."""
STREAM_LABEL = "flow:STREAM"
EXTERNAL_MEDIA_LABEL = "flow:external_media_start"


@dataclass(eq=False)
class _Started:
    """One stream of a flow."""

    kind: Literal["external_media", "stream"]
    stream: Stream
    url: str
    name: str
    tracks: dict[str, Direction]
    """What is to be heard, by the track's name."""
    speak: Direction


@dataclass(eq=False)
class _OfLeg:
    """What was started for one leg."""

    leg: Leg
    streams: list[_Started] = field(default_factory=list)
    hosts: list[ExternalHost] = field(default_factory=list)
    watch: asyncio.Task[None] | None = None
    later: asyncio.TimerHandle | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set whenever one of them has ended."""

    @property
    def media(self) -> int:
        """How many of them are external media."""
        return sum(started.kind == "external_media" for started in self.streams) + len(self.hosts)


class FlowStreams:
    """All streams that flows have started, by leg.

    Args:
        calls: the calls that go on now, for numbers.
        new_host: makes external media between the PBX and another server.
        numbers: who called whom in a call that we have placed, by its channel's id; None for any other.
    """

    def __init__(
        self,
        *,
        calls: Calls,
        naming: Naming,
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
        """Who is connected with a leg, by the leg."""

    @property
    def object_ids(self) -> Collection[str]:
        """Ids of all channels and bridges that belong to external media which other servers get; for the sweep."""
        return {object_id for host in self._hosts for object_id in host.object_ids}

    async def silenced(self) -> None:
        """Wait until external media of other servers is disconnected from parties in sensitive mode."""
        await asyncio.gather(*(host.silenced() for host in self._hosts))

    @property
    def _hosts(self) -> list[ExternalHost]:
        return [host for of_leg in self._legs.values() for host in of_leg.hosts]

    def of(self, leg: Leg) -> list[Stream]:
        """Return the streams that we have dialed for a leg."""
        of_leg = self._legs.get(leg)
        return [started.stream for started in of_leg.streams] if of_leg else []

    # external_media_start, external_media_stop

    async def external_media_start(
        self, leg: Leg, wanted: ExternalApplication | ExternalServer, principal: Principal
    ) -> Stream | ExternalHost:
        """Open an external media. Returns when audio flows, at the latest after half a second: a server that cannot be
        reached holds nothing up, and is tried again as any stream's.

        Raises:
            Overloaded: the party has 5 already, or ``media.max_streams`` is reached.
            LegGone: the party is gone.
            AriError: the party could not be answered.
        """
        media = self._legs.get(leg, _OfLeg(leg)).media
        if media >= MAX_EXTERNAL_MEDIA:
            raise Overloaded(f"the call has {media} external media already and may not have more")
        if isinstance(wanted, ExternalServer):
            return await self._start_host(leg, wanted, principal)
        target = wanted.target
        tracks: dict[str, Direction] = {wanted.track: wanted.listen} if wanted.listen else {}
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
        """Wait until no external media of a leg is left: its other end has ended it, or the call has ended."""
        while (of_leg := self._legs.get(leg)) is not None and of_leg.media:
            of_leg.ended.clear()
            await of_leg.ended.wait()

    # STREAM

    async def stream_start(self, leg: Leg, wanted: StreamStart, principal: Principal) -> Stream:
        """Start a stream, or add tracks to the one that goes to the same URL in the same dialect.

        Returns when audio flows, at the latest after half a second.

        Returns:
            The stream; its ``wait()`` returns when it has ended: for ``connect``.

        Raises:
            Overloaded: ``media.max_streams`` is reached.
            LegGone: the party is gone.
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
        return await self._start(
            *(leg, STREAM_LABEL, tracks, target, principal),
            lambda stream: _Started("stream", stream, target.url, wanted.name, tracks, "both" if target.speaks else ""),
        )

    async def stream_stop(self, leg: Leg, wanted: StreamStop) -> None:
        """Stop tracks of a stream (all if none is named), and end it when none is left.

        Which stream: the one with the URL; without a URL the one with the name; without either all. One that is not
        there is no error. Returns when the tracks have stopped, and what ended is closed.
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

    # What becomes of the legs

    def transfer_joined(self, leg: Leg, other: Leg) -> None:
        """``other`` was called for ``leg`` and has answered: tracks named ``transfer`` begin, until it is gone."""
        self.transfer_left(leg)
        watch = asyncio.create_task(self._until_left(leg, other), name=f"streams of {leg.id} watch {other.id}")
        self._others[leg] = (other, watch)
        self._arrange_all(leg)

    def transfer_left(self, leg: Leg) -> None:
        """Whoever was connected with ``leg`` has left: tracks named ``transfer`` stop."""
        before = self._others.pop(leg, None)
        if before is not None:
            before[1].cancel()
            self._arrange_all(leg)

    def moved(self, channel_id: str) -> None:
        """A leg is in another bridge now or in none, or has another channel: streams follow (`Legs.on_moved`)."""
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
        """End all: the bridge process goes."""
        await asyncio.gather(*(self.stop(each.leg, "the bridge is shutting down") for each in [*self._legs.values()]))
        for _, watch in self._others.values():
            watch.cancel()
        self._others.clear()

    # Inside

    async def _call_of(self, leg: Leg) -> CallInfo:
        """What is known of the call of a leg, which is answered and in a bridge from now on."""
        self._admission.check(admitted=True)
        if leg.gone.is_set():
            raise LegGone(f"the channel {leg.id} has ended")
        if leg.bridge_id is None:
            await leg.hold_in_bridge()
        call = await self._facts.call_of(leg)
        if leg.gone.is_set():
            raise LegGone(f"the channel {leg.id} has ended")
        return call

    def _of(self, leg: Leg) -> _OfLeg:
        """What belongs to a leg; it must be given something at once."""
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
            EXTERNAL_MEDIA_LABEL, principal, party_id=leg.id, speaks=bool(server.speak), application=server.host
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
        """Forget a leg that has nothing any more."""
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
        await self.stop(leg, "the call ended")

    async def _until_left(self, leg: Leg, other: Leg) -> None:
        await first_of(leg.gone.wait(), other.gone.wait())
        present = self._others.get(leg)
        if present is not None and present[0] is other:
            del self._others[leg]
            self._arrange_all(leg)

    def _running(self, of_leg: _OfLeg, wanted: StreamStart) -> _Started | None:
        """The stream to whose tracks more can be added."""
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
                continue  # other tracks go to a stream of their own
            return started
        return None

    # Places

    def _arrange_all(self, leg: Leg) -> None:
        of_leg = self._legs.get(leg)
        if of_leg is None or of_leg.leg.gone.is_set():
            return
        for started in of_leg.streams:
            self._arrange(of_leg, started)
        for host in of_leg.hosts:
            host.review()

    def _arrange(self, of_leg: _OfLeg, started: _Started) -> None:
        """Have a stream's tracks where its parties are now."""
        other = self._others.get(of_leg.leg)
        started.stream.set_tracks(
            flow_tracks(of_leg.leg, other[0] if other else None, started.tracks, started.speak, self._facts.track)
        )
