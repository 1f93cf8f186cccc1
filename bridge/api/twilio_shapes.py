"""Calls and streams in the shape of Twilio's REST API; null where Asterisk has no equivalent. Pure."""

from __future__ import annotations

from datetime import datetime
from email.utils import format_datetime
from typing import Any

from bridge.api.views import call_status, dialed_number
from bridge.calls.call import Call
from bridge.calls.call_record import CallRecord
from bridge.control.recorder import Recording
from bridge.dialects.twilio import call_sid
from bridge.flows.recording_callbacks import TRACKS, outcome, recorded_s, recording_sid
from bridge.flows.twiml_requests import API_VERSION, duration_s, rfc2822
from bridge.flows.twiml_requests import call_status as status_of


def call_json(account: str, call: Call) -> dict[str, Any]:
    """Return the JSON of an active call that has no record."""
    caller = call.primary
    created = _rfc2822(call.created)
    return _call(account, call.id, caller.caller_number if caller else "", dialed_number(call)) | {
        "date_created": created,
        "date_updated": created,
        "start_time": created,
        "status": {"progressing": "in-progress", "ringing": "ringing"}.get(call_status(call), "queued"),
    }


def record_json(account: str, record: CallRecord) -> dict[str, Any]:
    """Return the JSON of a call; its duration is from the answer to the end, in seconds."""
    answered, ended = record.tm_progressing, record.tm_hangup
    parent = record.master_call_id
    source = record.source.target
    found = _call(account, record.id, source, record.destination.target) | {
        "date_created": _date(record.tm_create),
        "date_updated": _date(ended or record.tm_update or record.tm_create),
        "start_time": _date(answered or record.tm_create),
        "direction": "inbound" if record.direction == "incoming" else "outbound-dial" if parent else "outbound-api",
        "caller_name": record.source.name or record.source.target_name or None,
        "parent_call_sid": call_sid(parent) if parent else None,
        "status": status_of(record),
    }
    if record.ended:
        found |= {"end_time": _date(ended), "duration": str(duration_s(answered, ended))}
    return found


def stream_json(account: str, call_id: str, sid: str, name: str, status: str, moment: float) -> dict[str, Any]:
    """Return the JSON of a stream of a call."""
    call = call_sid(call_id)
    return {
        "sid": sid,
        "account_sid": account,
        "call_sid": call,
        "name": name or None,
        "status": status,
        "date_updated": rfc2822(moment),
        "uri": f"/{API_VERSION}/Accounts/{account}/Calls/{call}/Streams/{sid}.json",
    }


def recording_json(account: str, recording: Recording, source: str) -> dict[str, Any]:
    """Return the JSON of a recording of a call.

    Args:
        account: the account's id.
        recording: the recording.
        source: what has started it, in the vendor's words.
    """
    call, sid = call_sid(recording.call_id), recording_sid(recording.id)
    status, started = outcome(recording), rfc2822(recording.tm_start)
    return {
        "account_sid": account,
        "api_version": API_VERSION,
        "call_sid": call,
        "channels": 1,
        "conference_sid": None,
        "date_created": started,
        "date_updated": _date(recording.tm_end) or started,
        "duration": str(recorded_s(recording)) if status == "completed" else None,
        "encryption_details": None,
        "error_code": None,
        "price": None,
        "price_unit": None,
        "sid": sid,
        "source": source,
        "start_time": started,
        "status": status,
        "track": TRACKS.get(recording.direction, "both"),
        "uri": f"/{API_VERSION}/Accounts/{account}/Calls/{call}/Recordings/{sid}.json",
    }


def _call(account: str, call_id: str, source: str, destination: str) -> dict[str, Any]:
    sid = call_sid(call_id)
    uri = f"/{API_VERSION}/Accounts/{account}/Calls/{sid}"
    below = ("notifications", "recordings", "streams")
    return {
        "sid": sid,
        "account_sid": account,
        "annotation": None,
        "answered_by": None,
        "api_version": API_VERSION,
        "caller_name": None,
        "date_created": None,
        "date_updated": None,
        "direction": "inbound",
        "duration": None,
        "end_time": None,
        "forwarded_from": None,
        "from": source,
        "from_formatted": source,
        "group_sid": None,
        "parent_call_sid": None,
        "phone_number_sid": None,
        "price": None,
        "price_unit": None,
        "queue_time": "0",
        "start_time": None,
        "status": "queued",
        "stir_verstat": None,
        "subresource_uris": {name: f"{uri}/{name.title()}.json" for name in below},
        "to": destination,
        "to_formatted": destination,
        "trunk_sid": None,
        "uri": f"{uri}.json",
    }


def _rfc2822(asterisk_time: str) -> str | None:
    try:
        return format_datetime(datetime.strptime(asterisk_time, "%Y-%m-%dT%H:%M:%S.%f%z"))
    except ValueError:
        return None


def _date(moment: float | None) -> str | None:
    return rfc2822(moment) if moment is not None else None
