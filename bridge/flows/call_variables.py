"""The initial variables of a flow: the facts of its call. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import asdict

from bridge.calls.addresses import Address
from bridge.times import utc


def of_call(
    call_id: str, direction: str, source: Address, destination: Address, now: float, facts: Mapping[str, Any]
) -> dict[str, str]:
    """Return the initial variables of a call, under the names of both syntaxes."""
    known = {
        "voipbin.call.id": call_id,
        "voipbin.call.direction": direction,
        "voipbin.call.digits": "",
        "callId": call_id,
        "callerNo": facts["caller_no"],
        "apiNo": facts["api_no"],
        "startTime": utc(now),
        "keyPresses": "",
        "keyPress": "",
    }
    for side, address in (("source", source), ("destination", destination)):
        for key, value in asdict(address).items():
            known[f"voipbin.call.{side}.{key}"] = value
    return known
