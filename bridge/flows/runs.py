"""Which call runs which flow: calls that are placed, calls that come in, flows that are fetched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from bridge.flows.program import Program

AnswerMethod = Literal["none", "hangup_others"]
RingMethod = Literal["ring_all", "linear"]


@dataclass(frozen=True, slots=True)
class PlaceRequest:
    """Calls to place.

    Args:
        source: ``bridge.calls.addresses.Address`` that the called party is shown; None: ``calling.caller_id``.
        destinations: ``Address`` each.
        program: the flow that an answered call runs.
        flow_id: id of a ``[[flows]]`` table instead; it wins over ``program``. Neither: the call is just held.
        variables: at most 100 (see ``bridge.flows.variables``).
        answer_method: ``none``: each that answers runs the flow; ``hangup_others``: only the first, the others end.
        ring_method: all at once, or one after the other (the next when one has not answered).
        timeout_s: how long each may ring; None: ``calling.ring_timeout_s``.
        max_call_s: a call that lasts longer is hung up; None: ``calling.max_call_s`` only.
    """

    destinations: Sequence[Any]
    source: Any = None
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
    source: Any = None
    destinations: Sequence[Any] = ()


@dataclass(frozen=True, slots=True)
class Placed:
    """What came of a request: ``calls`` are ``bridge.calls.records.CallRecord``."""

    calls: Sequence[Any]
    groupcalls: Sequence[Groupcall] = ()


class FlowRuns:
    """Every flow that runs."""

    async def place(self, request: PlaceRequest) -> Placed:
        """Place calls; return as soon as they are on their way.

        Raises:
            LookupError: no flow has the id.
            ValueError: a destination cannot be dialled (in words, naming its index).
            Overloaded: ``calling.max_calls`` is reached.
            AriError: Asterisk refused.
        """
        raise NotImplementedError

    async def dial_connect(
        self,
        number: str,
        *,
        caller_id: str = "",
        session_data: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
        max_call_s: float | None = None,
    ) -> Any:
        """Voxology's ``POST /v1/Dials/Connect``: call ``number``; who answers runs the flow ``voxology.flow``.

        Returns:
            the call's ``CallRecord``.

        Raises:
            LookupError: ``voxology.flow`` is not set.
            ValueError, Overloaded, AriError: as `place`.
        """
        raise NotImplementedError

    async def run_on(self, call_id: str, program: Program, variables: Mapping[str, str] | None = None) -> None:
        """Run a flow on a call that we hold already; a flow that it runs is stopped first.

        Raises:
            LookupError: we do not hold such a call.
        """
        raise NotImplementedError

    async def stop(self, call_id: str) -> bool:
        """End the flow that a call runs, and what it opened; the call stays. False: it ran none."""
        raise NotImplementedError

    def is_running(self, call_id: str) -> bool:
        """Whether a call runs a flow."""
        raise NotImplementedError

    def groupcall(self, groupcall_id: str) -> Groupcall | None:
        """The group with this id, while it is remembered (the last 1000)."""
        raise NotImplementedError

    async def close(self) -> None:
        """End every flow: the bridge process goes."""
        raise NotImplementedError
