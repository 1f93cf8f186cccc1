"""Parse JSON of others: bounded before it is parsed, as a parser holds Python's global lock, and strict. Pure."""

from __future__ import annotations

import json
import re
from math import isfinite
from typing import Any, NoReturn

MAX_DIGITS = 100
"""Digits of an integer: the time to parse and print one is quadratic in their number."""
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
"""Half of a surrogate pair: invalid alone, it cannot be encoded as UTF-8."""


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


def strict_json(text: str) -> Any:
    """Parse JSON, without Python's extensions: every value can be sent on.

    Args:
        text: the complete document; `check_shape` bounds it.

    Raises:
        ValueError: it is not JSON, or has a number or a string that other programs do not accept.
    """
    try:
        value = json.loads(text, parse_constant=_no_number, parse_int=_integer, parse_float=_float)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if _HALF.search(text):
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number has more than {MAX_DIGITS} digits")
    return int(text)


def _float(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
