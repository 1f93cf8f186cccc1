"""Calls that are asked for, and what comes of asking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from bridge.access import Principal
from bridge.calls.addresses import Address
from bridge.calls.records import CallRecord
from bridge.flows.program import Program

AnswerMethod = Literal["none", "hangup_others"]
RingMethod = Literal["ring_all", "linear"]


@dataclass(frozen=True, slots=True)
class PlaceRequest:
    """Calls to place.

    Args:
        source: ``bridge.calls.addresses.Address`` that the called party is shown; None: ``calling.caller_id``.
        destinations: ``Address`` each.
        principal: who asks; what the flows of these calls open is opened by it.
        program: the flow that an answered call runs.
        flow_id: id of a ``[[flows]]`` table instead; it wins over ``program``. Neither: the call is just held.
        variables: at most 100 (see ``bridge.flows.variables``).
        answer_method: ``none``: each that answers runs the flow; ``hangup_others``: only the first, the others end.
        ring_method: all at once, or one after the other (the next when one has not answered).
        timeout_s: how long each may ring; None: ``calling.ring_timeout_s``.
        max_call_s: a call that lasts longer is hung up; None: ``calling.max_call_s`` only.
    """

    destinations: Sequence[Address]
    principal: Principal
    source: Address | None = None
    program: Program | None = None
    flow_id: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    anonymous: bool = False
    answer_method: AnswerMethod = "none"
    ring_method: RingMethod = "ring_all"
    timeout_s: float | None = None
    max_call_s: float | None = None


@dataclass(slots=True)
class Groupcall:
    """Calls that were placed by one request with ``answer_method: hangup_others`` (VoIPBIN's word)."""

    id: str
    call_ids: list[str]
    answer_method: AnswerMethod
    ring_method: RingMethod
    answer_call_id: str = ""
    source: Address | None = None
    destinations: Sequence[Address] = ()


@dataclass(frozen=True, slots=True)
class Placed:
    """What came of a request: ``calls`` are ``bridge.calls.records.CallRecord``."""

    calls: Sequence[CallRecord]
    groupcalls: Sequence[Groupcall] = ()
