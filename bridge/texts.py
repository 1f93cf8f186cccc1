"""Received text (of a caller, a peer, a flow server, a request), bounded before it is shown anywhere. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MAX_CHARACTERS = 500
"""The limit of one string in an event, a log line, an error or a close reason."""
MAX_EVENT_CHARACTERS = 64 * 1024
"""The limit of all strings in one event together."""


def cut(text: str, limit: int = MAX_CHARACTERS) -> str:
    """Return a string of at most ``limit`` characters; an ellipsis ends one that was longer."""
    return text if len(text) <= limit else text[: limit - 1] + "\u2026"


def cut_all(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return JSON with every nested string and name cut; beyond `MAX_EVENT_CHARACTERS` they are empty."""
    left = MAX_EVENT_CHARACTERS

    def bounded(text: str) -> str:
        nonlocal left
        short = cut(text, min(left, MAX_CHARACTERS)) if left else ""
        left -= len(short)
        return short

    def inside(part: Any) -> Any:
        if isinstance(part, str):
            return bounded(part)
        if isinstance(part, Mapping):
            return {bounded(str(key)): inside(item) for key, item in part.items()}
        if isinstance(part, list | tuple):
            return [inside(item) for item in part]
        return part

    return {key: inside(item) for key, item in value.items()}
