"""What is kept of a flow that runs, and how it is taken up again after a restart.

A flow resumes with the action that ran. Most are begun again: a sentence is spoken from its start, digits are collected
again. An action whose effect must not come twice (`Definition.after_restart`) is left out. Streams that the flow had
opened are opened again first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from bridge.access import Principal
from bridge.calls.addresses import Address
from bridge.calls.journal import Journal
from bridge.control.legs import Leg
from bridge.control.outbound_calls import OriginateRequest
from bridge.flows.interpreter import Flows, Frame, Run
from bridge.flows.program import Action, Program, Then, new_action_id, program
from bridge.flows.services import FlowServices
from bridge.flows.syntax import parse
from bridge.flows.variables import Variables

NOTHING = program((), "voipbin")
FLOW, PROGRAMS = "flow", "programs"
"""Kinds of facts: where a flow is and what it knows, which changes with each action; and its lists of actions."""


@dataclass(frozen=True, slots=True)
class Conduct:
    """How a flow is conducted: what is not the flow's own.

    Args:
        then: what becomes of the call afterwards.
        ends_at: when the call is hung up, in seconds since 1970; None: by no limit of the flow's.
    """

    then: Then
    ends_at: float | None = None

    @property
    def left_s(self) -> float | None:
        """How many seconds are left; None: no limit."""
        return None if self.ends_at is None else max(self.ends_at - time.time(), 0.0)


@dataclass(frozen=True, slots=True)
class Starter:
    """What starts the flow of a request on an answered call (`bridge.control.outbound_calls.OnAnswered`)."""

    begin: Callable[[Starter, Leg, Address], None]
    request: OriginateRequest
    program: Program | None
    fact: Mapping[str, Any]
    """What is kept of it while the call rings."""

    def __call__(self, leg: Leg, destination: Address) -> None:
        """Start the flow."""
        self.begin(self, leg, destination)


def keep(journal: Journal, run: Run, conduct: Conduct) -> None:
    """Write where a flow is."""
    if not journal.kept:
        return
    programs = tuple(id(frame.program) for frame in run.frames)
    if programs != run.programs_kept:
        run.programs_kept = programs
        journal.put(PROGRAMS, run.leg.id, {"programs": [_program_fact(frame.program) for frame in run.frames]})
    journal.put(
        FLOW,
        run.leg.id,
        {
            "conduct": asdict(conduct),
            "id": run.id,
            "call_id": run.call_id,
            "flow_id": run.flow_id,
            "principal": run.principal.fact,
            "facts": dict(run.facts),
            "variables": run.variables.kept(),
            "key_presses": [] if run.variables.secret else list(run.key_presses),
            "recordings": list(run.recordings),
            "frames": [{"at": frame.at, "loops": _by_index(frame)} for frame in run.frames],
            "opened": [opened.fact for opened in run.opened if not opened.stream.ended],
        },
    )


def forget(journal: Journal, run: Run) -> None:
    """Discard what was kept of a flow."""
    journal.drop(FLOW, run.leg.id)
    journal.drop(PROGRAMS, run.leg.id)


def frames_of(
    flow: Mapping[str, Any], programs: Iterable[Mapping[str, Any]]
) -> list[tuple[Program, int, dict[str, int]]]:
    """Return the lists of a flow: the program, the place in it, and how often each ``goto`` has jumped. For a thread.

    Raises:
        InvalidFlow: a list cannot be run any more.
    """
    found = []
    for frame, fact in zip(flow["frames"], programs, strict=True):
        program = program_of_fact(fact)
        loops = {program.actions[int(index)].id: count for index, count in frame["loops"].items()}
        found.append((program, int(frame["at"]), loops))
    return found


def run_of(
    leg: Leg,
    flow: Mapping[str, Any],
    frames: Iterable[tuple[Program, int, dict[str, int]]],
    principal: Principal,
    services: FlowServices,
    flows: Flows,
) -> Run:
    """Return the run of a flow, to be continued where it was.

    Args:
        flow: its fact.
        frames: what `frames_of` returned.
    """
    run = Run(
        leg,
        NOTHING,
        principal=principal,
        services=services,
        flows=flows,
        variables=Variables(**flow["variables"]),
        flow_id=flow["flow_id"],
        facts=flow["facts"],
    )
    run.id, run.call_id = flow["id"], flow["call_id"]
    run.frames = [Frame(program, at, loops) for program, at, loops in frames]
    run.key_presses, run.recordings = list(flow["key_presses"]), list(flow["recordings"])
    run.variables.is_sensitive = lambda: services.sensitive.covers(leg.id)
    run.to_reopen, run.resumed = list(flow["opened"]), True
    return run


def program_fact(program: Program | None) -> dict[str, Any] | None:
    """Return what is kept of a program; None: none."""
    return None if program is None else _program_fact(program)


def program_of_fact(fact: Mapping[str, Any]) -> Program:
    """Return the program that a fact was made of.

    Raises:
        InvalidFlow: it cannot be run any more.
    """
    if "enters" in fact:
        return entry_of(fact["enters"])
    return replace(parse(fact["source"]), configured=bool(fact["configured"]))


def entry_of(flow_id: str) -> Program:
    """Return a program that begins with entering the configured flow."""
    from bridge.flows import actions  # all of them, which few calls run; a thread may be importing them

    options = actions.data.FetchFlowOptions.model_validate({"flow_id": flow_id})
    return program([Action(new_action_id(), "", 0, "enter_flow", options)], "voipbin")


def _program_fact(program: Program) -> dict[str, Any]:
    if program.source is None:  # `entry_of`
        return {"enters": program.actions[0].options.flow_id}
    return {"source": program.source, "configured": program.configured}


def _by_index(frame: Frame) -> dict[str, int]:
    # Ids that we have made are others after a restart.
    return {str(frame.program.index_of(action_id)): count for action_id, count in frame.loops.items()}
