"""Keeps the record of each call of the PBX. Pure: time and events are inputs.

An originated call has a record from the request on, under the id of its channel, updated by ARI's events; also one that
is originated for another call (``master_call_id``), although its channel is a party of that. The records of all other
calls are updated by the call tracker. Where calls meet in a bridge, Asterisk merges them (their linkedid); each keeps
its record, which ends with the party that began it. A channel that replaces another in the Stasis application is that
party from then on, also for the record.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from bridge.ari.model import (
    Channel,
    ChannelDestroyed,
    ChannelDtmfReceived,
    ChannelHangupRequest,
    ChannelStateChange,
    Dial,
    Event,
    StasisStart,
)
from bridge.calls.addresses import Address
from bridge.calls.call import (
    Call,
    CallAnswered,
    CallEnded,
    CallStarted,
    Change,
    PartyChanged,
    PartyJoined,
    PartyLeft,
)
from bridge.calls.call_json import full_call_json
from bridge.calls.call_record import (
    UNTOLD,
    CallRecord,
    HangupBy,
    HangupReason,
    Status,
    reason_of,
    record_fact,
    record_of,
)
from bridge.calls.hangup_evidence import HangupEvidence
from bridge.calls.journal import Journal
from bridge.events.hub import Events

FIRST_FINAL = 300
"""The lowest SIP status code that rejects a request."""

RECORD = "record"
"""Kind of facts: records of originated calls."""
MAX_ENDED = 1000
KEEP_ENDED_S = 3600.0
"""Limits of time, in seconds, and number for ended calls."""


_SILENT = frozenset({"tm_update", "variables", "tools"})
"""Attributes whose change publishes no event."""


class Records:
    """All calls of the PBX, by id: those that the tracker observes, and originated ones from the request on.

    Args:
        events: publishes ``call_*`` and ``dtmf_received``.
        clock: returns seconds since 1970.
        journal: stores the records of originated calls; None: they are not stored.
    """

    def __init__(self, events: Events, clock: Callable[[], float], journal: Journal | None = None) -> None:
        self._events = events
        self._clock = clock
        self._journal = journal or Journal()
        self.is_sensitive: Callable[[str], bool] = lambda _: False
        """Returns whether a channel's digits must not be reported now."""
        self.show: Callable[[CallRecord], dict[str, Any]] = lambda record: full_call_json(record, None, 0)
        """Returns a call's form in events, the same as in the API."""
        self._live: dict[str, CallRecord] = {}
        self._variables_sent: dict[str, Mapping[str, str]] = {}
        """Variables in the last event of each existing call."""
        self._ended: dict[str, CallRecord] = {}
        self._evidence: dict[str, HangupEvidence] = {}
        self._call_of: dict[str, str] = {}
        """Ids of calls by their channels'."""
        self._began_in: dict[str, str] = {}
        """Channels that have become parties of another call, or have replaced others, and their original call."""
        self._originated: dict[str, CallRecord] = {}
        """Existing originated calls, by the ids of their channels."""

    # Queries

    def get(self, call_id: str) -> CallRecord | None:
        """Return a call that exists or has ended recently, by its id or, while it exists, by a channel's."""
        self._forget_old()
        return self._live.get(self._id_of(call_id)) or self._ended.get(call_id)

    def live(self) -> list[CallRecord]:
        """Return the existing calls, oldest first."""
        return list(self._live.values())

    def ended(self) -> list[CallRecord]:
        """Return ended calls, oldest first; the last 1000 of the last hour."""
        self._forget_old()
        return list(self._ended.values())

    def restore(self) -> None:
        """Resume the originated calls of the previous run; `channels_there` ends those that have ended since."""
        for record, channel_id in self._journal.take_all(RECORD, record_of):
            self._live[record.id] = self._originated[channel_id] = record
            dialstatus = "RINGING" if record.tm_ringing is not None else ""
            self._evidence[record.id] = HangupEvidence(dialstatus, first=channel_id)
            self._keep(record)

    def _keep(self, record: CallRecord) -> None:
        if record.originated and self._journal.kept:
            self._journal.put(RECORD, record.id, record_fact(record, self._evidence[record.id].first))

    # Requests

    def originated(
        self,
        call_id: str,
        *,
        source: Address,
        destination: Address,
        groupcall_id: str = "",
        flow_id: str = "",
        master_call_id: str = "",
    ) -> CallRecord:
        """Create the record of a call that is about to be originated."""
        record = CallRecord(
            call_id,
            "outgoing",
            source,
            destination,
            groupcall_id=groupcall_id,
            flow_id=flow_id,
            master_call_id=master_call_id,
            originated=True,
        )
        self._begin(record, call_id)
        self._originated[call_id] = record
        return record

    def failed(self, call_id: str, detail: str = "") -> None:
        """Handle the refusal of Asterisk to originate a call; ``detail`` is the reason."""
        record = self._live.get(call_id)
        if record is not None:
            canceled = record.status == "canceling"
            record.hangup_detail = "" if canceled else detail
            self._end(record, "local", "cancel" if canceled else "failed")

    def forwarded(self, call_id: str, to: str, *, redialed: bool) -> None:
        """Handle a forward by the phone of an originated call.

        Args:
            call_id: the call.
            to: a number, or a SIP URI.
            redialed: that address will be dialed when this channel has ended, and the record continues.
        """
        record = self._live.get(call_id)
        if record is None:
            return
        evidence = self._evidence[call_id]
        evidence.forwarded, evidence.redialed = True, redialed
        self.update(call_id, forwarded_to=to)

    def ending(self, call_id: str, reason: HangupReason = "", detail: str = "") -> None:
        """Store why a call is about to be hung up."""
        record = self._live.get(self._id_of(call_id))
        if record is None or record.status in ("terminating", "canceling"):
            return
        record.hangup_reason, record.hangup_detail = reason, detail
        record.hangup_by = "local"
        self._set(record, "terminating" if record.tm_progressing is not None else "canceling")

    def update(self, call_id: str, **values: Any) -> None:
        """Set attributes of a record and publish ``call_updated``; ignore an unknown call."""
        record = self.get(call_id)
        if record is None:
            return
        changed = {name for name, value in values.items() if getattr(record, name) != value}
        for name in changed:
            setattr(record, name, values[name])
        if changed:
            record.tm_update = self._clock()
        if changed - {"action", "tm_update"} and not record.ended:
            self._keep(record)
        if changed - _SILENT and not record.ended:
            self._publish("call_updated", record)

    def forget(self, call_id: str) -> bool:
        """Delete the record of an ended call (``DELETE /v1.0/calls/{id}``); return False for an unknown one."""
        return self._ended.pop(call_id, None) is not None

    @property
    def channels(self) -> frozenset[str]:
        """The channels whose end would end a call; read before listing channels, for `channels_there`."""
        return frozenset((*self._originated, *self._began_in))

    def channels_there(self, channel_ids: set[str], before: Collection[str]) -> None:
        """Synchronize with the channels of the PBX after events may have been lost.

        Args:
            channel_ids: all channels.
            before: `channels` from before the list. Later ones are newer than the list.
        """
        for channel_id in (each for each in before if each not in channel_ids):
            record = self._originated.get(channel_id)
            if record is not None:
                self._end(record, record.hangup_by or "remote", self._reason(record))
            self._left_for_good(channel_id, 0)

    # Events

    def on_event(self, event: Event) -> None:
        """Handle an event of ARI; ``client.on_event("*", records.on_event)``."""
        match event:
            case ChannelDtmfReceived():
                if self.is_sensitive(event.channel.id):
                    return
                call_id = self._id_of(event.channel.id)
                self._events.publish(
                    "dtmf_received", {"call_id": call_id, "channel_id": event.channel.id, "digit": event.digit}
                )
            case ChannelHangupRequest():
                self._on_hangup_request(event)
            case StasisStart() if event.replace_channel is not None:
                self._replace(event.replace_channel.id, event.channel)
            case Dial():
                record = self._originated.get(event.peer.id)
                if record is not None:
                    self._progress(record, event.dialstatus)
            case ChannelStateChange() if event.channel.state == "Up":
                record = self._originated.get(event.channel.id)
                if record is not None:
                    self._progress(record, "ANSWER")
            case ChannelDestroyed():
                record = self._originated.get(event.channel.id)
                if record is not None:
                    evidence = self._evidence[record.id]
                    if evidence.redialed and record.status != "canceling":
                        self._evidence[record.id] = HangupEvidence(first=evidence.first)
                        self._set(record, "dialing")
                        return
                    evidence.cause = event.cause
                    self._note_rejection(record, event)
                    by: HangupBy = "local" if evidence.pbx_hung_up and not evidence.party_hung_up else "remote"
                    self._end(record, record.hangup_by or by, self._reason(record))
                self._left_for_good(event.channel.id, event.cause)

    def _note_rejection(self, record: CallRecord, event: ChannelDestroyed) -> None:
        """Store the SIP response, or the cause, with which an unanswered call has ended."""
        evidence = self._evidence[record.id]
        if record.tm_progressing is not None or record.status == "canceling" or evidence.pbx_hung_up:
            return
        if event.tech_cause >= FIRST_FINAL:
            record.sip_code = event.tech_cause
            record.hangup_detail = f"SIP response {event.tech_cause}"
        elif event.cause in UNTOLD:
            record.hangup_detail = "the dialplan ended the call"
        else:
            record.hangup_detail = event.cause_txt

    def _replace(self, old_id: str, new: Channel) -> None:
        """Replace a channel by another, also as the party of the call's record."""
        record = self._live.get(self._id_of(old_id))
        if record is None:
            return
        self._began_in.pop(old_id, None)
        if self._began_in.get(new.id) != record.id:
            self._left_for_good(new.id, 0)  # for the original call of the new channel
        self._began_in[new.id] = record.id
        evidence = self._evidence[record.id]
        if evidence.first == old_id:
            evidence.first = new.id
        if self._originated.pop(old_id, None) is not None:
            self._originated[new.id] = record
            self._keep(record)
            if new.state == "Up":  # another phone has picked up the call
                self._progress(record, "ANSWER")

    def _left_for_good(self, channel_id: str, cause: int) -> None:
        """Handle the end of a channel; its original call may have continued in another, and end now."""
        record = self._live.get(self._began_in.pop(channel_id, ""))
        if record is None or not self._evidence[record.id].merged:
            return
        evidence = self._evidence[record.id]
        if channel_id == evidence.first or record.id not in self._began_in.values():
            evidence.cause = cause
            self._end_as_followed(record)

    def _end_as_followed(self, record: CallRecord) -> None:
        by: HangupBy = "remote" if self._evidence[record.id].party_hung_up else "local"
        self._end(record, record.hangup_by or by, self._reason(record))

    def _on_hangup_request(self, event: ChannelHangupRequest) -> None:
        call_id = self._id_of(event.channel.id)
        evidence = self._evidence.get(call_id)
        if evidence is None or event.channel.id != (evidence.first or call_id):
            return
        if event.soft:
            evidence.pbx_hung_up = True
        elif not evidence.pbx_hung_up:
            evidence.party_hung_up = True

    def _progress(self, record: CallRecord, dialstatus: str) -> None:
        evidence = self._evidence[record.id]
        if dialstatus in ("RINGING", "PROGRESS", "PROCEEDING"):
            evidence.dialstatus = dialstatus if dialstatus != "PROCEEDING" else evidence.dialstatus
            if dialstatus == "RINGING" and record.status == "dialing":
                self._set(record, "ringing")
        elif dialstatus == "ANSWER" and record.status in ("dialing", "ringing"):
            evidence.dialstatus = dialstatus
            self._set(record, "progressing")
        elif dialstatus:
            evidence.dialstatus = dialstatus

    def on_change(self, change: Change) -> None:
        """Handle a change reported by the call tracker."""
        record = self._live.get(change.call.id)
        if record is not None and record.originated:
            if isinstance(change, PartyJoined):
                self._call_of[change.party.id] = record.id
            return
        match change:
            case CallStarted(call):
                if record is None and call.id not in self._ended:
                    record = CallRecord(call.id)
                    record.address_by(call)
                    self._begin(record, "")
            case PartyJoined(call, party):
                self._call_of[party.id] = call.id
                self._look_at(call)
            case PartyChanged(call, _, _):
                self._look_at(call)
            case CallAnswered(call):
                self._look_at(call)
                if record is not None and record.status in ("dialing", "ringing"):
                    self._set(record, "progressing")
            case PartyLeft():
                self._leave(change, record)
            case CallEnded(call, merged_into) if record is not None:
                evidence = self._evidence[call.id]
                evidence.merged = merged_into is not None and call.id in self._began_in.values()
                if not evidence.merged:
                    self._end_as_followed(record)

    def _leave(self, change: PartyLeft, record: CallRecord | None) -> None:
        party = change.party
        self._call_of.pop(party.id, None)
        if change.moved_to is not None and record is not None:
            self._began_in.setdefault(party.id, record.id)
            if party.state == "Up" and record.status in ("dialing", "ringing"):
                self._set(record, "progressing")  # it picks up a call, and belongs to that from now on
        evidence = self._evidence.get(change.call.id)
        if evidence is not None and party.id in ("", evidence.first):
            evidence.cause = change.cause

    def _look_at(self, call: Call) -> None:
        record = self._live.get(call.id)
        if record is None:
            return
        first = call.first
        if first is not None:
            self._evidence[record.id].first = first.id
            if record.address_by(call):
                record.tm_update = self._clock()
        if record.status == "dialing" and any(party.state == "Ringing" for party in call.parties.values()):
            self._set(record, "ringing")

    def _id_of(self, any_id: str) -> str:
        """Return the id of the call with a record, by its id or a channel's."""
        came_from = self._began_in.get(any_id)
        if came_from is not None or any_id in self._live:
            return came_from or any_id
        return self._call_of.get(any_id, any_id)

    # Changes

    def _begin(self, record: CallRecord, first: str) -> None:
        record.tm_create = record.tm_update = self._clock()
        self._live[record.id] = record
        self._evidence[record.id] = HangupEvidence(first=first)
        self._keep(record)
        self._publish("call_created", record)

    def _set(self, record: CallRecord, status: Status) -> None:
        now = record.tm_update = self._clock()
        record.status = status
        if status == "ringing":
            record.tm_ringing = now
        elif status == "progressing":
            record.tm_progressing = now
        self._keep(record)
        kinds = {"ringing": "call_ringing", "progressing": "call_progressing"}
        self._publish(kinds.get(status, "call_updated"), record)

    def _end(self, record: CallRecord, by: HangupBy, reason: HangupReason) -> None:
        now = self._clock()
        record.status, record.hangup_by, record.hangup_reason = "hangup", by, reason
        record.tm_hangup = record.tm_update = now
        record.on_hold, record.mute_direction, record.recording_id, record.action = False, "", "", None
        record.sensitive = False
        del self._live[record.id]
        del self._evidence[record.id]
        self._journal.drop(RECORD, record.id)
        self._call_of = {channel: call for channel, call in self._call_of.items() if call != record.id}
        self._began_in = {channel: call for channel, call in self._began_in.items() if call != record.id}
        self._originated = {channel: each for channel, each in self._originated.items() if each is not record}
        self._ended[record.id] = record
        self._publish("call_hangup", record)
        self._forget_old()

    def _reason(self, record: CallRecord) -> HangupReason:
        evidence = self._evidence[record.id]
        if record.hangup_reason:
            return record.hangup_reason
        if record.tm_progressing is not None:
            return "normal"
        if not record.originated and evidence.party_hung_up:
            return "cancel"  # the caller gave up
        return reason_of(
            evidence.dialstatus if record.originated else "RINGING",
            evidence.cause,
            we_cancelled=record.status == "canceling",
            timed_out=evidence.pbx_hung_up,
            forwarded=evidence.forwarded,
        )

    def _publish(self, kind: str, record: CallRecord) -> None:
        data = self.show(record)
        if kind == "call_updated" and self._variables_sent.get(record.id) is record.variables:
            del data["variables"]  # up to 64 KiB, and every action of a flow publishes this event
        self._variables_sent[record.id] = record.variables
        if record.ended:
            del self._variables_sent[record.id]
        self._events.publish(kind, data)

    def _forget_old(self) -> None:
        oldest = self._clock() - KEEP_ENDED_S
        for call_id, record in list(self._ended.items()):
            if len(self._ended) <= MAX_ENDED and (record.tm_hangup or 0.0) >= oldest:
                return
            del self._ended[call_id]
