"""Existing conferences and their participants: compared with the call model on every event, and published.

This module sends no requests to the PBX; `bridge.conferences.conferences` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection

from msgspec import Struct, field, structs

from bridge.ari.dispatch import Unsubscribe, call_safely, subscribe
from bridge.ari.model import Bridge
from bridge.calls.model import CallModel
from bridge.calls.tracker import CallTracker
from bridge.conferences.model import (
    CONFBRIDGE,
    Conference,
    ConferenceKind,
    Left,
    Participant,
    conference_data,
    participant_data,
)
from bridge.control.legs import Leg
from bridge.events.hub import Events
from bridge.tasks import Changed


class Joined(Struct, eq=False):
    """A leg that takes part in an own conference."""

    leg: Leg
    verdict: asyncio.Future[Left]
    """Why the leg must leave the bridge; it may also leave by itself."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the leg has left the bridge, or leaving failed."""

    def let_go(self, why: Left) -> None:
        """Remove the leg from the conference; the first reason counts."""
        if not self.verdict.done():
            self.verdict.set_result(why)


class ConferenceState(Struct, eq=False):
    """One conference."""

    id: str
    name: str
    kind: ConferenceKind
    bridge_id: str
    auto_delete: bool
    created_at: float
    made: asyncio.Future[None] | None = None
    """The request that creates its bridge; None for a room."""
    members: dict[str, Participant] = {}
    """By channel id, as they were when they joined."""
    unnamed: dict[str, None] = {}
    """Members that are not reported yet: the parties behind their Local channels are still unknown."""
    muted: set[str] = set()
    joined: dict[str, Joined] = {}
    """By channel id."""


class Roster:
    """The conferences according to the call model.

    Args:
        tracker: the calls of the PBX.
        events: publishes events.
        clock: returns seconds since 1970.
    """

    def __init__(self, tracker: CallTracker, events: Events, clock: Callable[[], float] = time.time) -> None:
        self.own: dict[str, ConferenceState] = {}
        """Own conferences, by id."""
        self.rooms: dict[str, ConferenceState] = {}
        """ConfBridge rooms, by name. A room whose name is the id of an own conference is hidden while that exists."""
        self.on_emptied: Callable[[ConferenceState], object] = lambda _: None
        """Called when the last participant of an own conference has left."""
        self._tracker = tracker
        self._events = events
        self._clock = clock
        self._on_ended: list[Callable[[str], object]] = []
        self._changed = Changed()

    def on_ended(self, callback: Callable[[str], object]) -> Unsubscribe:
        """Call ``callback(conference_id)`` when a conference ends, before its participants are released."""
        return subscribe(self._on_ended, callback)

    def find(self, conference_id: str) -> ConferenceState | None:
        """Return the current state of a conference; None if it does not exist."""
        self.follow()
        return self.own.get(conference_id) or self.rooms.get(conference_id)

    def snapshot(self, state: ConferenceState) -> Conference:
        """Return the public view of a conference."""
        members = tuple(self._now(state, member) for member in state.members.values())
        return Conference(state.id, state.name, state.kind, state.auto_delete, state.created_at, members)

    def follow(self) -> None:
        """Compare with the model, and publish the changes."""
        model = self._tracker.model
        rooms = {name: bridge for name, bridge in rooms_of(model).items() if name not in self.own}
        for room in tuple(self.rooms.values()):
            bridge = rooms.get(room.id)
            if bridge is None or bridge.id != room.bridge_id:
                del self.rooms[room.id]
                self.notify_ending(room)
                self.ended(room)
        for name, bridge in rooms.items():
            if name not in self.rooms:
                self.rooms[name] = ConferenceState(name, name, "confbridge", bridge.id, True, self._clock())
                self.publish_created(self.rooms[name])
        for state in (*self.own.values(), *self.rooms.values()):
            self._part(state, parties_in(model.bridges.get(state.bridge_id), model))

    def publish_created(self, state: ConferenceState) -> None:
        """Publish that a conference has begun."""
        self._events.publish("conference_created", conference_data(self.snapshot(state)))

    def notify_ending(self, state: ConferenceState) -> None:
        """Call the callbacks for a conference that is about to end."""
        for callback in tuple(self._on_ended):
            call_safely(callback, state.id)

    def ended(self, state: ConferenceState) -> None:
        """Publish that a conference has ended, after all its participants have left."""
        self._part(state, ())
        self._events.publish("conference_deleted", conference_data(self.snapshot(state)))

    async def until(self, true: Callable[[], bool], timeout_s: float) -> None:
        """Wait until a condition is true, at most ``timeout_s`` seconds: the requested change is in progress."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not true():
                    await self._changed.wait()

    def _part(self, state: ConferenceState, present: Collection[str]) -> None:
        """Set the participants to exactly those ``present``."""
        gone = [member for member in state.members.values() if member.channel_id not in present]
        come = [channel_id for channel_id in present if channel_id not in state.members]
        for member in gone:
            self._report_joined(state, self._now(state, member))
            left = state.members.pop(member.channel_id)  # as reported: another party may be behind its channel now
            left = structs.replace(left, muted=left.channel_id in state.muted)
            self._events.publish("conference_left", participant_data(state.id, left))
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

    def _report_joined(self, state: ConferenceState, member: Participant) -> None:
        if member.channel_id in state.unnamed:
            del state.unnamed[member.channel_id]
            state.members[member.channel_id] = member
            self._events.publish("conference_joined", participant_data(state.id, member))

    def _is_arriving(self, channel_id: str) -> bool:
        """Return whether a member is a Local channel behind which the party is still unknown.

        After an attended transfer one half enters the conference's bridge first, then the other half, which runs no
        application, the bridge of the other party.
        """
        found = self._tracker.model.member(channel_id)
        if found is None:
            return False
        model, (_, party) = self._tracker.model, found
        half = model.other_half(party)
        return half is not None and not half.app_name and model.person_behind(party).is_local

    def _now(self, state: ConferenceState, known: Participant) -> Participant:
        """Return the current facts of a participant; for one that has left, those of when it joined."""
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
    """Return the ConfBridge rooms of the PBX with at least one party, by name.

    Rooms that contain only own channels and Asterisk's own (announcers, recorders) are ignored: otherwise a stream and
    its room would keep each other alive indefinitely.
    """
    return {
        bridge.name: bridge
        for bridge in model.bridges.values()
        if bridge.creator == CONFBRIDGE and bridge.name and parties_in(bridge, model)
    }


def parties_in(bridge: Bridge | None, model: CallModel) -> list[str]:
    """Return the ids of the channels of a bridge that belong to parties."""
    return [] if bridge is None else [channel_id for channel_id in bridge.channels if model.member(channel_id)]
