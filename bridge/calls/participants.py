"""The extensions and trunks that take part in each call, also after its end: the basis of tokens with patterns.

In an existing call only the present parties count: an extension that has transferred a call away no longer does. In an
ended one (its record, its recordings, the event of its end), everyone who took part counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Protocol

from bridge.access import PartyNames
from bridge.calls.call import Call, CallEnded, Change, Party, PartyReplaced
from bridge.calls.call_record import CallRecord
from bridge.calls.facts import call_facts
from bridge.config import PbxConfig

MAX_REMEMBERED = 10_000
"""Limit of calls whose participants are stored; the oldest are dropped."""


@lru_cache(maxsize=1024)
def _shared(names: PartyNames) -> PartyNames:
    """Return one object for equal names: most calls have the participants of an earlier one."""
    return names


class CallLookup(Protocol):
    """The existing calls (`bridge.calls.tracker.CallTracker`)."""

    @property
    def calls(self) -> Mapping[str, Call]:
        """Calls by id."""

    def find(self, any_id: str, /) -> tuple[Call, Party] | None:
        """Return a call by its id or a channel's."""


class Participants:
    """Stores who takes part in calls.

    Args:
        calls: the existing calls.
        record: returns a call's record by its id.
        naming: how extensions and trunks are recognized.
    """

    def __init__(self, calls: CallLookup, record: Callable[[str], CallRecord | None], naming: PbxConfig) -> None:
        self._calls = calls
        self._record = record
        self._naming = naming
        self._seen: dict[str, PartyNames] = {}
        """Everyone who has taken part, by the call's id; the most recently changed call is last."""

    def on_change(self, change: Change) -> None:
        """Handle a change of a call."""
        call = change.call
        self.learn(call.id, self._now(call))
        if isinstance(change, PartyReplaced):
            self.learn(call.id, self._now(self._calls.calls[change.into]))
        if isinstance(change, CallEnded) and change.merged_into is not None:
            self.learn(change.merged_into, self._seen[call.id])

    def learn(self, call_id: str, names: PartyNames) -> None:
        """Add participants of a call, seen here or by another worker."""
        self._seen[call_id] = _shared(self._seen.pop(call_id, PartyNames()) | names)
        while len(self._seen) > MAX_REMEMBERED:
            del self._seen[next(iter(self._seen))]

    def of(self, identity: str) -> PartyNames:
        """Return the participants of a call, by its id or a channel's; none if unknown."""
        found = self._calls.find(identity)
        if found is not None:
            names = self._now(found[0])
            if names != PartyNames():
                return names
            identity = found[0].id
        record = self._record(identity)
        call_id = record.id if record is not None else identity
        names = self._seen.get(call_id, PartyNames())
        if record is not None and record.originated and record.destination.type == "extension":
            names |= PartyNames(extensions=frozenset({record.destination.target}))  # also before its channel exists
        return names

    def _now(self, call: Call) -> PartyNames:
        facts = call_facts(call, self._naming)
        return PartyNames(facts.extensions | facts.ringing_extensions, facts.trunks | facts.ringing_trunks)
