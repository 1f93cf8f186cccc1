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


def printable(text: str) -> str:
    """Return a string with every unprintable character escaped: control characters, line breaks, surrogates."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def cut_all(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return JSON with every nested string and name cut; beyond `MAX_EVENT_CHARACTERS` they are empty."""
    rest = _Rest()
    return {key: rest.of(item) for key, item in value.items()}


class _Rest:
    """The characters that are left in one event. Not a recursive closure, which would be a cycle for each event."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = MAX_EVENT_CHARACTERS

    def of(self, part: Any) -> Any:
        """Return a part of the event, cut."""
        if isinstance(part, str):
            return self._bounded(part)
        if isinstance(part, Mapping):
            return {self._bounded(str(key)): self.of(item) for key, item in part.items()}
        if isinstance(part, list | tuple):
            return [self.of(item) for item in part]
        return part

    def _bounded(self, text: str) -> str:
        short = cut(text, min(self._left, MAX_CHARACTERS)) if self._left else ""
        self._left -= len(short)
        return short
