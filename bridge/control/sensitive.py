"""Sensitive mode: while active for a call, applications receive neither the call's audio nor its DTMF digits.

Recordings pause, streams carry silence, and digits are not reported. It covers every party of the call, in both
directions (the agent may repeat the caller's number), and every party that shares a bridge with one of them, because
its tracks carry the same voices. It ends by request, by its timeout, or with the call.

All processes connected to one Asterisk observe the same call, and any may carry one of its streams. They have only the
PBX in common, so a change is sent to each Stasis application as a user event of ARI, and a process that has just
connected queries the others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable

from msgspec import Struct

from bridge.ari.client import AriClient
from bridge.ari.dispatch import call_safely
from bridge.ari.model import ChannelUserevent, Event
from bridge.calls.call import CallEnded, Change, PartyChanged, PartyLeft, PartyReplaced
from bridge.calls.journal import Journal
from bridge.calls.records import Records
from bridge.calls.tracker import CallTracker
from bridge.events.hub import Events
from bridge.tasks import BackgroundTasks

log = logging.getLogger(__name__)

SENSITIVE = "sensitive"
"""Kind of facts: calls in sensitive mode."""
DEFAULT_TIMEOUT_S = 300
MAX_TIMEOUT_S = 3600
"""Limit of the timeout in seconds: abandoned sensitive mode must not hide a call indefinitely."""
EVENT_NAME = "asterisk_bridge_sensitive"
"""Name of the user event by which processes of one Asterisk notify each other."""
LIFTED, TIMED_OUT, CALL_ENDED = "lifted", "timeout", "call ended"


async def _nothing_to_settle() -> None:
    """Do nothing: nothing is recorded."""


class _Entry(Struct, eq=False):
    """One call in sensitive mode."""

    shown: str
    """The call's id in events."""
    call_ids: set[str]
    """Its linkedid, and those of the calls that it has merged with."""
    until: float
    """When it times out, on the loop's clock."""
    timer: asyncio.TimerHandle | None = None


