"""Counts what a JSON text holds before it is parsed: a parser keeps Python's global lock until it is done."""

from __future__ import annotations

import re


def check_shape(text: str, values: int, depth: int) -> None:
    """Count what a JSON text holds, without parsing it.

    Args:
        text: JSON, or anything else.
        values: how many values it may hold.
        depth: how many objects and lists may be within each other.

    Raises:
        ValueError: it holds more, or they are nested too deeply; in words that follow the name of the text.
    """
    if _openings(text) + text.count(",") <= min(values, depth):
        return
    # What is in strings does not count. Without escapes, every second part between quotes is one.
    bare = "".join(text.replace("\\\\", "").replace('\\"', "").split('"')[::2])
    count = _openings(bare) + bare.count(",")
    if count > values:
        raise ValueError(f"holds more than {values} values")
    deep = 0
    for bracket in re.findall(r"[][{}]", bare):
        deep += 1 if bracket in "[{" else -1
        if deep > depth:
            raise ValueError(f"is nested deeper than {depth}")


def _openings(text: str) -> int:
    return text.count("{") + text.count("[")
