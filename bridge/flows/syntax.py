"""Detection of a flow's syntax, and parsing of all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from bridge.flows.program import Document, InvalidFlow, Program, Syntax

__all__ = ["InvalidFlow", "action_schemas", "parse", "parse_in_thread", "syntax_of"]


def syntax_of(flow: Any) -> Syntax:
    """Return the syntax of a flow.

    A `Document` is TwiML. Otherwise uppercase types (``SAY``) are Voxology's, others VoIPBIN's; the first decides.
    """
    if isinstance(flow, Document):
        return "twiml"
    actions = flow.get("actions") if isinstance(flow, Mapping) else flow
    for action in actions if isinstance(actions, list | tuple) else ():
        if not isinstance(action, Mapping):
            continue
        kind = action.get("type")
        if isinstance(kind, str) and kind:
            return "voxology" if kind.isupper() else "voipbin"
        if any(str(key).startswith("$") for key in action):
            return "voxology"
    return "voipbin"


def parse(flow: Any, path: str = "actions") -> Program:
    """Check a flow in any syntax.

    Args:
        flow: the list of actions, or an object with it under ``actions``; JSON. Or a document.
        path: name of the list in errors.

    Returns:
        The program.

    Raises:
        InvalidFlow: the flow is invalid; lists every error.
    """
    match syntax_of(flow):  # each imports all actions: few calls run any
        case "twiml":
            from bridge.flows import twiml

            return twiml.parse(flow)
        case "voxology":
            from bridge.flows import voxology

            return voxology.parse(flow, path)
        case _:
            from bridge.flows import voipbin

            return voipbin.parse(flow, path)


async def parse_in_thread(load: Callable[[], Any], check: Callable[[Program], object]) -> Program:
    """Load and check a flow in a thread: a large flow takes a second, which would interrupt the audio of calls.

    Args:
        load: returns the flow as JSON; its exceptions are raised here.
        check: called with the program; raises `InvalidFlow` if it can never run here.

    Returns:
        The program.

    Raises:
        InvalidFlow: the flow is invalid; lists every error.
    """

    def checked() -> Program:
        program = parse(load())
        check(program)
        return program

    return await asyncio.to_thread(checked)


def action_schemas() -> dict[str, dict[str, Any]]:
    """Return the schemas for OpenAPI: ``{"VoipbinAction": schema, "VoxologyAction": schema}``."""
    from bridge.flows import voipbin, voxology

    return {"VoipbinAction": voipbin.schema(), "VoxologyAction": voxology.schema()}
