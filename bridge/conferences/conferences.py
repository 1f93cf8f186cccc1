"""Conferences: mixing bridges of our own, and the ConfBridge rooms that the dialplan runs.

    ours    made by `Conferences.create`, kept until deleted. Legs come by `join`, streams by `tap_point`.
    a room  comes and goes by itself with its first and last participant; it is seen, heard and spoken to, and its
            participants can be hung up. Asterisk has no verb for more from outside.

After a restart those of ours whose bridges still exist are taken up, with who is in them, if a state file is kept.
"""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Collection

from bridge.ari.client import AriClient
from bridge.ari.dispatch import Unsubscribe
from bridge.ari.model import BridgeDestroyed, Event
from bridge.calls.ids import OwnIds
from bridge.calls.journal import Journal
from bridge.calls.model import Change, PartyChanged, PartyLeft
from bridge.calls.tracker import CallTracker
from bridge.conferences.local import SETTLE_S, LocalConferences, made, within
from bridge.conferences.model import (
    CONFBRIDGE,
    Conference,
    ConferenceExists,
    Kind,
    Left,
    NoSuchConference,
    Participant,
    check,
)
from bridge.conferences.remote import RemoteConferences
from bridge.conferences.roster import Roster, State
from bridge.control.call_control import NotOurs
from bridge.control.legs import Leg, LegGone
from bridge.errors import BridgeError
from bridge.events.hub import Events
from bridge.taps.taps import ConfBridge, Join, TapPoint

__all__ = [
    "Conference", "ConferenceExists", "Conferences", "Kind", "Left", "NoSuchConference", "NotOurs", "Participant",
]  # fmt: skip

log = logging.getLogger(__name__)

MEMBER = "member"
"""Facts of this kind are calls that came for nothing but a conference."""


