"""Compare a message with a vendor's example of it: keys and their order, types, forms of strings, magnitudes."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

FORMS = {
    "a time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z",
    "a UUID": r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "a number": r"\+?\d+",
}
"""Strings whose form counts; all others are alike."""
MAX_DIGITS_APART = 2
"""Integers of the same magnitude differ by this many digits at most: seconds are not milliseconds."""


def differences(
    example: Any, sent: Any, *, same: Collection[str] = (), free: Collection[str] = (), at: str = ""
) -> list[str]:
    """Return how the shape of a message differs from that of an example; nothing: it does not.

    Lists of objects with a ``name`` hold names of the example, in its order; a list in which the example has none may
    hold anything. Other lists hold what is like the example's first item.

    Args:
        example: decoded JSON, as the vendor shows it.
        sent: decoded JSON, as the bridge sends it.
        same: keys whose values are equal.
        free: keys that hold what users choose, of any shape.
        at: where the two are, for messages.
    """
    if isinstance(example, dict) and isinstance(sent, dict):
        return list(_of_objects(example, sent, same, free, at))
    if type(example) is not type(sent):
        return [f"{at}: {_type(sent)} instead of {_type(example)}"]
    if isinstance(example, list):
        return list(_of_lists(example, sent, same, free, at))
    if isinstance(example, str) and form(example) != form(sent):
        return [f"{at}: {sent!r} is {form(sent)}, not {form(example)} as {example!r}"]
    if type(example) is int and abs(len(str(abs(example))) - len(str(abs(sent)))) > MAX_DIGITS_APART:
        return [f"{at}: {sent} is of another magnitude than {example}"]
    return []


def form(text: str) -> str:
    """Return what kind of string this is, one of `FORMS` or ``a string``."""
    return next((name for name, pattern in FORMS.items() if re.fullmatch(pattern, text)), "a string")


def examples(path: Path) -> list[dict[str, Any]]:
    """Return the JSON objects of a file, one after another with white space between them."""
    text, decoder = path.read_text(), json.JSONDecoder()
    found, at = [], 0
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        each, at = decoder.raw_decode(text, at)
        found.append(each)
    return found


def _of_objects(
    example: Mapping[str, Any], sent: Mapping[str, Any], same: Collection[str], free: Collection[str], at: str
) -> Iterator[str]:
    if list(example) != list(sent):
        missing, extra = example.keys() - sent.keys(), sent.keys() - example.keys()
        what = f"missing {sorted(missing)}, extra {sorted(extra)}" if missing or extra else f"in the order {list(sent)}"
        yield f"{at or 'keys'}: {what}; expected {list(example)}"
    for key in example:
        if key not in sent or key in free:
            continue
        where = f"{at}.{key}".removeprefix(".")
        if key in same and example[key] != sent[key]:
            yield f"{where}: {sent[key]!r} instead of {example[key]!r}"
        else:
            yield from differences(example[key], sent[key], same=same, free=free, at=where)


def _of_lists(
    example: Sequence[Any], sent: Sequence[Any], same: Collection[str], free: Collection[str], at: str
) -> Iterator[str]:
    if not example:
        return
    if all(isinstance(each, dict) and "name" in each for each in (*example, *sent)):
        names, found = [each["name"] for each in example], [each["name"] for each in sent]
        if [name for name in names if name in found] != found:
            yield f"{at}: the names are {found}, not {names} in this order"
    for index, each in enumerate(sent):
        yield from differences(example[0], each, same=same, free=free, at=f"{at}[{index}]")


def _type(value: object) -> str:
    return "null" if value is None else type(value).__name__
