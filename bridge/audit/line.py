"""One line of the audit log."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

MAX_LINE_BYTES = 4000
"""Below PIPE_BUF (4096 on Linux): a write of this size is never mixed with another process's."""
MAX_CHARACTERS = 200
"""Longer values are cut: some come from a URL."""
MAX_ITEMS = 10
"""Longer lists are cut; their length is kept, as ``NAME_count``."""
_CUTS = ((MAX_CHARACTERS, MAX_ITEMS), (40, MAX_ITEMS), (40, 2))
"""Characters of a value and items of a list, tried in this order until the line is short enough."""
_LAST_CUT = (24, 1)
"""The length of a time. With these and plain ASCII, no line of 40 values is too long."""

LineValue = str | int | float | bool | Sequence[str]


def line_of(values: Mapping[str, LineValue]) -> bytes:
    """Return a JSON object on one line, in ASCII, of at most `MAX_LINE_BYTES`.

    Args:
        values: the line's content, in order; empty strings and lists are omitted.
    """
    for characters, items in _CUTS:
        line = _encoded(_bounded(values, characters, items))
        if len(line) <= MAX_LINE_BYTES:
            return line
    return _encoded({name: _plain(value) for name, value in _bounded(values, *_LAST_CUT).items()})


def _encoded(values: Mapping[str, LineValue]) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode() + b"\n"


def _bounded(values: Mapping[str, LineValue], characters: int, items: int) -> dict[str, LineValue]:
    bounded: dict[str, LineValue] = {}
    for name, value in values.items():
        if isinstance(value, bool | int | float):
            bounded[name] = value
        elif isinstance(value, str):
            if value:
                bounded[name] = value[:characters]
        elif value:
            bounded[name] = [item[:characters] for item in value[:items]]
            if len(value) > items:
                bounded[f"{name}_count"] = len(value)
    return bounded


def _plain(value: LineValue) -> LineValue:
    """Return the value with a question mark in place of each character that takes more than one byte."""
    if isinstance(value, str):
        return "".join(each if each.isascii() and each.isprintable() and each not in '"\\' else "?" for each in value)
    return value if isinstance(value, bool | int | float) else [str(_plain(item)) for item in value]
