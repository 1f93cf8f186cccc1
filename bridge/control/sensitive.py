"""Sensitive mode: while it is on for a call, no application receives the call's audio or its DTMF digits.

Recordings pause, streams carry silence, and digits are not reported. It covers every party of the call, both sides of
the conversation (the number that a caller says is repeated by the agent), and every party that shares a bridge with
one of them, because its tracks carry the same voices. It ends by request, by its timeout, or with the call.

All bridges and workers of one Asterisk see the same call, and any of them may carry one of its streams. The PBX is what
they have in common, so a change is sent to each of their Stasis applications as a user event of ARI, and one that has
just connected asks the others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field

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
"""Facts of this kind are calls in sensitive mode."""
DEFAULT_TIMEOUT_S = 300
MAX_TIMEOUT_S = 3600
"""Sensitive mode that nobody ends must not hide a call forever."""
EVENT_NAME = "asterisk_bridge_sensitive"
"""Name of the user event by which bridges of one Asterisk keep each other informed."""
LIFTED, TIMED_OUT, CALL_ENDED = "lifted", "timeout", "call ended"


async def _nothing_to_settle() -> None:
    """Nothing is recorded."""


@dataclass(eq=False)
class _Entry:
    """One call in sensitive mode."""

    shown: str
    """The call's id as events report it."""
    call_ids: set[str]
    """Its linkedid, and those of the calls that it has merged with since."""
    until: float
    """When it times out, by the loop's clock."""
    timer: asyncio.TimerHandle | None = field(default=None, repr=False)


class Sensitive:
    """The calls that are in sensitive mode, as this process knows them.

    Args:
        client: where other bridges of this Asterisk are reached; create this before it is started.
        tracker: which parties a call has.
        records: shows which calls are in sensitive mode.
        events: where ``sensitive_started`` and ``sensitive_ended`` go.
        journal: keeps which calls are in sensitive mode; None: a restart ends it.
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
        """Called whenever other parties may be covered than before; they call `covers`."""
        self.on_lifted: Callable[[Iterable[str]], object] = lambda _: None
        """Called with the channels of a call whose sensitive mode has ended."""
        self.settled: Callable[[], Coroutine[object, object, None]] = _nothing_to_settle
        """Returns when everything is paused that must be; raises AriError if a recording cannot be."""
        self._client = client
        self._tracker = tracker
        self._records = records
        self._events = events
        self._entries: list[_Entry] = []
        self._reviewing = False
        self._tasks = BackgroundTasks("sensitive mode")
        tracker.subscribe(self._on_call_change)
        client.on_event("ChannelUserevent", self._on_user_event)

    # What others ask

    def covers(self, identity: str) -> bool:
        """Return whether the audio and digits of a call or channel must be kept from applications now."""
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
        """Return whether a party that is covered is in this bridge."""
        calls = self._tracker.calls
        return any(
            party.bridge_id == bridge_id
            for entry in self._entries
            for call_id in entry.call_ids
            if call_id in calls
            for party in calls[call_id].parties.values()
        )

    # What the API and flows do

    async def start(self, identity: str, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Begin sensitive mode, or begin its timeout again; returns when recordings have paused.

        Args:
            identity: a call or one of its channels.
            timeout_s: seconds after which it ends by itself.

        Raises:
            KeyError: the call does not exist.
            AriError: a recording could not be paused, or other bridges could not be informed. It is on in this process.
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
        """End sensitive mode; a call without it is fine. Returns when recordings have resumed.

        Raises:
            KeyError: the call does not exist.
            AriError: a recording could not be resumed, or other bridges could not be informed.
        """
        found = self._tracker.find(identity)
        if found is None:
            raise KeyError(identity)
        call_id = found[0].id
        self._end(self._of(call_id), LIFTED)
        await self._inform(call_id, call_id, 0)
        await self.settled()

    def resume(self) -> None:
        """Take up the sensitive mode of the previous run, for the calls that are still up."""
        for shown in tuple(self._journal.found.get(SENSITIVE, ())):
            fact = self._journal.take(SENSITIVE, shown) or {}
            left_s = fact["until"] - time.time()
            for call_id in fact["calls"]:
                if call_id in self._tracker.calls and left_s > 0:
                    self._begin(call_id, shown, left_s)

    async def ask_others(self) -> None:
        """Ask the other bridges of this Asterisk which calls are in sensitive mode: after connecting.

        Raises:
            AriError: Asterisk does not answer.
        """
        await self._send({"ask": self._client.app})

    async def close(self) -> None:
        """End what is under way; no event is published."""
        for entry in self._entries:
            if entry.timer is not None:
                entry.timer.cancel()
        self._entries.clear()
        await self._tasks.stop()

    # Start and end, for the API, flows and other workers

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
        self._review()  # silent first, reported afterwards
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
        self._tasks.spawn(
            self.settled()
        )  # also where no request waits for it: the timeout, a party that joins a bridge

    # What becomes of the calls

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
        if not self._reviewing:  # once, when everybody else has seen this change
            self._reviewing = True
            asyncio.get_running_loop().call_soon(self._review)

    # Other bridges of this Asterisk

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
                log.warning("user event %s has an unexpected form; ignored", EVENT_NAME)

    def _learn(self, call_id: str, shown: str, timeout: str) -> None:
        try:
            timeout_s = min(float(timeout), MAX_TIMEOUT_S)
        except ValueError:
            log.warning("user event %s: timeout_s %r is not a number; ignored", EVENT_NAME, timeout[:20])
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
    """Return what a user event carries about one call; seconds from now, as clocks of machines differ."""
    return {"call_id": call_id, "shown": shown, "timeout_s": f"{max(timeout_s, 0):.3f}"}