class SensitiveMode:
    """The calls in sensitive mode of which this process has been notified.

    Args:
        client: ARI, to reach other processes; construct this before it is started.
        tracker: the parties of calls.
        records: show which calls are in sensitive mode.
        events: publishes ``sensitive_started`` and ``sensitive_ended``.
        journal: stores calls in sensitive mode; None: a restart ends it.
    """

    def __init__(
        self,
        client: AriClient,
        tracker: CallTracker,
        records: Records,
        events: Events,
        journal: Journal | None = None,
    ) -> None:
        self._journal = journal or Journal()
        self.on_change: list[Callable[[], object]] = []
        """Called whenever the covered parties may have changed; the callbacks call `covers`."""
        self.on_lifted: Callable[[Iterable[str]], object] = lambda _: None
        """Called with the channels of a call whose sensitive mode has ended."""
        self.settled: Callable[[], Coroutine[object, object, None]] = _nothing_to_settle
        """Returns when everything has paused that must; raises AriError if a recording cannot."""
        self._client = client
        self._tracker = tracker
        self._records = records
        self._events = events
        self._entries: list[_Entry] = []
        self._reviewing = False
        self._tasks = BackgroundTasks("sensitive mode")
        tracker.subscribe(self._on_call_change)
        client.on_event("ChannelUserevent", self._on_user_event)

    # Queries

    def covers(self, identity: str) -> bool:
        """Return whether the audio and digits of a call or channel must not reach applications now."""
        if not self._entries:
            return False
        found = self._tracker.find(identity)
        covered = {call_id for entry in self._entries for call_id in entry.call_ids}
        if found is None:
            return identity in covered
        call, party = found
        if call.id in covered:
            return True
        parties = call.parties.values() if identity == call.id else (party,)
        return any(each.bridge_id is not None and self.covers_bridge(each.bridge_id) for each in parties)

    def covers_bridge(self, bridge_id: str) -> bool:
        """Return whether a covered party is in this bridge."""
        calls = self._tracker.calls
        return any(
            party.bridge_id == bridge_id
            for entry in self._entries
            for call_id in entry.call_ids
            if call_id in calls
            for party in calls[call_id].parties.values()
        )

    # Requests of the API and flows

    async def start(self, identity: str, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Begin sensitive mode, or restart its timeout; return when recordings have paused.

        Args:
            identity: a call or one of its channels.
            timeout_s: time in seconds after which it ends.

        Raises:
            KeyError: unknown call.
            AriError: a recording could not be paused, or other processes not notified. It is active in this process.
        """
        found = self._tracker.find(identity)
        if found is None:
            raise KeyError(identity)
        record = self._records.get(identity)
        call_id, shown = found[0].id, record.id if record is not None else found[0].id
        self._begin(call_id, shown, timeout_s)
        await self._inform(call_id, shown, timeout_s)
        await self.settled()

    async def stop(self, identity: str) -> None:
        """End sensitive mode, if active; return when recordings have resumed.

        Raises:
            KeyError: unknown call.
            AriError: a recording could not be resumed, or other processes not notified.
        """
        found = self._tracker.find(identity)
        if found is None:
            raise KeyError(identity)
        call_id = found[0].id
        self._end(self._of(call_id), LIFTED)
        await self._inform(call_id, call_id, 0)
        await self.settled()

    def resume(self) -> None:
        """Resume the sensitive mode of the previous run, for calls that still exist."""
        for shown in tuple(self._journal.found.get(SENSITIVE, ())):
            fact = self._journal.take(SENSITIVE, shown) or {}
            left_s = fact["until"] - time.time()
            for call_id in fact["calls"]:
                if call_id in self._tracker.calls and left_s > 0:
                    self._begin(call_id, shown, left_s)

    async def ask_others(self) -> None:
        """Query the other processes of this Asterisk for calls in sensitive mode, after connecting.

        Raises:
            AriError: Asterisk does not respond.
        """
        await self._send({"ask": self._client.app})

    async def close(self) -> None:
        """Cancel timers and tasks, without events."""
        for entry in self._entries:
            if entry.timer is not None:
                entry.timer.cancel()
        self._entries.clear()
        await self._tasks.stop()

    # Start and end, for the API, flows and other processes

    def _of(self, call_id: str) -> _Entry | None:
        return next((entry for entry in self._entries if call_id in entry.call_ids), None)

    def _begin(self, call_id: str, shown: str, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        entry = self._of(call_id)
        began = entry is None
        if entry is None:
            entry = _Entry(shown, {call_id}, until)
            self._entries.append(entry)
        elif entry.timer is not None:
            entry.timer.cancel()
        entry.until, entry.timer = until, loop.call_at(until, self._end, entry, TIMED_OUT)
        fact = {"calls": sorted(entry.call_ids), "until": time.time() + timeout_s}
        self._journal.put(SENSITIVE, entry.shown, fact)
        if not began:
            return
        self._review()  # silence first, events afterwards
        log.info("sensitive mode started call=%s timeout_s=%g", entry.shown, timeout_s)
        self._records.update(entry.shown, sensitive=True)
        self._events.publish("sensitive_started", {"call_id": entry.shown, "timeout": timeout_s})

    def _end(self, entry: _Entry | None, reason: str) -> None:
        if entry is None or entry not in self._entries:
            return
        if entry.timer is not None:
            entry.timer.cancel()
        calls = [self._tracker.calls[call_id] for call_id in entry.call_ids if call_id in self._tracker.calls]
        self._entries.remove(entry)
        self._journal.drop(SENSITIVE, entry.shown)
        call_safely(self.on_lifted, [channel_id for call in calls for channel_id in call.parties])
        self._review()
        log.info("sensitive mode ended call=%s reason=%s", entry.shown, reason)
        self._records.update(entry.shown, sensitive=False)
        self._events.publish("sensitive_ended", {"call_id": entry.shown, "reason": reason})

    def _review(self) -> None:
        self._reviewing = False
        for callback in self.on_change:
            call_safely(callback)
        self._tasks.spawn(self.settled())  # also without a request: after the timeout, or when a party joins a bridge

    # Changes of calls

    def _on_call_change(self, change: Change) -> None:
        if not self._entries:
            return
        if isinstance(change, PartyChanged) and "bridge_id" not in change.fields:
            return
        entry = self._of(change.call.id)
        if entry is not None:
            if isinstance(change, PartyLeft) and change.moved_to is not None:
                entry.call_ids.add(change.moved_to)
            elif isinstance(change, PartyReplaced):
                entry.call_ids.add(change.into)
            elif isinstance(change, CallEnded):
                if change.merged_into is not None:
                    entry.call_ids.add(change.merged_into)
                entry.call_ids.discard(change.call.id)
                if not entry.call_ids:
                    self._end(entry, CALL_ENDED)
        if not self._reviewing:  # once, after all other subscribers of this change
            self._reviewing = True
            asyncio.get_running_loop().call_soon(self._review)

    # Other processes of this Asterisk

    def _on_user_event(self, event: Event) -> None:
        if not isinstance(event, ChannelUserevent) or event.eventname != EVENT_NAME:
            return
        match event.userevent:
            case {"ask": str(app)}:
                if self._entries and app != self._client.app:
                    self._tasks.spawn(self._answer(app))
            case {"call_id": str(call_id), "shown": str(shown), "timeout_s": str(timeout)}:
                self._learn(call_id, shown, timeout)
            case _:
                log.warning("user event with an unexpected form ignored event=%s", EVENT_NAME)

    def _learn(self, call_id: str, shown: str, timeout: str) -> None:
        try:
            timeout_s = min(float(timeout), MAX_TIMEOUT_S)
        except ValueError:
            log.warning("user event with an invalid timeout ignored event=%s timeout_s=%r", EVENT_NAME, timeout[:20])
            return
        if timeout_s > 0:
            self._begin(call_id, shown, timeout_s)
        else:
            self._end(self._of(call_id), LIFTED)

    async def _answer(self, app: str) -> None:
        now = asyncio.get_running_loop().time()
        for entry in tuple(self._entries):
            for call_id in tuple(entry.call_ids):
                await self._client.asterisk.user_event(EVENT_NAME, app, _told(call_id, entry.shown, entry.until - now))

    async def _inform(self, call_id: str, shown: str, timeout_s: float) -> None:
        await self._send(_told(call_id, shown, timeout_s))

    async def _send(self, variables: dict[str, str]) -> None:
        for app in await self._client.applications.list():
            if app.name != self._client.app:
                await self._client.asterisk.user_event(EVENT_NAME, app.name, variables)


def _told(call_id: str, shown: str, timeout_s: float) -> dict[str, str]:
    """Return the variables of a user event about one call; in seconds from now, as clocks of machines differ."""
    return {"call_id": call_id, "shown": shown, "timeout_s": f"{max(timeout_s, 0):.3f}"}
