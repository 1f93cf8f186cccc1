"""The dialplan hands a call to us: an inbound call in our Stasis application, or an AudioSocket connection.

    exten => 760,1,Stasis(bridge)                        the number decides, or the argument: Stasis(bridge,sales)
    exten => 761,1,AudioSocket(${UUID()},bridge:9092)    the UUID decides; no ARI needed
    exten => 762,1,Dial(AudioSocket/bridge:9092/${UUID()}/c(slin16))

A route (`[[dialplan]]` in the configuration) says which application gets it. When the stream ends, an AudioSocket
connection is closed, which gives the dialplan back; a call in our application is hung up or sent on, as the route says.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol
from uuid import UUID

from bridge.access import CONFIGURATION
from bridge.ari.client import AriClient
from bridge.ari.model import Channel
from bridge.calls.call import Call, Party
from bridge.calls.facts import Naming, call_facts, party_facts
from bridge.dialects.base import CallInfo, TrackInfo
from bridge.errors import AriError, Overloaded
from bridge.logs import cause
from bridge.media.leg import MediaLeg
from bridge.media.listener import Unexpected
from bridge.streams.layout import call_info
from bridge.streams.registry import Streams
from bridge.streams.stream import Stream
from bridge.streams.subscription import Route
from bridge.streams.wanted import WantedTrack
from bridge.taps.taps import Join
from bridge.tasks import BackgroundTasks

log = logging.getLogger(__name__)

FACTS_TIMEOUT_S = 3.0


class Calls(Protocol):
    """The calls that go on now (`bridge.calls.tracker.CallTracker`)."""

    def find(self, any_id: str, /) -> tuple[Call, Party] | None:
        """A call by its id or by the id of one of its channels."""


class InboundCalls:
    """Gives calls from the dialplan to the application that their route names."""

    def __init__(
        self,
        routes: Sequence[Route],
        *,
        client: AriClient,
        calls: Calls,
        still_held: Callable[[str], bool],
        naming: Naming,
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
        self._by_channel: dict[str, Stream] = {}
        self._expected: set[str] = set()
        """Channels of calls that were admitted and have no stream yet."""
        self._uuids: set[UUID] = set()
        self._tasks = BackgroundTasks("dialplan")

    def configure(self, routes: Sequence[Route]) -> None:
        """Replace the routes, for calls that come in from now on."""
        self._routes = tuple(routes)

    # A call in our Stasis application

    @property
    def starting(self) -> int:
        """Number of calls that will have a stream and have none yet."""
        return len(self._expected)

    def expect(self, channel_id: str) -> None:
        """Reserve a stream for a call that is about to be answered."""
        self._expected.add(channel_id)

    def route_of(self, channel: Channel, arguments: Sequence[str]) -> Route | None:
        """Return the route that is for a call in our application; None: no route is.

        Args:
            channel: the call.
            arguments: those of Stasis().
        """
        numbers = [*arguments[:1], channel.dialplan.exten if channel.dialplan is not None else ""]
        return next((route for route in self._routes if any(map(route.matches_number, filter(None, numbers)))), None)

    def held(self, channel: Channel, bridge_id: str) -> None:
        """A call is held in our application: if a route is for it, its application gets it."""
        dialplan = channel.dialplan
        route = self.route_of(channel, dialplan.app_data.split(",")[1:] if dialplan is not None else [])
        if route is None:
            self._expected.discard(channel.id)
            return
        self._tasks.spawn(self._take_up(route, channel, bridge_id))

    def left(self, channel_id: str) -> None:
        """A call has left our application: it has ended, or goes on in the dialplan."""
        self._expected.discard(channel_id)
        stream = self._by_channel.pop(channel_id, None)
        if stream is not None:
            stream.end("the call left the application")

    async def _take_up(self, route: Route, channel: Channel, bridge_id: str) -> None:
        try:
            whole, info = await self._facts(route, channel)
            if not self._still_held(channel.id):
                return
            stream = self._start(
                *(route, whole, info.name, lambda ended, why: self._over(route, channel.id, ended, why)),
                admitted=True,  # or it would not have been answered
            )
            if stream is None:
                await self._then(route, channel.id)  # nobody to talk to: better than silence
                return
            before, self._by_channel[channel.id] = self._by_channel.get(channel.id), stream
            if before is not None:
                before.end("the call came back")
            stream.set_tracks([WantedTrack(info, Join(bridge_id), speaks=stream.dialect.two_way)])
        except Exception:
            log.exception("channel=%s route=%s failed", channel.id, route.id)
            await self._then(route, channel.id)
        finally:
            self._expected.discard(channel.id)

    async def _facts(self, route: Route, channel: Channel) -> tuple[CallInfo, TrackInfo]:
        """What is known of a call: the model may be a moment behind, and the caller must not wait for it for long."""
        deadline = asyncio.get_running_loop().time() + FACTS_TIMEOUT_S
        while (found := self._calls.find(channel.id)) is None and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        name = route.dialect_class.caller_track or channel.name
        if found is None:
            exten = channel.dialplan.exten if channel.dialplan is not None else ""
            caller = channel.caller.number if channel.caller is not None else ""
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

    def _over(self, route: Route, channel_id: str, stream: Stream, reason: str) -> None:
        if self._by_channel.get(channel_id) is not stream:
            return  # the call has left, or has come back and has another stream
        del self._by_channel[channel_id]
        log.info("channel=%s route=%s ended (%s): %s", channel_id, route.id, reason, route.then)
        self._tasks.spawn(self._then(route, channel_id))

    async def _then(self, route: Route, channel_id: str) -> None:
        """What the route says becomes of the call; nothing if it has left, or while the bridge shuts down."""
        if not self._still_held(channel_id):
            return
        try:
            if route.then == "hangup":
                await self._client.channels.hangup(channel_id)
            else:
                await self._client.channels.continue_in_dialplan(channel_id)
        except AriError as error:
            log.warning("channel=%s could not be sent on: %s", channel_id, error)

    # An AudioSocket connection that we did not order

    def unexpected(self, uuid: UUID) -> MediaLeg:
        """Return a leg for a connection that names a UUID of the dialplan's.

        Raises:
            Unexpected: no route is for it, or its stream cannot be opened.
        """
        route = next((route for route in self._routes if route.matches_uuid(str(uuid))), None)
        if route is None:
            raise Unexpected
        if uuid in self._uuids:  # one connection per UUID: knowing one must not suffice to open many streams
            raise Unexpected("its UUID is in use by another call; each call needs its own: AudioSocket(${UUID()},...)")
        if len(self._uuids) >= self._max_unordered:
            raise Unexpected(f"audiosocket.max_unordered: {self._max_unordered} streams of uuid: routes are open")
        name = route.dialect_class.caller_track or str(uuid)
        # Without ARI nothing is known of the call but its UUID.
        call = CallInfo(str(uuid), direction="inbound")
        stream = self._start(route, call, name, lambda *_: self._uuids.discard(uuid))
        if stream is None:
            raise Unexpected(f"no stream could be opened for route={route.id}")
        self._uuids.add(uuid)
        return stream.adopt(TrackInfo(name, channel_id=str(uuid), channel=str(uuid)), uuid)

    def _start(
        self,
        route: Route,
        call: CallInfo,
        track: str,
        on_end: Callable[[Stream, str], None],
        *,
        admitted: bool = False,
    ) -> Stream | None:
        started_by = f"dialplan:{route.id}"
        try:
            return self._streams.dial(
                *(started_by, call, (track,), route, on_end),
                principal=CONFIGURATION,
                two_way=True,
                admitted=admitted,
            )
        except Overloaded as error:
            log.warning("call=%s of=%s not streamed: %s", call.call_id, started_by, error, extra=cause(started_by))
            return None
