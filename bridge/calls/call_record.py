"""The record of one call, as in the API, and the hangup reason. Pure.

dialing -> ringing -> progressing -> hangup
canceling     hung up before the answer
terminating   hung up after it
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import asdict

from bridge.calls.addresses import NOBODY, Address
from bridge.calls.call import Call
from bridge.times import utc

CallDirection = Literal["incoming", "outgoing"]
Status = Literal["dialing", "ringing", "progressing", "terminating", "canceling", "hangup"]
HangupReason = Literal["", "normal", "failed", "busy", "cancel", "timeout", "noanswer", "dialout", "amd", "forwarded"]
HangupBy = Literal["", "local", "remote"]
Direction = Literal["in", "out", "both"]
"""Audio from a party, to it, or both."""
MuteDirection = Literal["", "in", "out", "both"]
ToolOutcome = Literal["ok", "failed", "refused", "canceled"]

BUSY, NO_USER_RESPONSE, NO_ANSWER, REJECTED = 17, 18, 19, 21
"""Causes (Q.850). Seen on 22.10: a phone's 486 gives 17, its 603 gives 21, a 480 and Asterisk's own timeout 19."""
UNTOLD = (0, 16, 26)
"""Unknown, normal clearing, answered elsewhere: no information about an unanswered call."""


class ToolUse(Struct, frozen=True):
    """One use of a tool by the model on a call.

    Args:
        name: of the tool.
        outcome: how it ended.
        seconds: how long it took.
    """

    name: str
    outcome: ToolOutcome
    seconds: float


class CallRecord(Struct):
    """The current state of one call; times are seconds since 1970."""

    id: str
    direction: CallDirection = "incoming"
    source: Address = NOBODY
    destination: Address = NOBODY
    status: Status = "dialing"
    hangup_by: HangupBy = ""
    hangup_reason: HangupReason = ""
    hangup_detail: str = ""
    """Details that the reason does not express: ``not registered``."""
    sip_code: int = 0
    """The final SIP response with which the called phone or trunk rejected it; 0: none."""
    forwarded_to: str = ""
    """Where the called phone has forwarded it: a number, or a SIP URI."""
    tm_create: float | None = None
    tm_ringing: float | None = None
    tm_progressing: float | None = None
    tm_hangup: float | None = None
    tm_update: float | None = None
    groupcall_id: str = ""
    flow_id: str = ""
    master_call_id: str = ""
    """The call for which this one was originated: a flow's ``connect``, a transfer."""
    action: Mapping[str, Any] | None = None
    """The current action of its flow: ``id``, ``type``, ``index``."""
    variables: Mapping[str, str] = {}
    mute_direction: MuteDirection = ""
    on_hold: bool = False
    recording_id: str = ""
    """The running recording."""
    recording_ids: list[str] = []
    sensitive: bool = False
    """Whether it is in sensitive mode."""
    originated: bool = False
    """Whether asterisk-bridge originated it."""
    tools: tuple[ToolUse, ...] = ()
    """The latest uses of tools by a model."""

    @property
    def ended(self) -> bool:
        """Whether the call has ended."""
        return self.status == "hangup"

    def address_by(self, call: Call) -> bool:
        """Set the addresses of an observed call from the party that began it; return whether they have changed."""
        first = call.first
        if first is None:
            return False
        source = Address(target=first.first_caller_number or first.caller_number, target_name=first.caller_name)
        exten = first.first_exten
        dialed = exten if len(exten) > 1 or exten.isdigit() else first.connected_number
        destination = Address(target=dialed) if dialed else self.destination
        changed = (self.source, self.destination) != (source, destination)
        self.source, self.destination = source, destination
        return changed


def reason_of(
    dialstatus: str, cause: int, *, we_cancelled: bool, timed_out: bool = False, forwarded: bool = False
) -> HangupReason:
    """Return why an unanswered call ended.

    Args:
        dialstatus: the furthest state in ARI's ``Dial`` events: ``RINGING``, ``PROGRESS``, or how it ended.
        cause: Q.850 cause of the channel's end.
        we_cancelled: asterisk-bridge hung it up.
        timed_out: Asterisk hung it up: it was not answered in time.
        forwarded: the phone forwarded it, and the forward was not followed.
    """
    if forwarded and not we_cancelled:
        return "forwarded"
    if we_cancelled or dialstatus == "CANCEL":
        return "cancel"
    if cause == BUSY or dialstatus == "BUSY":
        return "busy"
    rang = dialstatus in ("RINGING", "PROGRESS", "NOANSWER")
    if timed_out and not rang:
        return "dialout"  # no response from the peer
    if cause in (NO_USER_RESPONSE, NO_ANSWER, REJECTED) or (rang and cause in UNTOLD):
        return "noanswer"
    return "failed"


def record_fact(record: CallRecord, channel_id: str) -> dict[str, Any]:
    """Return the stored form of a record for the next run, with its channel, without its flow's action and tools."""
    kept = {
        name: value
        for name in CallRecord.__struct_fields__
        if name not in ("action", "tools") and (value := _plain(getattr(record, name))) is not None
    }
    return {"channel_id": channel_id, "record": kept}


def _plain(value: Any) -> Any:
    if isinstance(value, Address):
        return asdict(value)
    return dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, list) else value


def record_of(fact: Mapping[str, Any]) -> tuple[CallRecord, str]:
    """Return the record of a stored fact, and its channel's id.

    Raises:
        TypeError: the fact is malformed.
        KeyError: the fact lacks a key.
    """
    kept = fact["record"]
    addresses = {key: Address(**kept[key]) for key in ("source", "destination")}
    return CallRecord(**{**kept, **addresses}), fact["channel_id"]


def record_json(record: CallRecord) -> dict[str, Any]:
    """Return a record as in the API; times that are not set yet are omitted."""
    body: dict[str, Any] = {
        "id": record.id,
        "type": "flow",
        "direction": record.direction,
        "source": asdict(record.source),
        "destination": asdict(record.destination),
        "status": record.status,
        "mute_direction": record.mute_direction,
        "on_hold": record.on_hold,
        "hangup_by": record.hangup_by,
        "hangup_reason": record.hangup_reason,
        "hangup_detail": record.hangup_detail,
        "groupcall_id": record.groupcall_id,
        "flow_id": record.flow_id,
        "master_call_id": record.master_call_id,
        "recording_id": record.recording_id,
        "recording_ids": list(record.recording_ids),
        "sensitive": record.sensitive,
        "variables": dict(record.variables),
    }
    if record.sip_code:
        body["sip_code"] = record.sip_code
    if record.forwarded_to:
        body["forwarded_to"] = record.forwarded_to
    if record.tools:
        body["tools"] = [asdict(use) for use in record.tools]
    if record.action is not None:
        body["action"] = dict(record.action)
    for name in ("tm_create", "tm_ringing", "tm_progressing", "tm_hangup", "tm_update"):
        time_s = getattr(record, name)
        if time_s is not None:
            body[name] = utc(time_s)
    return body
