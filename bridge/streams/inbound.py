"""Calls that the dialplan hands over: to the Stasis application, or over an AudioSocket connection.

    exten => 760,1,Stasis(bridge)                        matched by number, or by argument: Stasis(bridge,sales)
    exten => 761,1,AudioSocket(${UUID()},bridge:9092)    matched by UUID; works without ARI
    exten => 762,1,Dial(AudioSocket/bridge:9092/${UUID()}/c(slin16))

A route (`[[dialplan]]` in the configuration) names the application. At the end of the stream, an AudioSocket connection
is closed, which returns the call to the dialplan; a call in the Stasis application is hung up or continued, as
configured.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from bridge.access import CONFIGURATION
from bridge.ari.client import AriClient
from bridge.ari.model import Channel, Dialplan
from bridge.calls.call import Call, Party
from bridge.calls.facts import call_facts, party_facts
from bridge.config import PbxConfig
from bridge.config.agents import EXTENSION, HANG_UP
from bridge.control.leg import PARKED
from bridge.dialects.base import CallInfo, TrackInfo
from bridge.errors import AriError, Overloaded
from bridge.logs import cause
from bridge.media.leg import MediaLeg
from bridge.media.listener import Unexpected
from bridge.streams.layout import call_info
from bridge.streams.registry import Streams
from bridge.streams.stream import Stream
from bridge.streams.subscription import DialplanRoute
from bridge.streams.wanted_tracks import WantedTrack
from bridge.taps.taps import Join
from bridge.tasks import BackgroundTasks

log = logging.getLogger(__name__)

FACTS_TIMEOUT_S = 3.0
AUDIOSOCKET_FACTS_TIMEOUT_S = 0.3
"""Wait of an AudioSocket connection for ARI's events of its call, in seconds: they arrive simultaneously, if at all."""


class CallFinder(Protocol):
    """The current calls (`bridge.calls.tracker.CallTracker`)."""

    def find(self, any_id: str, /) -> tuple[Call, Party] | None:
        """Return a call and party by the id of the call or of one of its channels."""

    def person_behind(self, channel_id: str, /) -> tuple[Call, Party] | None:
        """Return the party whose audio comes through a channel, and its call."""


class AllCalls(CallFinder, Protocol):
    """The current calls, also as a list."""

    @property
    def calls(self) -> Mapping[str, Call]:
        """All calls by id."""


class _Taken(Struct, eq=False):
    """A call that matched a route."""

    route: DialplanRoute
    channel_id: str
    bridge_id: str
    left_at: Dialplan | None = None
    """Where its first channel left the dialplan; None while the call has that channel."""
    stream: Stream | None = None
    info: TrackInfo | None = None
    over: str = ""
    """Why the call is continued or hung up, once that is due."""
    parked: bool = False
    """Whether its phone has parked the application's audio."""


