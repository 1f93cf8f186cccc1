"""Automatic streams: every call that matches a subscription is streamed to its application.

One delivery for each subscription and call, however many objects of the subscription the call matches. A delivery is
usually one WebSocket; with a track per party and ``multiparty = "per_channel"`` there are more from the third party on.
After an application has closed cleanly, or refused, it gets no further connection for this call.

Where several processes observe the same calls, a delivery runs in the process with its claim, until the call ends: also
after a refusal, to keep other processes from connecting again. The others keep the delivery and wait for the claim.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from msgspec import Struct

from bridge.access import Principal
from bridge.calls.call import Call, CallEnded, Change, PartyChanged, PartyLeft
from bridge.calls.facts import CallFacts, call_facts
from bridge.config import PbxConfig
from bridge.dialects import layouts
from bridge.dialects.base import CallInfo
from bridge.errors import Overloaded
from bridge.logs import cause
from bridge.streams.claims import Claims, LocalClaims
from bridge.streams.layout import call_info, wanted_tracks
from bridge.streams.registry import Streams
from bridge.streams.stream import OnEnd, Stream
from bridge.streams.stream_reports import SERVICE_RESTART
from bridge.streams.subscription import Subscription, matches
from bridge.streams.wanted_tracks import WantedTrack

log = logging.getLogger(__name__)

HANDOVER_GRACE_SHARE = 0.4
"""Share of the time until another process may begin that the application gets to receive the last messages."""
PARTIES_PER_SOCKET = 2
"""With ``per_channel``: a one-to-one call is one WebSocket; each further party has its own."""


class EnabledSubscriptions(Protocol):
    """The subscriptions (`bridge.streams.subscription_catalog.SubscriptionCatalog`)."""

    def enabled(self) -> Iterable[Subscription]:
        """Return the enabled subscriptions."""


class ObservedCalls(Protocol):
    """The current calls (`bridge.calls.tracker.CallTracker`)."""

    @property
    def calls(self) -> Mapping[str, Call]:
        """All calls by id."""


class StreamMaker(Protocol):
    """Creates and starts a stream for a subscription; returns None (and logs) at the limit on streams."""

    def __call__(
        self, subscription: Subscription, call: CallInfo, tracks: Iterable[str], on_end: OnEnd, /
    ) -> Stream | None:
        """Return the started stream."""


def starting(streams: Streams) -> StreamMaker:
    """Return the starter of the streams of subscriptions."""

    def start(subscription: Subscription, call: CallInfo, tracks: Iterable[str], on_end: OnEnd, /) -> Stream | None:
        started_by, principal = f"subscription:{subscription.id}", Principal(subscription.principal)
        try:
            return streams.dial(started_by, call, tracks, subscription, on_end, principal=principal)
        except Overloaded as error:
            log.warning(
                "call not streamed to its subscription call=%s owner=%s error=%s",
                *(call.call_id, started_by, error),
                extra=cause(started_by),
            )
            return None

    return start


class _Matching(Struct, frozen=True):
    """The subscriptions that match a call, cached with their inputs, as calls change far more often than these."""

    enabled: Iterable[Subscription]
    names: tuple[object, ...]
    found: tuple[Subscription, ...]


class _Delivery(Struct, eq=False):
    """One subscription on one call."""

    subscription: Subscription
    call_id: str
    key: str = ""
    """The claim that is held or awaited. Differs from ``wanted`` briefly when calls merge."""
    asked: str = ""
    """The latest claim that was requested."""
    granted: bool = False
    asking: asyncio.Task[None] | None = None
    again: bool = False
    """The claim became free during a request for it."""
    sockets: list[Stream] = []
    places: dict[str, Stream] = {}
    """The stream of each running track, by the track's name."""
    over: bool = False
    """Whether the application has closed or refused: it gets nothing more of this call."""

    @property
    def wanted(self) -> str:
        """The claim that this delivery needs."""
        return f"{self.subscription.id}/{self.call_id}"