class Conferences:
    """All conferences of the PBX. Make it after the tracker, so that it sees every event after the tracker did.

    Args:
        context: ``calling.context``, whose extensions ``room-NAME`` lead into ConfBridge rooms. Without one, rooms are
            shown and their participants can be hung up, and that is all.
        clock: seconds since 1970.
        remote: those of other workers; None: there are no other workers.
        journal: keeps the conferences of ours; None: none is taken up after a restart.
    """

    def __init__(
        self,
        client: AriClient,
        tracker: CallTracker,
        ids: OwnIds,
        events: Events,
        *,
        context: str = "",
        clock: Callable[[], float] = time.time,
        remote: RemoteConferences | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._journal = journal or Journal()
        self._client = client
        self._ids = ids
        self._context = context
        self._roster = Roster(tracker, events, clock)
        self._remote = remote or RemoteConferences()
        self._local = LocalConferences(client, tracker, ids, self._roster, clock, self._remote, journal=self._journal)
        client.on_event("*", self._on_event)
        tracker.subscribe(self._on_change)

    # Which there are

    @property
    def object_ids(self) -> Collection[str]:
        """Ids of the bridges in use."""
        return self._local.object_ids

    def get(self, conference_id: str) -> Conference | None:
        """A conference as it is now; None if there is none."""
        state = self._roster.find(conference_id)
        return self._roster.snapshot(state) if state else None

    def list(self) -> list[Conference]:
        """All of them, the oldest first."""
        self._roster.follow()
        states = [*self._roster.own.values(), *self._roster.rooms.values()]
        return [self._roster.snapshot(state) for state in sorted(states, key=lambda one: (one.created_at, one.id))]

    def tap_point(self, conference_id: str) -> TapPoint:
        """Where a media leg hears all of it but itself, and is heard by all.

        Raises:
            NoSuchConference: there is none.
            NotOurs: it is a room, and no context is configured that leads into rooms.
        """
        elsewhere = self._remote.find(conference_id)
        if elsewhere is not None:
            return Join(elsewhere)
        state = self._known(conference_id)
        if state.kind == "bridge":
            return Join(state.bridge_id)
        return ConfBridge(state.id, self._way_in(state))

    def on_ended(self, callback: Callable[[str], object]) -> Unsubscribe:
        """Call ``callback(conference_id)`` when one ends, before its members are let go."""
        return self._roster.on_ended(callback)

    # Making and ending

    async def create(self, name: str = "", id: str | None = None, *, auto_delete: bool = False) -> Conference:
        """Make a conference of ours.

        Args:
            name: for people; the id if it is empty.
            id: printable characters without slashes, such as ``daily`` or ``Room 5``; a UUID if it is None.
            auto_delete: delete it when its last participant leaves.

        Raises:
            ValueError: a bad id or name.
            ConferenceExists: the id is taken, be it by a room.
            Overloaded: there are as many as there may be.
            AriError: Asterisk did not make it, or the bridge is shutting down.
        """
        conference_id = str(uuid.uuid4()) if id is None else id
        check(conference_id, name)
        if self._roster.find(conference_id) is not None or self._remote.find(conference_id) is not None:
            raise ConferenceExists(f"there is a conference {conference_id!r} already")
        state = self._local.make(conference_id, name, auto_delete=auto_delete)
        await made(state)
        return self._roster.snapshot(state)

    async def delete(self, conference_id: str) -> None:
        """End a conference: streams on it end, and its members are let go (`join` returns). Those of a room, and
        whoever else has been put into a bridge of ours, are hung up.

        Raises:
            NoSuchConference: there is none.
            AriError: Asterisk did not do it.
        """
        state = self._known(conference_id)
        if state.kind == "bridge":
            await self._local.end(state)
            return
        for channel_id in tuple(state.members):
            await self._client.channels.hangup(channel_id)
        await self._roster.until(lambda: self._roster.rooms.get(conference_id) is not state, SETTLE_S)

    def resume(self, bridge_ids: Collection[str]) -> None:
        """Take up those of the previous run whose bridges exist; legs that are in them join again."""
        self._local.resume(bridge_ids)

    async def stop(self) -> None:
        """End those of ours; nobody is hung up."""
        await self._local.stop()

    # Taking part

    async def join(self, leg: Leg, conference_id: str, *, muted: bool = False, create: bool = False) -> Left:
        """Have a leg take part; returns when it no longer does. It is in no bridge then, and not muted.

        Args:
            muted: it is not heard, until `unmute`.
            create: make a conference of ours if there is none of that id, and delete it when its last participant
                leaves. A room of that name is joined rather.

        Raises:
            NoSuchConference: there is none.
            NotOurs: it is a room, and no context is configured that leads into rooms, or ``muted`` was asked for.
            ValueError: the leg takes part already; or ``create``, and the id cannot be one.
            Overloaded: ``create``, and there are as many as there may be.
            LegGone: the leg has ended.
            AriError: Asterisk did not do it.
        """
        state = self._roster.find(conference_id)
        if state is None:
            if create:
                check(conference_id, "")
            elsewhere = self._remote.find(conference_id) or (await self._remote.make(conference_id) if create else None)
            if elsewhere is not None:
                return await self._remote.join(leg, elsewhere, muted=muted)
            state = self._roster.find(conference_id)
        if state is None and create:
            state = self._local.make(conference_id, "", auto_delete=True)
        if state is None:
            raise NoSuchConference(f"there is no conference {conference_id[:160]!r}")
        if state.kind == "bridge":
            return await self._local.join(leg, state, muted)
        self._way_in(state)
        if muted:
            raise NotOurs(_NOT_FROM_OUTSIDE)
        await leg.visit_dialplan(f"room-{conference_id}")
        return "left"

    async def bring(self, leg: Leg, conference_id: str) -> None:
        """Have a call take part that came for nothing else (`Legs.on_conference`), and hang it up when it has left.

        A conference that is not there is made, as with ``join(create=True)``. One that was moved to another bridge (a
        transfer) is left alone. Nothing is raised.
        """
        self._journal.put(MEMBER, leg.id, {"conference_id": conference_id})
        try:
            if await self.join(leg, conference_id, create=True) == "left" and leg.bridge_id is not None:
                return
        except LegGone:
            return  # it has hung up, in the conference or on the way there
        except (BridgeError, ValueError) as error:
            log.warning("conference=%s channel=%s did not get there: %s", conference_id, leg.id, error)
        finally:
            self._journal.drop(MEMBER, leg.id)
        with contextlib.suppress(BridgeError):
            await leg.hang_up()

    async def kick(self, conference_id: str, channel_id: str) -> None:
        """Let a participant go: its `join` returns. One of a room is hung up.

        Raises:
            NoSuchConference: there is none, or no such participant in it.
            AriError: Asterisk did not do it.
        """
        state = self._state_with(conference_id, channel_id)
        joined = state.joined.get(channel_id)
        if joined is None and state.kind == "bridge" and self._remote.has_leg(channel_id):
            await self._client.bridges.remove_channel(state.bridge_id, channel_id)
        elif joined is None:
            await self._client.channels.hangup(channel_id)
        else:
            joined.let_go("kicked")
            await within(SETTLE_S, joined.over)
        await self._roster.until(lambda: channel_id not in state.members, SETTLE_S)

    async def mute(self, conference_id: str, channel_id: str) -> None:
        """Let a participant hear and not be heard; twice is fine.

        Raises:
            NoSuchConference: there is none, or no such participant in it.
            NotOurs: it is in a room of the dialplan: nobody can be muted there from outside.
            AriError: Asterisk did not do it.
        """
        state = self._state_with(conference_id, channel_id)
        await _leg_in(state, channel_id).mute("in")
        state.muted.add(channel_id)

    async def unmute(self, conference_id: str, channel_id: str) -> None:
        """Let a participant be heard again; raises what `mute` does."""
        state = self._state_with(conference_id, channel_id)
        await _leg_in(state, channel_id).unmute("in")
        state.muted.discard(channel_id)

    # What there is to know

    def _known(self, conference_id: str) -> State:
        state = self._roster.find(conference_id)
        if state is None:
            raise NoSuchConference(f"there is no conference {conference_id[:160]!r}")
        return state

    def _state_with(self, conference_id: str, channel_id: str) -> State:
        state = self._known(conference_id)
        if channel_id not in state.members:
            raise NoSuchConference(f"no participant of conference {conference_id!r} has the id {channel_id[:160]!r}")
        return state

    def _way_in(self, room: State) -> str:
        if not self._context:
            raise NotOurs(
                f"{room.id!r} is a ConfBridge room of the dialplan, and calling.context names no context that leads "
                "into rooms"
            )
        return self._context

    # Following the PBX

    def _on_event(self, event: Event) -> None:
        bridge = event.bridge
        if bridge is None or not (bridge.creator == CONFBRIDGE or self._ids.ours(bridge.id)):
            return
        self._roster.follow()
        if isinstance(event, BridgeDestroyed):
            self._local.bridge_destroyed(bridge.id)

    def _on_change(self, change: Change) -> None:
        if isinstance(change, PartyLeft) or (isinstance(change, PartyChanged) and "bridge_id" in change.fields):
            self._roster.follow()


def _leg_in(state: State, channel_id: str) -> Leg:
    joined = state.joined.get(channel_id)
    if joined is None:
        raise NotOurs(_NOT_FROM_OUTSIDE)
    return joined.leg


_NOT_FROM_OUTSIDE = (
    "Asterisk lets nobody be muted in a ConfBridge room from outside: the room's own menu can do it; a conference that "
    "the bridge has made is no such room"
)
