"""What pydantic finds wrong with a request, in the words that the configuration uses: where, what is wrong, what is
expected."""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

MAX_CHARACTERS = 2000
MAX_SHOWN = 60
MAX_FAULTS = 50
"""More than are told: finding the words for each takes time, in which no call gets its audio."""

_EXPECTED: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "string_type": lambda _: "a text",
    "string_unicode": lambda _: "a text of whole characters",
    "string_too_short": lambda c: (
        "a text that is not empty" if c["min_length"] == 1 else f"a text of {c['min_length']} characters or more"
    ),
    "string_too_long": lambda c: f"a text of at most {c['max_length']} characters",
    "string_pattern_mismatch": lambda c: f"a text that matches {c['pattern']}",
    "int_type": lambda _: "a whole number",
    "int_from_float": lambda _: "a whole number",
    "int_parsing": lambda _: "a whole number",
    "int_parsing_size": lambda _: "a whole number that is not so large",
    "float_type": lambda _: "a number",
    "finite_number": lambda _: "a number",
    "bool_type": lambda _: "true or false",
    "list_type": lambda _: "a list",
    "dict_type": lambda _: "an object {...}",
    "model_type": lambda _: "an object {...}",
    "model_attributes_type": lambda _: "an object {...}",
    "literal_error": lambda c: f"one of {c['expected']}",
    "greater_than_equal": lambda c: f"a number from {c['ge']}",
    "less_than_equal": lambda c: f"a number up to {c['le']}",
    "too_short": lambda c: f"{c['min_length']} or more entries",
    "too_long": lambda c: f"at most {c['max_length']} entries",
}


def words_of(problem: ValidationError, model: type[BaseModel]) -> str:
    """What is wrong, in one line: all of it, if it is not very much."""
    details = problem.errors(include_url=False)[:MAX_FAULTS]
    faults = [f"{key}: {reason}".removeprefix(": ") for key, reason in map(_fault(model), details)]
    return "; ".join(dict.fromkeys(faults))[:MAX_CHARACTERS]


def key_of(place: Sequence[str | int]) -> str:
    """A place in a body as people write it: ``destinations[0].type``."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{str(part)[:80]}"
    return text.removeprefix(".")


def _fault(model: type[BaseModel]) -> Callable[[Any], tuple[str, str]]:
    def describe(detail: Any) -> tuple[str, str]:
        place = tuple(detail["loc"])
        return key_of(place), _reason(detail, model)

    return describe


def _reason(detail: Any, model: type[BaseModel]) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return "is no known key" + _nearest(str(detail["loc"][-1]), _model_at(model, detail["loc"][:-1]))
    if kind == "missing":
        return "is missing"
    shown = _shown(detail["input"])
    if kind in ("value_error", "assertion_error"):
        reason = str(context["error"])
        return f"{reason}, got {shown}" if reason.startswith("expected") else reason
    expected = _EXPECTED.get(kind)
    return f"expected {expected(context)}, got {shown}" if expected else f"{detail['msg']}"


def _shown(value: object) -> str:
    if not isinstance(value, bool | str | int | float | None):
        return {"dict": "an object", "list": "a list"}.get(type(value).__name__, type(value).__name__)
    text = json.dumps(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _model_at(model: type[BaseModel], place: Sequence[str | int]) -> list[str]:
    """The keys of the object at ``place`` of what ``model`` describes; none if that is not known."""
    schema = _schema_of(model)
    here: Any = schema
    for part in place:
        here = _resolved(schema, here)
        here = here.get("items", {}) if isinstance(part, int) else here.get("properties", {}).get(part, {})
    return list(_resolved(schema, here).get("properties", {}))


@functools.cache
def _schema_of(model: type[BaseModel]) -> Mapping[str, Any]:
    return model.model_json_schema()


def _resolved(root: Any, here: Any) -> Any:
    for branch in here.get("anyOf", ()):
        if "$ref" in branch:
            here = branch
    reference = here.get("$ref", "")
    return root["$defs"][reference.rpartition("/")[2]] if reference else here


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name[:MAX_SHOWN], known, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    if not known:
        return ""
    return f"; known are {', '.join(known)}" if len(known) <= 15 else ""
