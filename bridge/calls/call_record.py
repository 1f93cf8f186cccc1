"""The record of one call, as the API shows it, and why a call ended. Pure.

dialing -> ringing -> progressing -> hangup        canceling: given up before the answer, terminating: after it
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from bridge.calls.addresses import NOBODY, Address, address_json
from bridge.times import utc

CallDirection = Literal["incoming", "outgoing"]
Status = Literal["dialing", "ringing", "progressing", "terminating", "canceling", "hangup"]
HangupReason = Literal["", "normal", "failed", "busy", "cancel", "timeout", "noanswer", "dialout", "amd", "forwarded"]
HangupBy = Literal["", "local", "remote"]
MuteDirection = Literal["", "in", "out", "both"]

BUSY, NO_USER_RESPONSE, NO_ANSWER, REJECTED = 17, 18, 19, 21
"""Causes (Q.850). Seen on 22.10: a phone's 486 gives 17, its 603 gives 21, a 480 and Asterisk's own timeout 19."""
UNTOLD = (0, 16, 26)
"""Unknown, normal clearing, answered elsewhere: these say nothing about a call that was not answered."""


@dataclass(slots=True)
class CallRecord:
    """One call, in its present state; times are seconds since 1970."""

    id: str
    direction: CallDirection = "incoming"
    source: Address = NOBODY
    destination: Address = NOBODY
    status: Status = "dialing"
    hangup_by: HangupBy = ""
    hangup_reason: HangupReason = ""
    hangup_detail: str = ""
    """Why, in words, where the reason alone does not say it: ``not registered``."""
    sip_code: int = 0
    """The final SIP response with which the called phone or trunk rejected it; 0: none did."""
    forwarded_to: str = ""
    """Where the called phone has sent it: a number, or a SIP URI."""
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
    """What its flow does now: ``id``, ``type``, ``index``."""
    variables: Mapping[str, str] = field(default_factory=dict)
    mute_direction: MuteDirection = ""
    on_hold: bool = False
    recording_id: str = ""
    """The recording that runs now."""
    recording_ids: list[str] = field(default_factory=list)
    sensitive: bool = False
    """It is in sensitive mode."""
    originated: bool = False
    """asterisk-bridge originated it."""

    @property
    def ended(self) -> bool:
        """It is over."""
        return self.status == "hangup"


def reason_of(
    dialstatus: str, cause: int, *, we_cancelled: bool, timed_out: bool = False, forwarded: bool = False
) -> HangupReason:
    """Return why a call that was never answered ended.

    Args:
        dialstatus: the furthest that ARI's ``Dial`` events told: ``RINGING``, ``PROGRESS``, or how it ended.
        cause: Q.850, of the channel's end.
        we_cancelled: we hung it up.
        timed_out: Asterisk hung it up: nobody answered in time.
        forwarded: the phone forwarded it, and it was not dialed there.
    """
    if forwarded and not we_cancelled:
        return "forwarded"
    if we_cancelled or dialstatus == "CANCEL":
        return "cancel"
    if cause == BUSY or dialstatus == "BUSY":
        return "busy"
    rang = dialstatus in ("RINGING", "PROGRESS", "NOANSWER")
    if timed_out and not rang:
        return "dialout"  # the far end has not said a word
    if cause in (NO_USER_RESPONSE, NO_ANSWER, REJECTED) or (rang and cause in UNTOLD):
        return "noanswer"
    return "failed"


def record_fact(record: CallRecord, channel_id: str) -> dict[str, Any]:
    """Return what is kept of a record for the next run: all but what its flow does; and of which channel it is."""
    kept = {
        field.name: value
        for field in fields(CallRecord)
        if field.name != "action" and (value := _plain(getattr(record, field.name))) is not None
    }
    return {"channel_id": channel_id, "record": kept}


def _plain(value: Any) -> Any:
    if isinstance(value, Address):
        return dict(address_json(value))
    return dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, list) else value


def record_of(fact: Mapping[str, Any]) -> tuple[CallRecord, str]:
    """Return the record that `record_fact` was made of, and its channel's id.

    Raises:
        TypeError, KeyError: it was not made of one.
    """
    kept = fact["record"]
    addresses = {key: Address(**kept[key]) for key in ("source", "destination")}
    return CallRecord(**{**kept, **addresses}), fact["channel_id"]


def record_json(record: CallRecord) -> dict[str, Any]:
    """Return a record as the API shows it; times that have not come yet are left out."""
    body: dict[str, Any] = {
        "id": record.id,
        "type": "flow",
        "direction": record.direction,
        "source": address_json(record.source),
        "destination": address_json(record.destination),
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
    if record.action is not None:
        body["action"] = dict(record.action)
    for name in ("tm_create", "tm_ringing", "tm_progressing", "tm_hangup", "tm_update"):
        moment = getattr(record, name)
        if moment is not None:
            body[name] = utc(moment)
    return body
