"""A call as the API and events represent it. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from bridge.calls.call import Call, Party
from bridge.calls.call_record import CallRecord, record_json
from bridge.times import utc


def full_call_json(record: CallRecord, call: Call | None, streams: int) -> dict[str, Any]:
    """Return a call by its record, with its parties and its number of streams.

    Args:
        record: its record.
        call: the existing call; None: it has ended, or its channel does not exist yet.
        streams: number of open streams.
    """
    parties = [party_json(party) for party in call.parties.values()] if call is not None else []
    return {**record_json(record), "parties": parties, "streams": streams}


def party_json(party: Party) -> dict[str, Any]:
    """Return a party of a call: facts of its channel."""
    return {
        "id": party.id,
        "name": party.name,
        "endpoint": party.endpoint,
        "state": party.state,
        "caller_number": party.caller_number,
        "caller_name": party.caller_name,
        "connected_number": party.connected_number,
        "context": party.context,
        "exten": party.exten,
        "app_name": party.app_name,
        "in_stasis": party.in_stasis,
        "tm_create": utc_time(party.created),
    }


def utc_time(asterisk_time: str) -> str:
    """Return Asterisk's ``2026-01-31T12:00:00.123+0100`` as ``2026-01-31T11:00:00.123Z``; empty if it is not a time."""
    try:
        when = datetime.strptime(asterisk_time, "%Y-%m-%dT%H:%M:%S.%f%z").astimezone(UTC)
    except ValueError:
        return ""
    return utc(when.timestamp())
