"""Storage of running flows, and resumption after a restart.

A flow resumes at the action that was running. Most actions start again: a sentence is spoken from its start, digits are
collected again. An action whose effect must not happen twice (`Definition.after_restart`) is skipped. Streams that the
flow had open are reopened first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict, replace

from bridge.access import Principal
from bridge.calls.addresses import Address
from bridge.calls.journal import Journal
from bridge.control.legs import Leg
from bridge.control.outbound_calls import OriginateRequest
from bridge.flows.interpreter import Flows, Frame, Run
from bridge.flows.program import Action, Document, Program, Then, new_action_id, program
from bridge.flows.services import FlowServices
from bridge.flows.syntax import parse
from bridge.flows.variables import Variables

NOTHING = program((), "voipbin")
FLOW, PROGRAMS = "flow", "programs"
"""Kinds of facts: position and variables of a flow, written with each action; and its lists of actions."""


class Conduct(Struct, frozen=True):
    """Limits of a call with a flow, set by what started the flow.

    Args:
        then: what happens to the call after the flow.
        ends_at: when the call is hung up, in seconds since 1970; None: no limit set with the flow.
    """

    then: Then
    ends_at: float | None = None

    @property
    def left_s(self) -> float | None:
        """Remaining seconds; None: no limit."""
        return None if self.ends_at is None else max(self.ends_at - time.time(), 0.0)


class Starter(Struct, frozen=True):
    """Starts the flow of a request on an answered call (`bridge.control.outbound_calls.OnAnswered`)."""

    begin: Callable[[Starter, Leg, Address], None]
    request: OriginateRequest
    program: Program | None
    fact: Mapping[str, Any]
    """The stored form, while the call rings."""

    def __call__(self, leg: Leg, destination: Address) -> None:
        """Start the flow."""
        self.begin(self, leg, destination)


def keep(journal: Journal, run: Run, conduct: Conduct) -> None:
    """Store the state of a flow."""
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
    """Delete the stored state of a flow."""
    journal.drop(FLOW, run.leg.id)
    journal.drop(PROGRAMS, run.leg.id)


def frames_of(
    flow: Mapping[str, Any], programs: Iterable[Mapping[str, Any]]
) -> list[tuple[Program, int, dict[str, int]]]:
    """Return the lists of a flow: program, position, and the jumps of each ``goto``. Call in a thread.

    Raises:
        InvalidFlow: a list is no longer valid.
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
    """Return the run of a flow, ready to continue.

    Args:
        leg: the call.
        flow: the stored fact of the flow.
        frames: the result of `frames_of`.
        principal: who started the flow.
        services: the parts of asterisk-bridge that actions use.
        flows: the other flows.
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
    """Return the stored form of a program; None: no program."""
    return None if program is None else _program_fact(program)


def program_of_fact(fact: Mapping[str, Any]) -> Program:
    """Return the program of a stored fact.

    Raises:
        InvalidFlow: the program is no longer valid.
    """
    if "enters" in fact:
        return entry_of(fact["enters"])
    source, configured = fact["source"], bool(fact["configured"])
    if not isinstance(source, Mapping):
        return replace(parse(source), configured=configured)
    from bridge.flows import twiml  # imports all actions

    if "text" in source:
        return twiml.parse(Document(**source["text"]))
    return replace(twiml.entry(**source["document"]), configured=configured)


def entry_of(flow_id: str) -> Program:
    """Return a program whose only action enters the configured flow."""
    from bridge.flows import actions  # imports all actions, which few calls need; a thread may be importing them

    options = actions.data.FetchFlowOptions.model_validate({"flow_id": flow_id})
    return program([Action(new_action_id(), "", 0, "enter_flow", options)], "voipbin")


def _program_fact(program: Program) -> dict[str, Any]:
    if program.source is None:  # `entry_of`
        return {"enters": program.actions[0].options.flow_id}
    return {"source": program.source, "configured": program.configured}


def _by_index(frame: Frame) -> dict[str, int]:
    # Generated ids differ after a restart.
    return {str(frame.program.index_of(action_id)): count for action_id, count in frame.loops.items()}
