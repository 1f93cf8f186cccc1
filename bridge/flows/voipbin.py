"""Actions in VoIPBIN's spelling: ``[{"id", "next_id", "type", "option"}, ...]`` (its public bin-flow-manager)."""

from __future__ import annotations

from typing import Any

from bridge.flows.program import Program


def parse(flow: Any) -> Program:
    """Check a flow.

    Args:
        flow: the list of actions, or an object with it under ``actions``; JSON.

    Raises:
        FlowRefused: with everything that is wrong.
    """
    raise NotImplementedError


def schema() -> dict[str, Any]:
    """JSON schema (2020-12) of one action, for OpenAPI: ``oneOf`` with ``type`` as discriminator; no ``$ref`` left."""
    raise NotImplementedError
