"""Which spelling a flow is written in, and parsing of either."""

from __future__ import annotations

from typing import Any

from bridge.flows.program import Program


def parse(flow: Any) -> Program:
    """Check a flow in either spelling: types in capitals (``SAY``) are Voxology's, others (``talk``) VoIPBIN's.

    Args:
        flow: the list of actions, or an object with it under ``actions``; JSON.

    Raises:
        FlowRefused: with everything that is wrong.
    """
    raise NotImplementedError


def action_schemas() -> dict[str, dict[str, Any]]:
    """For OpenAPI: ``{"VoipbinAction": schema, "VoxologyAction": schema}``."""
    raise NotImplementedError
