"""Actions in Voxology's spelling: ``{"actions": [{"type": "SAY", "name"?, "params": {...}}, ...]}``."""

from __future__ import annotations

from typing import Any

from bridge.flows.program import Program


def parse(flow: Any) -> Program:
    """Check a flow.

    Args:
        flow: the object with the list under ``actions``, or the list; JSON.

    Raises:
        FlowRefused: with everything that is wrong.
    """
    raise NotImplementedError


def schema() -> dict[str, Any]:
    """JSON schema (2020-12) of one action, for OpenAPI: ``oneOf`` with ``type`` as discriminator; no ``$ref`` left."""
    raise NotImplementedError
