"""Bodies of requests to servers that return actions, in each vendor's format."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from bridge.calls.call_record import record_json
from bridge.times import utc

if TYPE_CHECKING:
    from bridge.flows.interpreter import Run


def voipbin_body(run: Run) -> dict[str, Any]:
    """Return ``activeflow_id`` and ``reference_id`` as VoIPBIN sends them, with the call's record added."""
    record = run.services.records.get(run.call_id)
    return {
        "activeflow_id": run.id,
        "reference_type": "call",
        "reference_id": run.call_id,
        "flow_id": run.flow_id,
        "variables": dict(run.variables.values),
        **({"call": record_json(record)} if record is not None else {}),
    }


def voxology_body(run: Run, kind: str) -> dict[str, Any]:
    """Return a body like Voxology's ``init_call``, the only one on its public pages; unknown values are omitted.

    Args:
        run: the flow that sends the request.
        kind: ``init_call`` for the first request of a call, ``redirect`` for later ones.
    """
    facts = run.facts
    started = float(facts.get("start_time") or time.time())
    return {
        "type": kind,
        "app_id": facts.get("app_id", ""),
        "subaccount_id": "0",
        "call_id": run.call_id,
        "start_time": utc(started),
        "direction": "outbound" if facts.get("direction") == "outgoing" else "inbound",
        "duration": max(round((time.time() - started) * 1000), 0),
        "status": "live-in-progress",
        "detection": "unknown",
        "caller_no": facts.get("caller_no") or None,
        "api_no": facts.get("api_no") or None,
        "session_data": dict(run.variables.session_data),
        "key_presses": list(run.key_presses),
    }
