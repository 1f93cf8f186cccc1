"""JSON of calls and what belongs to them. Unknown values are omitted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from msgspec.structs import asdict

from bridge.calls.call import Call, Party
from bridge.calls.call_json import full_call_json, party_json, utc_time
from bridge.calls.call_record import CallRecord
from bridge.calls.records import Records
from bridge.conferences.conferences import Conference
from bridge.control.outbound_calls import Groupcall
from bridge.control.recorder import Recording
from bridge.times import utc


def call_status(call: Call) -> str:
    """Return VoIPBIN's status of a call: dialing, ringing or progressing."""
    if call.answered:
        return "progressing"
    if any(party.state == "Ringing" for party in call.parties.values()):
        return "ringing"
    return "dialing"


def call_json(call: Call | None, streams: int, record: CallRecord | None = None) -> dict[str, Any]:
    """Return the JSON of a call in VoIPBIN's shape, plus its parties and its number of streams.

    Args:
        call: the active call; None: it has ended, or its channel does not exist yet.
        streams: how many are open.
        record: its record; None: only ``call`` is given.
    """
    if record is not None:
        return {"tm_create": "", **full_call_json(record, call, streams)}
    assert call is not None
    body: dict[str, Any] = {"id": call.id, "status": call_status(call), "tm_create": call_time(call)}
    caller = call.primary
    if caller is not None:
        body["source"] = _number(caller.caller_number, caller.caller_name)
        body["destination"] = _number(dialed_number(call))
    body["parties"] = [party_json(party) for party in call.parties.values()]
    body["streams"] = streams
    return body


def call_summary(call: Call, streams: int, record: CallRecord | None) -> dict[str, Any]:
    """Return the entry of a call in the cluster's directory: a few hundred bytes.

    Args:
        call: the call.
        streams: how many are open.
        record: its record, if there is one.
    """
    caller = call.primary
    return {
        "status": record.status if record is not None else call_status(call),
        "source": record.source.target if record is not None else caller.caller_number if caller is not None else "",
        "destination": record.destination.target if record is not None else dialed_number(call),
        "tm_create": call_time(call),
        "parties": [{"id": each.id, "endpoint": each.endpoint, "state": each.state} for each in call.parties.values()],
        "streams": streams,
    }


def groupcall_json(group: Groupcall) -> dict[str, Any]:
    """Return the JSON of calls that were created together."""
    body: dict[str, Any] = {
        "id": group.id,
        "call_ids": list(group.call_ids),
        "answer_call_id": group.answer_call_id,
        "answer_method": group.answer_method,
        "ring_method": group.ring_method,
        "destinations": [asdict(each) for each in group.destinations],
    }
    if group.source is not None:
        body["source"] = asdict(group.source)
    return body


def recording_json(recording: Recording) -> dict[str, Any]:
    """Return the JSON of a recording."""
    body: dict[str, Any] = {
        "id": recording.id,
        "call_id": recording.call_id,
        "channel_id": recording.channel_id,
        "direction": recording.direction,
        "principal": recording.principal,
        "format": recording.format,
        "status": recording.status,
        "paused": recording.paused,
        "duration": round(recording.duration_s, 3),
        "tm_start": utc(recording.tm_start),
    }
    if recording.tm_end is not None:
        body["tm_end"] = utc(recording.tm_end)
    if recording.continues:
        body["continues"] = recording.continues
    if recording.continued_by is not None:
        body["continued_by"] = recording.continued_by.id
    if recording.trouble:
        body["trouble"] = recording.trouble
    return body


def conference_json(conference: Conference) -> dict[str, Any]:
    """Return the JSON of a conference and its participants."""
    return {
        "id": conference.id,
        "name": conference.name,
        "kind": conference.kind,
        "auto_delete": conference.auto_delete,
        "tm_create": utc(conference.created_at),
        "participants": [
            {
                "channel_id": each.channel_id,
                "call_id": each.call_id,
                "name": each.name,
                "number": each.number,
                "muted": each.muted,
                "tm_joined": utc(each.joined_at),
            }
            for each in conference.participants
        ],
    }


def dialed_number(call: Call) -> str:
    """Return the number that the caller reached: the connected one, else its extension (not a bare ``s``, ``h``...)."""
    caller = call.primary
    if caller is None:
        return ""
    return caller.connected_number or (caller.exten if len(caller.exten) > 1 or caller.exten.isdigit() else "")


def call_time(call: Call) -> str:
    """Return when the call began, in UTC."""
    return utc_time(call.created)


def streams_of_calls(
    streams: Iterable[Mapping[str, object]], find: Callable[[str], tuple[Call, Party] | None]
) -> Mapping[str, int]:
    """Return how many streams each call has; 0 for those without.

    A stream of a call that has merged into another counts for both.

    Args:
        streams: descriptions of all streams.
        find: returns a call by its id, also by that of one that has merged into it.
    """
    count: Counter[str] = Counter()
    for stream in streams:
        call_id = str(stream["call_id"])
        found = find(call_id)
        count.update({call_id, found[0].id if found is not None else call_id})
    return count


def _number(number: str, name: str = "") -> dict[str, str]:
    return {"type": "", "target": number, "target_name": name, "name": "", "detail": ""}


def summaries(
    ids: Collection[str] | None, calls: Mapping[str, Call], streams: Mapping[str, int], records: Records
) -> Mapping[str, Mapping[str, object]]:
    """Return the directory entries of active calls.

    Args:
        ids: which calls; None: all.
        calls: the active calls, by id.
        streams: how many streams each has.
        records: the records of calls.
    """
    there = calls if ids is None else [identity for identity in ids if identity in calls]
    return {each: call_summary(calls[each], streams.get(each, 0), records.get(each)) for each in tuple(there)}
