"""Messages for validation errors: which key, what is wrong, what is expected, and which key was probably intended."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, TypeGuard, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

MAX_FAULTS = 50
"""The limit for one value: creating the messages takes time, in which no audio flows."""
MAX_CHARACTERS = 2000
"""The length of one `sentence`."""
MAX_SHOWN_CHARACTERS = 80
MAX_KNOWN = 50
"""The largest number of known names that is listed if none is similar."""

_EXPECTED: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "string_type": lambda _: "a string",
    "string_unicode": lambda _: "a string of valid characters",
    "string_too_short": lambda c: (
        "a string that is not empty" if c["min_length"] == 1 else f"a string of {c['min_length']} characters or more"
    ),
    "string_too_long": lambda c: f"a string of at most {c['max_length']} characters",
    "string_pattern_mismatch": lambda c: f"a string that matches {c['pattern']}",
    "int_type": lambda _: "an integer",
    "int_from_float": lambda _: "an integer",
    "int_parsing": lambda _: "an integer",
    "int_parsing_size": lambda _: "a smaller integer",
    "float_type": lambda _: "a number",
    "finite_number": lambda _: "a number",
    "bool_type": lambda _: "true or false",
    "list_type": lambda _: "a list",
    "tuple_type": lambda _: "a list",
    "dict_type": lambda _: "an object {...}",
    "model_type": lambda _: "an object {...}",
    "model_attributes_type": lambda _: "an object {...}",
    "literal_error": lambda c: f"one of {c['expected']}",
    "greater_than_equal": lambda c: f"a number from {c['ge']}",
    "less_than_equal": lambda c: f"a number up to {c['le']}",
    "too_short": lambda c: f"{c['min_length']} or more entries",
    "too_long": lambda c: f"at most {c['max_length']} entries",
}
_SCHEMA_PART = re.compile(r"[\w-]+\[.*\]|str|int|float|bool|list|dict", re.DOTALL)
_KEYED = re.compile(r"([\w.\[\]-]+): (.*)", re.DOTALL)


class KeyedError(ValueError):
    """Values that do not fit together: ``key: reason``, several of them separated by ``; ``."""


def explain(problem: ValidationError, model: type[BaseModel], *, described: bool = False) -> Iterator[tuple[str, str]]:
    """Yield messages for what is wrong with a value. Secrets are not repeated.

    Args:
        problem: pydantic's error.
        model: the model of the value.
        described: whether the descriptions of the model's fields contain what is expected.

    Returns:
        Up to `MAX_FAULTS` keys and reasons. A key is written as ``destinations[0].type``; "": the complete value.
    """
    for detail in problem.errors(include_url=False)[:MAX_FAULTS]:
        yield from explain_detail(detail, model, described=described)


def sentence(faults: Iterator[tuple[str, str]]) -> str:
    """Join keys and reasons: ``key: reason; key: reason``."""
    return "; ".join(dict.fromkeys(": ".join(filter(None, pair)) for pair in faults))[:MAX_CHARACTERS]


def keyed(text: str) -> tuple[str, str]:
    """Split ``key: reason``; return ("", ``text``) if it has no key."""
    found = _KEYED.fullmatch(text)
    return (found[1], found[2]) if found else ("", text)


def key_of(place: Sequence[str | int]) -> str:
    """Return a place in a value as people write it: ``destinations[0].type``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part[:80]}" for part in place).removeprefix(".")


def suggestion(name: str, known: Collection[str], prefix: str = "") -> str:
    """Return which known name was probably intended, or which exist: to be appended to a message.

    Args:
        name: the unknown name.
        known: the known names.
        prefix: inserted before the intended name.
    """
    import difflib  # only mistakes need it

    close = difflib.get_close_matches(name[:60], known, n=1)
    if close:
        return f"; did you mean {prefix}{close[0]}?"
    return f"; expected {', '.join(known)}" if 0 < len(known) <= MAX_KNOWN else ""


def _inner_keys(model: type[BaseModel], name: str) -> Collection[str]:
    """Return the keys of a table within a table; none if the key has another type."""
    field = model.model_fields.get(name)
    kind = field.annotation if field else None
    return kind.model_fields if isinstance(kind, type) and issubclass(kind, BaseModel) else ()


def explain_detail(detail: Any, model: type[BaseModel], *, described: bool = False) -> Iterator[tuple[str, str]]:
    """Explain one entry of ``ValidationError.errors()``."""
    kind, context = detail["type"], detail.get("ctx", {})
    place, owner, field, secret = _find(model, detail["loc"])
    key = key_of(place)
    if kind == "extra_forbidden":
        known = [info.alias or name for name, info in owner.model_fields.items()] if owner else []
        table = next((name for name in known if owner and str(place[-1]) in _inner_keys(owner, name)), None)
        hint = f"; it is a key of the table {table}" if table else suggestion(str(place[-1]), known)
        yield key, f"unknown key{hint}"
        return
    if kind in ("value_error", "assertion_error"):
        text = str(context["error"])
        for each in text.split("; ") if isinstance(context["error"], KeyedError) else [text]:
            below, reason = keyed(each) if not place or isinstance(context["error"], KeyedError) else ("", each)
            yield ".".join(filter(None, (key, below))), reason
        return
    expected = field.description if described and field is not None else None
    if kind == "missing":
        yield key, f"is missing; expected {expected}" if expected else "is missing"
        return
    if expected is None:
        words = _EXPECTED.get(kind)
        expected = words(context) if words else detail["msg"].removeprefix("Input should be ")
    yield key, f"expected {expected}" + ("" if secret else f", got {_shown(detail['input'])}")


def _find(
    model: type[BaseModel], location: Sequence[str | int]
) -> tuple[list[str | int], type[BaseModel] | None, Any, bool]:
    """Follow pydantic's location: return its keys, its last model and field, and whether that contains secrets.

    Where a value may be of several types, the location also names the type that was tried, which is not a key.
    """
    place: list[str | int] = []
    here: Any = model
    owner: type[BaseModel] | None = None
    field: Any = None
    secret = False
    for part in location:
        kinds = _kinds(here)
        if len(kinds) > 1:
            here = next((kind for kind in kinds if get_args(kind) or _is_model(kind)), None)
            continue
        kind = kinds[0] if kinds else None
        owner = field = None
        if isinstance(part, str) and _is_model(kind):
            owner = kind
            field = {info.alias or name: info for name, info in kind.model_fields.items()}.get(part)
            here = field.annotation if field is not None else None
            secret = secret or (field is not None and ("SecretStr" in str(here) or not field.repr))
        elif isinstance(part, str) and get_origin(kind) is not dict and _SCHEMA_PART.fullmatch(part):
            continue
        else:
            arguments = [each for each in get_args(kind) if each is not ...]
            here = arguments[-1] if arguments else None
        place.append(part)
    return place, owner, field, secret


def _kinds(annotation: Any) -> list[Any]:
    """Return the types that an annotation allows, without ``Annotated`` and ``None``."""
    if get_origin(annotation) is Annotated:
        return _kinds(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [kind for each in get_args(annotation) for kind in _kinds(each)]
    return [] if annotation in (None, type(None)) else [annotation]


def _is_model(kind: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _shown(value: object) -> str:
    if not isinstance(value, bool | str | int | float | None):
        names = {"dict": "an object", "list": "a list", "tuple": "a list"}
        return names.get(type(value).__name__, type(value).__name__)
    text = json.dumps(value)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[: MAX_SHOWN_CHARACTERS - 3]}..."