class InboundCalls:
    """Streams calls from the dialplan to the application of their route."""

    def __init__(
        self,
        routes: Sequence[DialplanRoute],
        *,
        client: AriClient,
        calls: AllCalls,
        still_held: Callable[[str], bool],
        naming: PbxConfig,
        streams: Streams,
        max_unordered: int,
    ) -> None:
        self._max_unordered = max_unordered
        self._routes = tuple(routes)
        self._client = client
        self._calls = calls
        self._still_held = still_held
        self._naming = naming
        self._streams = streams
        self._expected: set[str] = set()
        """Channels of admitted calls without a stream."""
        self._taken: dict[str, _Taken] = {}
        """Calls in the Stasis application that matched routes, by the ids of their channels."""
        self._uuids: set[UUID] = set()
        self._tasks = BackgroundTasks("dialplan")
        client.on_replaced(self._replaced)
        client.on_parked(self._parked)

    def configure(self, routes: Sequence[DialplanRoute]) -> None:
        """Replace the routes, for new calls."""
        self._routes = tuple(routes)

    # Calls in the Stasis application

    @property
    def starting(self) -> int:
        """Number of calls that will get a stream."""
        return len(self._expected)

    def expect(self, channel_id: str) -> None:
        """Reserve a stream for a call that is about to be answered."""
        self._expected.add(channel_id)

    def route_of(self, channel: Channel, arguments: Sequence[str]) -> DialplanRoute | None:
        """Return the route of a call in the Stasis application; None if none matches.

        Args:
            channel: the call.
            arguments: those of Stasis().
        """
        numbers = [*arguments[:1], channel.dialplan.exten]
        return next((route for route in self._routes if any(map(route.matches_number, filter(None, numbers)))), None)

    def held(self, channel: Channel, bridge_id: str) -> None:
        """Start the stream of a held call if a route matches."""
        route = self.route_of(channel, channel.dialplan.app_data.split(",")[1:])
        if route is None:
            self._expected.discard(channel.id)
            return
        before = self._taken.get(channel.id)
        taken = self._taken[channel.id] = _Taken(route, channel.id, bridge_id)
        if before is not None and before.stream is not None:
            before.stream.end("the call came back")
        self._tasks.spawn(self._take_up(taken, channel))

    def left(self, channel_id: str) -> None:
        """Handle a call that left the Stasis application: it has ended, or continues in the dialplan."""
        self._expected.discard(channel_id)
        taken = self._taken.pop(channel_id, None)
        if taken is not None and taken.stream is not None:
            taken.stream.end(PARKED if taken.parked else "the call left the application")

    async def before_transfer(self, channel_id: str) -> None:
        """End the stream of a call that is transferred, and leave the call to the transfer.

        Implements `CallControl.before_transfer`.
        """
        taken = self._taken.pop(channel_id, None)
        if taken is not None and taken.stream is not None:
            taken.stream.end("the call was transferred")
            await taken.stream.wait()

    def _parked(self, bridge_id: str) -> None:
        for taken in self._taken.values():
            taken.parked = taken.parked or taken.bridge_id == bridge_id

    def _replaced(self, old: Channel, new: Channel) -> None:
        """Continue a call's stream with the channel that replaced it: another party sends and receives now."""
        if old.id in self._expected:
            self._expected.remove(old.id)
            self._expected.add(new.id)
        taken = self._taken.pop(old.id, None)
        if taken is None:
            return
        self._taken[new.id] = taken
        taken.channel_id, taken.left_at = new.id, taken.left_at or old.dialplan
        if taken.over:
            self._tasks.spawn(self._then(taken, taken.over))  # was due for the replaced channel
        elif taken.info is not None:
            self._set_track(taken, replace(taken.info, channel_id=new.id, channel=new.name))
            self._tasks.spawn(self._name_party(taken))

    async def _name_party(self, taken: _Taken) -> None:
        """Wait until the party behind a replacing channel is known, for dialects that carry its number."""
        channel_id = taken.channel_id
        deadline = asyncio.get_running_loop().time() + FACTS_TIMEOUT_S
        while asyncio.get_running_loop().time() < deadline:
            found = self._calls.person_behind(channel_id)
            if found is not None and not found[1].is_local:
                number = party_facts(*found, self._naming).number
                if self._taken.get(channel_id) is taken and taken.info is not None:
                    self._set_track(taken, replace(taken.info, number=number, far_number=number))
                return
            await asyncio.sleep(0.02)

    def _set_track(self, taken: _Taken, info: TrackInfo) -> None:
        taken.info = info
        if taken.stream is not None:
            plays = taken.stream.dialect.two_way
            taken.stream.set_tracks([WantedTrack(info, Join(taken.bridge_id), plays=plays)])

    async def _take_up(self, taken: _Taken, channel: Channel) -> None:
        route = taken.route
        try:
            whole, info = await self._facts(route, channel)
            if self._taken.get(taken.channel_id) is not taken or not self._still_held(taken.channel_id):
                return
            taken.stream = self._start(
                *(route, whole, info.name, lambda _, why: self._over(taken, why)),
                admitted=True,  # otherwise the call would not have been answered
            )
            if taken.stream is None:
                await self._then(taken, "no stream")  # better than silence
                return
            self._set_track(taken, replace(info, channel_id=taken.channel_id))
            if taken.left_at is not None:  # replaced by another channel meanwhile
                self._tasks.spawn(self._name_party(taken))
        except Exception:
            log.exception("inbound call failed, an internal error channel=%s route=%s", taken.channel_id, route.id)
            await self._then(taken, "internal error")
        finally:
            self._expected.discard(taken.channel_id)

    async def _facts(self, route: DialplanRoute, channel: Channel) -> tuple[CallInfo, TrackInfo]:
        """Return the facts of a call; wait briefly, as the model may lag behind, and the caller must not wait long."""
        deadline = asyncio.get_running_loop().time() + FACTS_TIMEOUT_S
        while (found := self._calls.find(channel.id)) is None and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        name = route.dialect_class.caller_track or channel.name
        if found is None:
            exten, caller = channel.dialplan.exten, channel.shown_caller.number
            whole = CallInfo(channel.id, direction="inbound", caller=caller, callee=exten)
            return whole, TrackInfo(name, channel.id, channel.name, caller, near_number=exten, far_number=caller)
        call, party = found
        facts = party_facts(call, party, self._naming)
        whole = call_info(call.id, call_facts(call, self._naming))
        return whole, TrackInfo(
            name,
            channel_id=party.id,
            channel=party.name,
            number=facts.number,
            near_number=whole.did or whole.callee,
            far_number=whole.caller,
            callflow=facts.callflow,
        )

    def _over(self, taken: _Taken, reason: str) -> None:
        if self._taken.get(taken.channel_id) is not taken or taken.over:
            return  # the call has left, or returned with another stream
        self._tasks.spawn(self._then(taken, reason))

    async def _then(self, taken: _Taken, reason: str) -> None:
        """Hang up or continue a call as the route specifies, unless it has left or the process shuts down."""
        channel_id, route = taken.channel_id, taken.route
        taken.over = reason
        if not self._still_held(channel_id):
            return
        then = _then(route, taken.stream)
        log.info("inbound call ends channel=%s route=%s reason=%s then=%s", channel_id, route.id, reason, then)
        try:
            if then == HANG_UP:
                await self._client.channels.hangup(channel_id)
            elif then.startswith(EXTENSION):
                extension, _, context = then.removeprefix(EXTENSION).partition("@")
                await self._client.channels.continue_in_dialplan(channel_id, context or None, extension, 1)
            else:
                where = taken.left_at.behind if taken.left_at is not None else ()
                await self._client.channels.continue_in_dialplan(channel_id, *where)
        except AriError as error:
            log.warning("call not continued in the dialplan channel=%s error=%s", channel_id, error)

    # AudioSocket connections opened by the dialplan

    def unexpected(self, uuid: UUID) -> MediaLeg:
        """Return a leg for a connection with a UUID from the dialplan.

        Raises:
            Unexpected: no route matches, or its stream cannot be opened.
        """
        route = next((route for route in self._routes if route.matches_uuid(str(uuid))), None)
        if route is None:
            raise Unexpected
        if uuid in self._uuids:  # one connection per UUID: a single known UUID must not open many streams
            raise Unexpected("its UUID is in use by another call. Give each call its own: AudioSocket(${UUID()},...)")
        if len(self._uuids) >= self._max_unordered:
            raise Unexpected(f"audiosocket.max_unordered: {self._max_unordered} streams of uuid: routes are open")
        name = route.dialect_class.caller_track or str(uuid)
        call = CallInfo(str(uuid), direction="inbound")

        stream = self._start(route, call, name, lambda *_: self._uuids.discard(uuid), before=self._learn)
        if stream is None:
            raise Unexpected(f"no stream could be opened for the route {route.id}")
        self._uuids.add(uuid)
        return stream.adopt(TrackInfo(name, channel_id=str(uuid), channel=str(uuid)), uuid)

    async def _learn(self, stream: Stream) -> None:
        """Look up caller and callee of a connection through ARI; without ARI only its UUID is known."""
        uuid = stream.call.call_id
        deadline = asyncio.get_running_loop().time() + AUDIOSOCKET_FACTS_TIMEOUT_S
        while not stream.call.caller:
            found = next((call for call in self._calls.calls.values() if _has_audiosocket(call, uuid)), None)
            if found is not None:
                stream.call = call_info(uuid, call_facts(found, self._naming))
                return
            if not self._client.connected or asyncio.get_running_loop().time() > deadline:
                return
            await asyncio.sleep(0.02)

    def _start(
        self,
        route: DialplanRoute,
        call: CallInfo,
        track: str,
        on_end: Callable[[Stream, str], None],
        *,
        admitted: bool = False,
        before: Callable[[Stream], Awaitable[object]] | None = None,
    ) -> Stream | None:
        started_by = f"dialplan:{route.id}"
        try:
            return self._streams.dial(
                *(started_by, call, (track,), route, on_end),
                principal=CONFIGURATION,
                two_way=True,
                admitted=admitted,
                before=before,
            )
        except Overloaded as error:
            log.warning(
                "call not streamed call=%s started_by=%s error=%s",
                call.call_id,
                started_by,
                error,
                extra=cause(started_by),
            )
            return None


def _then(route: DialplanRoute, stream: Stream | None) -> str:
    """Return the step after the end of a stream: as `AgentConfig.on_failure` if the model was unavailable."""
    failed = stream is None or (stream.agent is not None and stream.agent.failed)
    return (route.agent.on_failure if failed else "") or route.then


def _has_audiosocket(call: Call, uuid: str) -> bool:
    return any(party.has_audiosocket(uuid) for party in call.parties.values())
