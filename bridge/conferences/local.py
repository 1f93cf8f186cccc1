"""Conferences of this process: mixing bridges that exist until they are deleted, and that legs enter and leave."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection

from bridge.ari.client import AriClient
from bridge.ari.model import Channel
from bridge.calls.ids import OwnIds
from bridge.calls.journal import Journal
from bridge.calls.tracker import CallTracker
from bridge.conferences.model import Left
from bridge.conferences.remote import RemoteConferences
from bridge.conferences.roster import Joined, Roster, State
from bridge.control.bridges import BRIDGE_TYPE
from bridge.control.legs import Leg, LegGone
from bridge.errors import AriError, Overloaded
from bridge.tasks import BackgroundTasks, first_of

log = logging.getLogger(__name__)

CONFERENCE = "conference"
"""Facts of this kind are conferences."""
MAX_CONFERENCES = 1000
"""Each is a bridge of Asterisk, there until somebody deletes it."""
SETTLE_S = 3.0
"""How long we wait until what was asked for shows."""
HANGUP_SHOWS_S = 0.5
"""A channel that hangs up leaves its bridge first: so long we wait for the news before taking it for moved."""


class LocalConferences:
    """Creates and ends them, and has legs take part. See `bridge.conferences.conferences` for what is raised."""

    def __init__(
        self,
        client: AriClient,
        tracker: CallTracker,
        ids: OwnIds,
        roster: Roster,
        clock: Callable[[], float],
        remote: RemoteConferences | None = None,
        *,
        journal: Journal | None = None,
    ) -> None:
        self._journal = journal or Journal()
        self._client = client
        self._tracker = tracker
        self._ids = ids
        self._roster = roster
        self._clock = clock
        self._remote = remote or RemoteConferences()
        self._ending: set[State] = set()
        self._tasks = BackgroundTasks("conferences")
        self._stopping = False
        roster.on_emptied = self._tidy
        client.on_replaced(self._on_replaced)
        client.on_connected(lambda: self._tasks.spawn(self._make_again()))

    @property
    def object_ids(self) -> Collection[str]:
        """Ids of the bridges in use."""
        return {state.bridge_id for state in (*self._roster.own.values(), *self._ending)}

    def make(self, conference_id: str, name: str, *, auto_delete: bool) -> State:
        """Begin to make one; ``State.made`` is done when it is there, or could not be made.

        Raises:
            Overloaded: there are as many as there may be.
            AriError: the bridge is shutting down.
        """
        if self._stopping:
            raise AriError(0, "POST", "/bridges", "the bridge is shutting down")
        if len(self._roster.own) >= MAX_CONFERENCES:
            raise Overloaded(f"there are {MAX_CONFERENCES} conferences already, and may not be more")
        bridge_id = self._ids.new("conf")
        state = State(conference_id, name or conference_id, "bridge", bridge_id, auto_delete, self._clock())
        self._roster.own[conference_id] = state  # before the request: a sweep must not take it for an orphan
        state.made = self._tasks.spawn(self._create(state))
        return state

    async def end(self, state: State) -> None:
        """Let everybody go, and delete its bridge, even if whoever asked for it is cancelled."""
        await asyncio.shield(self._tasks.spawn(self._end(state)))

    def bridge_destroyed(self, bridge_id: str) -> None:
        """A bridge is gone from the PBX; if it was a conference's, somebody else did it."""
        for state in [state for state in self._roster.own.values() if state.bridge_id == bridge_id]:
            log.warning("conference=%s somebody else deleted its bridge", state.id)
            self._tasks.spawn(self._end(state))

    async def stop(self) -> None:
        """End all; nobody is hung up."""
        self._stopping = True
        for state in tuple(self._roster.own.values()):
            self._tasks.spawn(self._end(state))
        await self._tasks.stop(grace_s=5)

    async def join(self, leg: Leg, state: State, muted: bool) -> Left:
        """Have a leg take part until it no longer does."""
        if leg.id in state.joined:
            raise ValueError(f"channel {leg.id} is in the conference already")
        joined = state.joined[leg.id] = Joined(leg, asyncio.get_running_loop().create_future())
        try:
            await made(state)
            await leg.answer()
            if muted:
                await leg.mute("in")
                state.muted.add(leg.id)
            await leg.move_to(state.bridge_id)
            log.info("conference=%s channel=%s joins", state.id, leg.id)
            return await _verdict(joined)
        except (AriError, LegGone):
            if joined.verdict.done() and not leg.gone.is_set():  # the conference ended while it was on its way
                return joined.verdict.result()
            raise
        finally:
            await self._leave(joined, state)

    def _on_replaced(self, old: Channel, new: Channel) -> None:
        for state in self._roster.own.values():
            joined = state.joined.pop(old.id, None)
            if joined is not None:
                state.joined[new.id] = joined
            if old.id in state.muted:  # the leg mutes its new channel
                state.muted.add(new.id)

    async def _leave(self, joined: Joined, state: State) -> None:
        leg = joined.leg
        try:
            if not leg.gone.is_set():
                if leg.id in state.muted:
                    await leg.unmute("in")
                if leg.bridge_id == state.bridge_id:
                    await leg.leave_bridge()
        except (AriError, LegGone) as error:
            log.info("conference=%s channel=%s: %s", state.id, leg.id, error)
        finally:
            state.muted.discard(leg.id)
            state.joined.pop(leg.id, None)
            joined.over.set()
            self._tidy(state)

    async def _create(self, state: State) -> None:
        try:
            await self._client.bridges.create(bridge_id=state.bridge_id, type=BRIDGE_TYPE, name=state.bridge_id)
        except BaseException:
            self._roster.own.pop(state.id, None)
            raise
        log.info("conference created conference=%s mixing_bridge=%s", state.id, state.bridge_id)
        self._keep(state)
        self._tell_others()
        self._roster.tell_created(state)

    def _keep(self, state: State) -> None:
        names = ("id", "name", "bridge_id", "auto_delete", "created_at")
        self._journal.put(CONFERENCE, state.id, {name: getattr(state, name) for name in names})

    def resume(self, bridge_ids: Collection[str]) -> None:
        """Take up the conferences of the previous run whose bridges exist."""
        for conference_id in tuple(self._journal.found.get(CONFERENCE, ())):
            fact = self._journal.take(CONFERENCE, conference_id)
            if fact is None or fact["bridge_id"] not in bridge_ids or conference_id in self._roster.own:
                continue
            state = self._roster.own[conference_id] = State(**fact, kind="bridge")
            state.made = asyncio.get_running_loop().create_future()
            state.made.set_result(None)
            self._keep(state)
            log.info("resumed conference=%s mixing_bridge=%s", state.id, state.bridge_id)
        self._tell_others()

    async def _end(self, state: State) -> None:
        """Let everybody go and delete the bridge; once."""
        if self._roster.own.get(state.id) is not state:
            return
        self._journal.drop(CONFERENCE, state.id)
        del self._roster.own[state.id]
        self._ending.add(state)
        self._tell_others()
        try:
            self._roster.tell_ending(state)
            if state.made is not None:  # a bridge that is made only now would stay
                await asyncio.wait((state.made,))
            going = dict(state.joined)
            for joined in going.values():
                joined.let_go("deleted")
            if not self._stopping:
                for channel_id in [member for member in state.members if member not in going]:
                    if not self._remote.has_leg(channel_id):  # it leaves when the bridge is deleted
                        await self._client.channels.hangup(channel_id)
            await within(SETTLE_S, *(joined.over for joined in going.values()))
            await self._client.bridges.destroy(state.bridge_id)
        finally:
            self._ending.discard(state)  # what could not be deleted is an orphan now, and swept
            self._roster.ended(state)
            log.info("conference=%s ended", state.id)

    def _tidy(self, state: State) -> None:
        """Delete what is to be deleted when nobody is left."""
        empty = not state.members and not state.joined
        if state.auto_delete and empty and self._roster.own.get(state.id) is state:
            self._tasks.spawn(self._end(state))

    async def _make_again(self) -> None:
        """After a connection was lost: Asterisk may have forgotten our bridges."""
        if not self._roster.own:
            return
        await self._tracker.resync()
        for state in tuple(self._roster.own.values()):
            if state.made is not None and state.made.done() and state.bridge_id not in self._tracker.model.bridges:
                log.warning("conference=%s is gone from the PBX: made again", state.id)
                await self._client.bridges.create(bridge_id=state.bridge_id, type=BRIDGE_TYPE, name=state.bridge_id)

    def _tell_others(self) -> None:
        self._remote.on_own({state.id: state.bridge_id for state in self._roster.own.values()})


async def made(state: State) -> None:
    """Wait until its bridge is there; AriError if that failed."""
    assert state.made is not None
    await asyncio.shield(state.made)


async def _verdict(joined: Joined) -> Left:
    """Why a leg takes part no longer, once it does not; LegGone if it has ended."""
    await first_of(joined.leg.gone.wait(), joined.verdict)
    if joined.verdict.done() and joined.verdict.result() == "left":
        await within(HANGUP_SHOWS_S, joined.leg.gone)
    if joined.leg.gone.is_set():
        raise LegGone(f"channel {joined.leg.id} has ended")
    return joined.verdict.result()


async def within(timeout_s: float, *events: asyncio.Event) -> None:
    """Wait for all of some events, but not for ever."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            for event in events:
                await event.wait()
