"""Conferences of this process: mixing bridges that exist until deleted, and that legs enter and leave."""

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
from bridge.conferences.roster import ConferenceState, Joined, Roster
from bridge.control.bridges import BRIDGE_TYPE
from bridge.control.legs import Leg, LegEnded
from bridge.errors import AriError, Overloaded
from bridge.tasks import BackgroundTasks, first_of

log = logging.getLogger(__name__)

CONFERENCE = "conference"
"""Kind of facts: conferences."""
MAX_CONFERENCES = 1000
"""Limit of conferences: each is a bridge of Asterisk, until it is deleted."""
SETTLE_S = 3.0
"""Time limit for the effect of a request to appear in events, in seconds."""
HANGUP_SHOWS_S = 0.5
"""Time to wait for the end of a channel that left its bridge, in seconds: a hangup removes it from the bridge first."""


class LocalConferences:
    """Creates, joins and ends conferences. See `bridge.conferences.conferences` for the exceptions."""

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
        self._ending: set[ConferenceState] = set()
        self._tasks = BackgroundTasks("conferences")
        self._stopping = False
        roster.on_emptied = self._tidy
        client.on_replaced(self._on_replaced)
        client.on_connected(lambda: self._tasks.spawn(self._create_missing()))

    @property
    def object_ids(self) -> Collection[str]:
        """Ids of the bridges in use."""
        return {state.bridge_id for state in (*self._roster.own.values(), *self._ending)}

    def make(self, conference_id: str, name: str, *, auto_delete: bool) -> ConferenceState:
        """Begin to create a conference; ``made`` completes when its bridge exists or the request failed.

        Raises:
            Overloaded: the limit is reached.
            AriError: the process is shutting down.
        """
        if self._stopping:
            raise AriError(0, "POST", "/bridges", "asterisk-bridge is shutting down")
        if len(self._roster.own) >= MAX_CONFERENCES:
            raise Overloaded(f"the limit of {MAX_CONFERENCES} conferences is reached")
        bridge_id = self._ids.new("conf")
        state = ConferenceState(conference_id, name or conference_id, "bridge", bridge_id, auto_delete, self._clock())
        self._roster.own[conference_id] = state  # before the request, or a sweep would delete the bridge as an orphan
        state.made = self._tasks.spawn(self._create(state))
        return state

    async def end(self, state: ConferenceState) -> None:
        """Release all participants and delete the bridge, even if the caller is cancelled."""
        await asyncio.shield(self._tasks.spawn(self._end(state)))

    def bridge_destroyed(self, bridge_id: str) -> None:
        """Handle the end of a bridge; if it was a conference's, another program deleted it."""
        for state in [state for state in self._roster.own.values() if state.bridge_id == bridge_id]:
            log.warning("conference ended, its bridge was deleted by another program conference=%s", state.id)
            self._tasks.spawn(self._end(state))

    async def stop(self) -> None:
        """End all conferences, without hanging anyone up."""
        self._stopping = True
        for state in tuple(self._roster.own.values()):
            self._tasks.spawn(self._end(state))
        await self._tasks.stop(grace_s=5)

    async def join(self, leg: Leg, state: ConferenceState, muted: bool) -> Left:
        """Add a leg, and return when it has left."""
        if leg.id in state.joined:
            raise ValueError(f"channel {leg.id} already takes part in the conference")
        joined = state.joined[leg.id] = Joined(leg, asyncio.get_running_loop().create_future())
        try:
            await made(state)
            await leg.answer()
            if muted:
                await leg.mute("in")
                state.muted.add(leg.id)
            await leg.move_to(state.bridge_id)
            log.info("conference joined conference=%s channel=%s", state.id, leg.id)
            return await _verdict(joined, state.bridge_id)
        except (AriError, LegEnded):
            if joined.verdict.done() and not leg.gone.is_set():  # the conference ended while the leg was joining
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

    async def _leave(self, joined: Joined, state: ConferenceState) -> None:
        leg = joined.leg
        try:
            if not leg.gone.is_set():
                if leg.id in state.muted:
                    await leg.unmute("in")
                if leg.bridge_id == state.bridge_id:
                    await leg.leave_bridge()
        except (AriError, LegEnded) as error:
            log.info("leaving a conference failed conference=%s channel=%s error=%s", state.id, leg.id, error)
        finally:
            state.muted.discard(leg.id)
            state.joined.pop(leg.id, None)
            joined.over.set()
            self._tidy(state)

    async def _create(self, state: ConferenceState) -> None:
        try:
            await self._client.bridges.create(bridge_id=state.bridge_id, type=BRIDGE_TYPE, name=state.bridge_id)
        except BaseException:
            self._roster.own.pop(state.id, None)
            raise
        log.info("conference created conference=%s mixing_bridge=%s", state.id, state.bridge_id)
        self._keep(state)
        self._publish_own()
        self._roster.publish_created(state)

    def _keep(self, state: ConferenceState) -> None:
        names = ("id", "name", "bridge_id", "auto_delete", "created_at")
        self._journal.put(CONFERENCE, state.id, {name: getattr(state, name) for name in names})

    def resume(self, bridge_ids: Collection[str]) -> None:
        """Resume the conferences of the previous run whose bridges exist."""
        for conference_id in tuple(self._journal.found.get(CONFERENCE, ())):
            fact = self._journal.take(CONFERENCE, conference_id)
            if fact is None or fact["bridge_id"] not in bridge_ids or conference_id in self._roster.own:
                continue
            state = self._roster.own[conference_id] = ConferenceState(**fact, kind="bridge")
            state.made = asyncio.get_running_loop().create_future()
            state.made.set_result(None)
            self._keep(state)
            log.info("conference resumed conference=%s mixing_bridge=%s", state.id, state.bridge_id)
        self._publish_own()

    async def _end(self, state: ConferenceState) -> None:
        """Release all participants and delete the bridge; once."""
        if self._roster.own.get(state.id) is not state:
            return
        self._journal.drop(CONFERENCE, state.id)
        del self._roster.own[state.id]
        self._ending.add(state)
        self._publish_own()
        try:
            self._roster.notify_ending(state)
            if state.made is not None:  # otherwise a bridge created now would remain
                await asyncio.wait((state.made,))
            going = dict(state.joined)
            for joined in going.values():
                joined.let_go("deleted")
            if not self._stopping:
                for channel_id in [member for member in state.members if member not in going]:
                    if not self._remote.has_leg(channel_id):  # otherwise it leaves when the bridge is deleted
                        await self._client.channels.hangup(channel_id)
            await within(SETTLE_S, *(joined.over for joined in going.values()))
            await self._client.bridges.destroy(state.bridge_id)
        finally:
            self._ending.discard(state)  # a bridge that was not deleted is an orphan now, and swept
            self._roster.ended(state)
            log.info("conference ended conference=%s", state.id)

    def _tidy(self, state: ConferenceState) -> None:
        """Delete an empty conference with ``auto_delete``."""
        empty = not state.members and not state.joined
        if state.auto_delete and empty and self._roster.own.get(state.id) is state:
            self._tasks.spawn(self._end(state))

    async def _create_missing(self) -> None:
        """Create bridges that Asterisk lost while the connection was down."""
        if not self._roster.own:
            return
        await self._tracker.resync()
        for state in tuple(self._roster.own.values()):
            if state.made is not None and state.made.done() and state.bridge_id not in self._tracker.model.bridges:
                log.warning("conference bridge missing on the PBX, created again conference=%s", state.id)
                await self._client.bridges.create(bridge_id=state.bridge_id, type=BRIDGE_TYPE, name=state.bridge_id)

    def _publish_own(self) -> None:
        self._remote.on_own({state.id: state.bridge_id for state in self._roster.own.values()})


async def made(state: ConferenceState) -> None:
    """Wait until the conference's bridge exists; raise AriError if the request failed."""
    assert state.made is not None
    await asyncio.shield(state.made)


async def _verdict(joined: Joined, bridge_id: str) -> Left:
    """Wait until a leg leaves; return the reason, or raise LegEnded if it has ended."""
    await first_of(joined.leg.left(bridge_id), joined.verdict)
    if not joined.verdict.done():
        await within(HANGUP_SHOWS_S, joined.leg.gone)
    if joined.leg.gone.is_set():
        raise LegEnded(f"channel {joined.leg.id} has ended")
    return joined.verdict.result() if joined.verdict.done() else "left"


async def within(timeout_s: float, *events: asyncio.Event) -> None:
    """Wait for all events, at most for ``timeout_s`` seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            for event in events:
                await event.wait()