class Subscriptions:
    """Follows the calls and keeps one delivery for each matching subscription."""

    def __init__(
        self,
        catalog: EnabledSubscriptions,
        calls: ObservedCalls,
        naming: PbxConfig,
        make: StreamMaker,
        claims: Claims | None = None,
    ) -> None:
        self._catalog = catalog
        self._calls = calls
        self._naming = naming
        self._make = make
        self._claims = claims or LocalClaims()
        self._claims.on_free = self._free
        self._claims.on_lost = self._lost
        self._deliveries: dict[str, dict[str, _Delivery]] = {}
        """By call id, then by subscription id."""
        self._matching: dict[str, _Matching] = {}
        """By call id."""
        self._facts: dict[str, CallFacts] = {}
        """By call id: as of the call's last change."""
        self._in_conference: set[str] = set()
        """Calls with deliveries whose parties are in a conference room: each member of a room is a call of its own."""

    def on_change(self, change: Change) -> None:
        """Handle a change of a call."""
        if isinstance(change, CallEnded):
            if change.merged_into is None:
                self._end_call(change.call.id)
            else:
                self._move(change.call.id, change.merged_into)
            self._in_conference.discard(change.call.id)
            self._facts.pop(change.call.id, None)
        elif isinstance(change, PartyLeft) and change.moved_to is not None and not change.call.parties:
            self._move(
                change.call.id, change.moved_to
            )  # before the other call is considered, which would start a new delivery
        else:
            self.consider(change.call)
        if isinstance(change, PartyChanged) and "bridge_id" not in change.fields:
            return
        for call_id in self._in_conference - {change.call.id}:
            other = self._calls.calls.get(call_id)
            if other is not None:
                self._consider(other)

    def consider(self, call: Call) -> None:
        """Start, change and end the deliveries of a changed call."""
        self._facts.pop(call.id, None)
        self._consider(call)

    def _facts_of(self, call: Call) -> CallFacts:
        """Return the facts of a call, computed once for each change."""
        facts = self._facts.get(call.id)
        if facts is None:
            facts = self._facts[call.id] = call_facts(call, self._naming)
        return facts

    def _consider(self, call: Call) -> None:
        if not call.answered or not call.parties:
            return
        facts = self._facts_of(call)
        deliveries = self._deliveries.setdefault(call.id, {})
        enabled = {subscription.id: subscription for subscription in self._catalog.enabled()}
        for subscription_id, delivery in tuple(deliveries.items()):
            now = enabled.get(subscription_id)
            if now is None or not now.delivers_as(delivery.subscription):
                del deliveries[subscription_id]
                self._drop(delivery, "the subscription was switched off or changed")
        for subscription in self._matching_to(call.id, facts):
            if subscription.id not in deliveries:
                deliveries[subscription.id] = delivery = _Delivery(subscription, call.id)
                log.info("call matches a subscription call=%s subscription=%s", call.id, subscription.id)
                self._claim(delivery)
        for delivery in deliveries.values():
            if delivery.granted and not delivery.over:
                self._deliver(delivery, call, facts)

    def _matching_to(self, call_id: str, facts: CallFacts) -> tuple[Subscription, ...]:
        enabled, names = self._catalog.enabled(), (facts.extensions, facts.trunks, facts.dids)
        known = self._matching.get(call_id)
        if known is None or known.enabled is not enabled or known.names != names:
            known = _Matching(enabled, names, tuple(each for each in enabled if matches(each, facts)))
            self._matching[call_id] = known
        return known.found

    def reconsider(self, calls: Iterable[Call]) -> None:
        """Apply changed subscriptions."""
        for call in calls:
            self._consider(call)

    async def stop(self) -> None:
        """Cancel pending claims. The registry ends the streams."""
        asking = [each.asking for deliveries in self._deliveries.values() for each in deliveries.values()]
        for task in (tasks := [task for task in asking if task is not None]):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _claim(self, delivery: _Delivery) -> None:
        if isinstance(self._claims, LocalClaims):
            delivery.granted = True
        elif delivery.asking is None or delivery.asking.done():
            delivery.asking = asyncio.create_task(self._ask(delivery), name=f"claim {delivery.wanted}")
        else:
            delivery.again = True

    async def _ask(self, delivery: _Delivery) -> None:
        """Request the claim of a delivery; after a merge of calls, keep the old one until then."""
        while not (delivery.granted and delivery.key == delivery.wanted):
            old, key, delivery.again = delivery.key, delivery.wanted, False
            delivery.asked = key
            granted = await self._claims.claim(key)
            if old and old != key:
                self._claims.release(old)
            delivery.key = key
            if granted:
                delivery.granted = True
                continue
            if delivery.granted:
                delivery.granted = False
                self._finish(delivery, "the call merged into another that is streamed already")
            if not delivery.again:
                return
        call = self._calls.calls.get(delivery.call_id)
        if call is not None:
            self._consider(call)

    def _free(self, key: str) -> None:
        for delivery in self._with_key(key):
            if not delivery.granted:
                self._claim(delivery)

    def _lost(self, key: str, spare_s: float) -> None:
        for delivery in self._with_key(key):
            if delivery.granted:
                log.warning(
                    "claim lost, stream ends call=%s subscription=%s", delivery.call_id, delivery.subscription.id
                )
                delivery.granted = False
                self._finish(
                    delivery,
                    "another process may stream this call now",
                    code=SERVICE_RESTART,  # the call continues
                    handover_grace_s=HANDOVER_GRACE_SHARE * spare_s,
                )
                self._claim(delivery)

    def _with_key(self, key: str) -> list[_Delivery]:
        every = [each for deliveries in self._deliveries.values() for each in deliveries.values()]
        return [delivery for delivery in every if key in (delivery.key, delivery.wanted)]

    def _drop(self, delivery: _Delivery, reason: str) -> None:
        """End the streams of a delivery, and release its claim."""
        if delivery.asking is not None:
            delivery.asking.cancel()
        delivery.granted = False
        for key in {delivery.key, delivery.asked} - {""}:
            self._claims.release(key)
        self._finish(delivery, reason)

    def _deliver(self, delivery: _Delivery, call: Call, facts: CallFacts) -> None:
        subscription = delivery.subscription
        wanted = {track.info.name: track for track in self._wanted(subscription, call, facts)}
        per_socket: dict[Stream, list[WantedTrack]] = {stream: [] for stream in delivery.sockets}
        for name in [name for name in delivery.places if name not in wanted]:
            del delivery.places[name]
        info = call_info(call.id, facts)
        for name, track in wanted.items():
            stream = delivery.places.get(name) or self._place_for(delivery, info, wanted)
            if stream is None:
                continue  # limit on streams reached; the next change of the call retries
            delivery.places[name] = stream
            per_socket.setdefault(stream, []).append(track)
        for stream, tracks in per_socket.items():
            if tracks:
                stream.set_tracks(tracks)
            else:
                delivery.sockets.remove(stream)
                stream.set_tracks(())
                stream.end("its parties have left")

    def _wanted(self, subscription: Subscription, call: Call, facts: CallFacts) -> Iterator[WantedTrack]:
        """Yield the tracks of a call; with a track per party, also those of all parties in the same conference room."""
        yield from wanted_tracks(subscription.layout, call, facts, self._naming)
        if layouts()[subscription.layout].of != "parties":
            return
        rooms = rooms_of(call)
        if not rooms:
            self._in_conference.discard(call.id)
            return
        self._in_conference.add(call.id)
        for other in self._calls.calls.values():
            if other is call or subscription.id in self._deliveries.get(other.id, ()):
                continue  # streamed by its own delivery of the same subscription
            members = {party.id for party in other.parties.values() if party.bridge_id in rooms}
            if members:
                tracks = wanted_tracks(subscription.layout, other, self._facts_of(other), self._naming)
                yield from (track for track in tracks if track.info.channel_id in members)

    def _place_for(self, delivery: _Delivery, info: CallInfo, wanted: dict[str, WantedTrack]) -> Stream | None:
        if delivery.sockets:
            first = delivery.sockets[0]
            tracks = sum(stream is first for stream in delivery.places.values())
            if delivery.subscription.multiparty == "single" or tracks < PARTIES_PER_SOCKET:
                return first
        stream = self._make(
            delivery.subscription, info, tuple(wanted), lambda stream, reason: self._ended(delivery, stream, reason)
        )
        if stream is not None:
            delivery.sockets.append(stream)
        return stream

    def _ended(self, delivery: _Delivery, stream: Stream, reason: str) -> None:
        if stream in delivery.sockets:  # otherwise ended by this object
            delivery.sockets.remove(stream)
            delivery.over = True
            self._finish(delivery, reason)

    def _end_call(self, call_id: str) -> None:
        self._matching.pop(call_id, None)
        for delivery in self._deliveries.pop(call_id, {}).values():
            self._drop(delivery, "the call ended")

    def _move(self, old_id: str, new_id: str) -> None:
        """Continue the deliveries of a merged call under its new id, except where that has the same subscription."""
        self._matching.pop(old_id, None)
        target = self._deliveries.setdefault(new_id, {})
        for subscription_id, delivery in self._deliveries.pop(old_id, {}).items():
            if subscription_id in target:
                self._drop(delivery, "the call merged into another that is streamed already")
                continue
            target[subscription_id] = delivery
            delivery.call_id = new_id
            if delivery.granted:  # otherwise its holder moves the claim, and the old one becomes free
                self._claim(delivery)

    def _finish(
        self, delivery: _Delivery, reason: str, *, code: int | None = None, handover_grace_s: float | None = None
    ) -> None:
        sockets, delivery.sockets = delivery.sockets, []
        delivery.places.clear()
        for stream in sockets:
            stream.end(reason, code=code, handover_grace_s=handover_grace_s)


def rooms_of(call: Call) -> set[str]:
    """Return the ids of the conference rooms (ConfBridge) with parties of a call."""
    return {
        party.bridge_id
        for party in call.parties.values()
        if party.bridge_id is not None and party.bridge_creator == "ConfBridge"
    }
