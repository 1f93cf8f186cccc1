"""Counts the values of a JSON document before it is parsed: a parser holds Python's global lock until it is done."""

from __future__ import annotations

import re


def check_shape(text: str, values: int, depth: int) -> None:
    """Count the values of a JSON document, without parsing it.

    Args:
        text: JSON, or any other string.
        values: the largest number of values.
        depth: the deepest nesting of objects and lists.

    Raises:
        ValueError: it has more, or they are nested too deeply; the message follows the name of the document.
    """
    if _openings(text) + text.count(",") <= min(values, depth):
        return
    # What is in strings does not count. Without escapes, every second part between quotes is one.
    bare = "".join(text.replace("\\\\", "").replace('\\"', "").split('"')[::2])
    count = _openings(bare) + bare.count(",")
    if count > values:
        raise ValueError(f"has more than {values} values")
    deep = 0
    for bracket in re.findall(r"[][{}]", bare):
        deep += 1 if bracket in "[{" else -1
        if deep > depth:
            raise ValueError(f"is nested deeper than {depth}")


def _openings(text: str) -> int:
    return text.count("{") + text.count("[")
