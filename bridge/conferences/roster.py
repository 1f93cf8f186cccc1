"""Which conferences there are and who is in them: compared with the call model at every turn, and told as events.

Nothing here asks or changes the PBX; `bridge.conferences.conferences` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from bridge.ari.dispatch import Unsubscribe, call_safely, subscribe
from bridge.ari.model import Bridge
from bridge.calls.model import CallModel
from bridge.calls.tracker import CallTracker
from bridge.conferences.model import (
    CONFBRIDGE,
    Conference,
    Kind,
    Left,
    Participant,
    conference_data,
    participant_data,
)
from bridge.control.legs import Leg
from bridge.events.hub import Events
from bridge.tasks import Changed


@dataclass(eq=False)
class Joined:
    """A leg that takes part in a conference of ours."""

    leg: Leg
    verdict: asyncio.Future[Left]
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """It has left the bridge, as far as that depends on us."""

    def let_go(self, why: Left) -> None:
        """It takes part no longer; the first reason counts."""
        if not self.verdict.done():
            self.verdict.set_result(why)


@dataclass(eq=False)
class State:
    """One conference."""

    id: str
    name: str
    kind: Kind
    bridge_id: str
    auto_delete: bool
    created_at: float
    made: asyncio.Future[None] | None = None
    """The request that makes its bridge; None for a room."""
    members: dict[str, Participant] = field(default_factory=dict)
    """As they were when they came, by channel id."""
    unnamed: dict[str, None] = field(default_factory=dict)
    """Members that have joined but are not reported yet: who is behind their Local channels will be known soon."""
    muted: set[str] = field(default_factory=set)
    joined: dict[str, Joined] = field(default_factory=dict)
    """By channel id."""


class Roster:
    """The conferences, as the call model shows them now.

    Args:
        clock: seconds since 1970.
    """

    def __init__(self, tracker: CallTracker, events: Events, clock: Callable[[], float] = time.time) -> None:
        self.own: dict[str, State] = {}
        """Those of ours, by id."""
        self.rooms: dict[str, State] = {}
        """ConfBridge rooms, by name. One whose name is an id of ours is not seen as long as ours is there."""
        self.on_emptied: Callable[[State], object] = lambda _: None
        """Told when the last participant of a conference of ours has left."""
        self._tracker = tracker
        self._events = events
        self._clock = clock
        self._on_ended: list[Callable[[str], object]] = []
        self._changed = Changed()

    def on_ended(self, callback: Callable[[str], object]) -> Unsubscribe:
        """Call ``callback(conference_id)`` when one ends, before its members are let go."""
        return subscribe(self._on_ended, callback)

    def find(self, conference_id: str) -> State | None:
        """A conference as it is now."""
        self.follow()
        return self.own.get(conference_id) or self.rooms.get(conference_id)

    def snapshot(self, state: State) -> Conference:
        """What others see of it."""
        members = tuple(self._now(state, member) for member in state.members.values())
        return Conference(state.id, state.name, state.kind, state.auto_delete, state.created_at, members)

    def follow(self) -> None:
        """Compare with the model, and tell what has changed."""
        model = self._tracker.model
        rooms = {name: bridge for name, bridge in rooms_of(model).items() if name not in self.own}
        for room in tuple(self.rooms.values()):
            bridge = rooms.get(room.id)
            if bridge is None or bridge.id != room.bridge_id:
                del self.rooms[room.id]
                self.tell_ending(room)
                self.ended(room)
        for name, bridge in rooms.items():
            if name not in self.rooms:
                self.rooms[name] = State(name, name, "confbridge", bridge.id, True, self._clock())
                self.tell_created(self.rooms[name])
        for state in (*self.own.values(), *self.rooms.values()):
            self._part(state, parties_in(model.bridges.get(state.bridge_id), model))

    def tell_created(self, state: State) -> None:
        """One has begun."""
        self._events.publish("conference_created", conference_data(self.snapshot(state)))

    def tell_ending(self, state: State) -> None:
        """One is about to end."""
        for callback in tuple(self._on_ended):
            call_safely(callback, state.id)

    def ended(self, state: State) -> None:
        """One has ended, for everybody."""
        self._part(state, ())
        self._events.publish("conference_deleted", conference_data(self.snapshot(state)))

    async def until(self, true: Callable[[], bool], timeout_s: float) -> None:
        """Wait until something has come true, but not for ever: what was asked for is under way."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not true():
                    await self._changed.wait()

    def _part(self, state: State, present: Collection[str]) -> None:
        """Those who are ``present`` take part, and nobody else."""
        gone = [self._now(state, member) for member in state.members.values() if member.channel_id not in present]
        come = [channel_id for channel_id in present if channel_id not in state.members]
        for member in gone:
            self._report_joined(state, member)
            del state.members[member.channel_id]
            joined = state.joined.get(member.channel_id)
            if joined is not None:
                joined.let_go("left")
            self._events.publish("conference_left", participant_data(state.id, member))
        for channel_id in come:
            member = self._now(state, Participant(channel_id, joined_at=self._clock()))
            state.members[channel_id] = member
            state.unnamed[channel_id] = None
        for channel_id in [each for each in state.unnamed if not self._is_arriving(each)]:
            self._report_joined(state, self._now(state, state.members[channel_id]))
        if gone or come:
            self._changed.notify()
        if gone and not state.members and state.kind == "bridge":
            self.on_emptied(state)

    def _report_joined(self, state: State, member: Participant) -> None:
        if member.channel_id in state.unnamed:
            del state.unnamed[member.channel_id]
            self._events.publish("conference_joined", participant_data(state.id, member))

    def _is_arriving(self, channel_id: str) -> bool:
        """Return whether a Local channel is a member, and it is not known yet whose audio comes through it.

        After an attended transfer one half enters our bridge, and then the other half, which runs no application, that
        of the other party.
        """
        found = self._tracker.model.member(channel_id)
        if found is None:
            return False
        model, (_, party) = self._tracker.model, found
        half = model.other_half(party)
        return half is not None and not half.app_name and model.person_behind(party).is_local

    def _now(self, state: State, known: Participant) -> Participant:
        """What is known of a participant now; of one that is gone, what was known when it came."""
        found = self._tracker.model.member(known.channel_id)
        if found is None:
            return known
        call, party = found
        person = self._tracker.model.person_behind(party)
        return Participant(
            known.channel_id,
            call_id=call.id if call else "",
            name=person.caller_name,
            number=person.caller_number,
            muted=known.channel_id in state.muted,
            joined_at=known.joined_at,
        )


def rooms_of(model: CallModel) -> dict[str, Bridge]:
    """The ConfBridge rooms of the PBX in which somebody is, by name.

    One in which only channels of ours and Asterisk's own (announcers, recorders) are left is none any more: else a
    stream and its room would keep each other alive for ever.
    """
    return {
        bridge.name: bridge
        for bridge in model.bridges.values()
        if bridge.creator == CONFBRIDGE and bridge.name and parties_in(bridge, model)
    }


def parties_in(bridge: Bridge | None, model: CallModel) -> list[str]:
    """Ids of the channels of a bridge that somebody talks through."""
    return [] if bridge is None else [channel_id for channel_id in bridge.channels if model.member(channel_id)]
