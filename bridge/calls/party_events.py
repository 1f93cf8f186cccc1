"""Publishes ``call_joined`` and ``call_left`` for the parties of calls. Pure."""

from __future__ import annotations

from typing import Any

from bridge.calls.call import Call, CallEnded, Change, Party, PartyChanged, PartyJoined, PartyLeft
from bridge.calls.call_json import party_json
from bridge.calls.records import Records
from bridge.events.hub import Events


class PartyEvents:
    """Follows the parties of calls. A party has joined when it is up: it has answered, or was answered.

    Halves of Local channels are ignored: they only connect parties.

    Args:
        events: publishes events.
        records: has the record of each call. Construct this after `Records` follows the same changes.
    """

    def __init__(self, events: Events, records: Records) -> None:
        self._events = events
        self._records = records
        self._joined: dict[str, str] = {}
        """Ids of calls by the channels of the parties that have joined them."""

    def on_change(self, change: Change) -> None:
        """Handle a change of a call."""
        match change:
            case PartyJoined(call, party) | PartyChanged(call, party, _):
                if party.state == "Up" and not party.is_local and self._joined.get(party.id) != call.id:
                    self._joined[party.id] = call.id
                    self._publish("call_joined", call, party)
            case PartyLeft(call, party, cause, _, moved_to):
                if self._joined.get(party.id) == call.id:
                    del self._joined[party.id]
                    self._publish("call_left", call, party, cause=cause, moved_to=moved_to or "")
            case CallEnded(call):
                self._joined = {party: call_id for party, call_id in self._joined.items() if call_id != call.id}

    def _publish(self, kind: str, call: Call, party: Party, **more: Any) -> None:
        record = self._records.get(call.id)
        if record is not None and not record.ended:
            self._events.publish(kind, {**self._records.show(record), "party": party_json(party), **more})
