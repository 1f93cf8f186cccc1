"""Conferences: mixing bridges of asterisk-bridge, and the ConfBridge rooms that the dialplan runs.

    own     created by `Conferences.create`, kept until deleted. Legs enter by `join`, streams by `tap_point`.
    room    exists from its first to its last participant. Streams can receive and send its audio, and participants can
            be hung up; ARI offers nothing more from outside.

If a state file is kept, own conferences whose bridges still exist are resumed after a restart, with their participants.
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
from bridge.calls.call import Change, PartyChanged, PartyLeft
from bridge.calls.ids import OwnIds
from bridge.calls.journal import Journal
from bridge.calls.tracker import CallTracker
from bridge.conferences.local import SETTLE_S, LocalConferences, made, within
from bridge.conferences.model import (
    CONFBRIDGE,
    Conference,
    ConferenceExists,
    ConferenceKind,
    Left,
    NoSuchConference,
    Participant,
    check,
)
from bridge.conferences.remote import RemoteConferences
from bridge.conferences.roster import ConferenceState, Roster
from bridge.control.call_control import NotControlled
from bridge.control.legs import Leg, LegEnded
from bridge.errors import BridgeError
from bridge.events.hub import Events
from bridge.taps.taps import ConfBridge, Join, TapPoint

__all__ = [
    "Conference",
    "ConferenceExists",
    "ConferenceKind",
    "Conferences",
    "Left",
    "NoSuchConference",
    "NotControlled",
    "Participant",
]  # fmt: skip

log = logging.getLogger(__name__)

MEMBER = "member"
"""Kind of facts: calls that exist only to take part in a conference."""


class Conferences:
    """All conferences of the PBX. Construct after the tracker, to handle every event after the tracker.

    Args:
        client: ARI.
        tracker: the calls of the PBX.
        ids: generates ids of own objects.
        events: publishes events.
        context: ``calling.context``, whose extensions ``room-NAME`` lead into ConfBridge rooms. Without it, rooms are
            listed and their participants can be hung up, nothing more.
        clock: returns seconds since 1970.
        remote: conferences of other workers; None: there are no other workers.
        journal: stores own conferences; None: none is resumed after a restart.
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

    # Look-up

    @property
    def object_ids(self) -> Collection[str]:
        """Ids of the bridges in use."""
        return self._local.object_ids

    def get(self, conference_id: str) -> Conference | None:
        """Return a snapshot of a conference; None if it does not exist."""
        state = self._roster.find(conference_id)
        return self._roster.snapshot(state) if state else None

    def list(self) -> list[Conference]:
        """Return all conferences, oldest first."""
        self._roster.follow()
        states = [*self._roster.own.values(), *self._roster.rooms.values()]
        return [self._roster.snapshot(state) for state in sorted(states, key=lambda one: (one.created_at, one.id))]

    def tap_point(self, conference_id: str) -> TapPoint:
        """Return the tap point of a media leg that receives the mix of a conference and sends to all participants.

        Raises:
            NoSuchConference: unknown conference.
            NotControlled: a room, while no context that leads into rooms is configured.
        """
        elsewhere = self._remote.find(conference_id)
        if elsewhere is not None:
            return Join(elsewhere)
        state = self._known(conference_id)
        if state.kind == "bridge":
            return Join(state.bridge_id)
        return ConfBridge(state.id, self._way_in(state))

    def on_ended(self, callback: Callable[[str], object]) -> Unsubscribe:
        """Call ``callback(conference_id)`` when a conference ends, before its participants are released."""
        return self._roster.on_ended(callback)

    # Creation and deletion

    async def create(self, name: str = "", id: str | None = None, *, auto_delete: bool = False) -> Conference:
        """Create a conference.

        Args:
            name: for display; empty: the id.
            id: printable characters without slashes, such as ``daily`` or ``Room 5``; None: a UUID.
            auto_delete: delete it when its last participant leaves.

        Raises:
            ValueError: an invalid id or name.
            ConferenceExists: a conference or room has this id.
            Overloaded: the limit is reached.
            AriError: Asterisk refused the bridge, or the process is shutting down.
        """
        conference_id = str(uuid.uuid4()) if id is None else id
        check(conference_id, name)
        if self._roster.find(conference_id) is not None or self._remote.find(conference_id) is not None:
            raise ConferenceExists(f"the conference {conference_id!r} already exists")
        state = self._local.make(conference_id, name, auto_delete=auto_delete)
        await made(state)
        return self._roster.snapshot(state)

    async def delete(self, conference_id: str) -> None:
        """End a conference.

        Its streams end, and its participants are released (`join` returns). Participants of a room, and channels that
        were added to an own bridge by other programs, are hung up.

        Raises:
            NoSuchConference: unknown conference.
            AriError: Asterisk refused.
        """
        state = self._known(conference_id)
        if state.kind == "bridge":
            await self._local.end(state)
            return
        for channel_id in tuple(state.members):
            await self._client.channels.hangup(channel_id)
        await self._roster.until(lambda: self._roster.rooms.get(conference_id) is not state, SETTLE_S)

    def resume(self, bridge_ids: Collection[str]) -> None:
        """Resume conferences of the previous run whose bridges exist; legs in them join again."""
        self._local.resume(bridge_ids)

    async def stop(self) -> None:
        """End own conferences, without hanging anyone up."""
        await self._local.stop()

    # Participants

    async def join(self, leg: Leg, conference_id: str, *, muted: bool = False, create: bool = False) -> Left:
        """Add a leg to a conference, and return when it has left.

        Afterwards the leg is not in a mixing bridge, and unmuted.

        Args:
            leg: the participant.
            conference_id: the conference or room.
            muted: mute the audio from the leg, until `unmute`.
            create: if the id is unknown, create a conference that is deleted when its last participant leaves.

        Returns:
            Why it left.

        Raises:
            NoSuchConference: unknown conference.
            NotControlled: a room, while no context that leads into rooms is configured, or with ``muted``.
            ValueError: the leg takes part already; or ``create`` with an invalid id.
            Overloaded: ``create`` while the limit is reached.
            LegEnded: the leg has ended.
            AriError: Asterisk refused.
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
            raise NoSuchConference(f"unknown conference {conference_id[:160]!r}")
        if state.kind == "bridge":
            return await self._local.join(leg, state, muted)
        self._way_in(state)
        if muted:
            raise NotControlled(_NOT_FROM_OUTSIDE)
        await leg.visit_dialplan(f"room-{conference_id}")
        return "left"

    async def bring(self, leg: Leg, conference_id: str) -> None:
        """Add a call that does nothing else to a conference (`Legs.on_conference`), and hang up when it has left.

        Creates the conference if necessary, as ``join(create=True)``. A call that was moved to another bridge (a
        transfer) is left alone. Raises nothing.
        """
        self._journal.put(MEMBER, leg.id, {"conference_id": conference_id})
        try:
            if await self.join(leg, conference_id, create=True) == "left" and leg.bridge_id is not None:
                return
        except LegEnded:
            return  # hung up in the conference, or before reaching it
        except (BridgeError, ValueError) as error:
            log.warning(
                "conference not joined, hanging up conference=%s channel=%s error=%s", conference_id, leg.id, error
            )
        finally:
            self._journal.drop(MEMBER, leg.id)
        with contextlib.suppress(BridgeError):
            await leg.hang_up()

    async def kick(self, conference_id: str, channel_id: str) -> None:
        """Remove a participant: its `join` returns. One of a room is hung up.

        Raises:
            NoSuchConference: unknown conference, or no such participant.
            AriError: Asterisk refused.
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
        """Mute the audio from a participant; repeating it is harmless.

        Raises:
            NoSuchConference: unknown conference, or no such participant.
            NotControlled: in a room of the dialplan, where ARI cannot mute.
            AriError: Asterisk refused.
        """
        state = self._state_with(conference_id, channel_id)
        await _leg_in(state, channel_id).mute("in")
        state.muted.add(channel_id)

    async def unmute(self, conference_id: str, channel_id: str) -> None:
        """Unmute a participant; raise the same exceptions as `mute`."""
        state = self._state_with(conference_id, channel_id)
        await _leg_in(state, channel_id).unmute("in")
        state.muted.discard(channel_id)

    # State

    def _known(self, conference_id: str) -> ConferenceState:
        state = self._roster.find(conference_id)
        if state is None:
            raise NoSuchConference(f"unknown conference {conference_id[:160]!r}")
        return state

    def _state_with(self, conference_id: str, channel_id: str) -> ConferenceState:
        state = self._known(conference_id)
        if channel_id not in state.members:
            raise NoSuchConference(f"unknown participant {channel_id[:160]!r} of conference {conference_id!r}")
        return state

    def _way_in(self, room: ConferenceState) -> str:
        if not self._context:
            raise NotControlled(
                f"{room.id!r} is a ConfBridge room of the dialplan. Set calling.context to a context that leads into "
                "rooms"
            )
        return self._context

    # Events of the PBX

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


def _leg_in(state: ConferenceState, channel_id: str) -> Leg:
    joined = state.joined.get(channel_id)
    if joined is None:
        raise NotControlled(_NOT_FROM_OUTSIDE)
    return joined.leg


_NOT_FROM_OUTSIDE = (
    "participants of a ConfBridge room cannot be muted through ARI. Use the room's own menu, or a conference that "
    "asterisk-bridge has created"
)
