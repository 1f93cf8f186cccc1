"""A part of JSON Schema: enough to describe the arguments of a function, and to check them. Pure.

No keyword has a cost that the checked value determines: regular expressions and references are not supported.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from math import isfinite
from typing import Any

from bridge.validation import key_of, suggestion

MAX_DEPTH = 10
MAX_FAULTS = 10
MAX_SHOWN = 80

Schema = Mapping[str, Any]

_TYPES: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "string": ("a string", lambda value: isinstance(value, str)),
    "integer": ("an integer", lambda value: _is_number(value) and value == int(value)),
    "number": ("a number", lambda value: _is_number(value)),
    "boolean": ("true or false", lambda value: isinstance(value, bool)),
    "object": ("an object {...}", lambda value: isinstance(value, Mapping)),
    "array": ("a list", lambda value: isinstance(value, list)),
    "null": ("null", lambda value: value is None),
}
_ANNOTATIONS = frozenset({"title", "description", "default", "examples", "format", "$schema"})
_LIMITS: Mapping[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "minLength": ("a string of at least {} characters", lambda value, limit: len(value) >= limit),
    "maxLength": ("a string of at most {} characters", lambda value, limit: len(value) <= limit),
    "minItems": ("a list of at least {} entries", lambda value, limit: len(value) >= limit),
    "maxItems": ("a list of at most {} entries", lambda value, limit: len(value) <= limit),
    "minimum": ("a number from {}", lambda value, limit: value >= limit),
    "maximum": ("a number up to {}", lambda value, limit: value <= limit),
}
_LIMITED: Mapping[str, Callable[[object], bool]] = {
    "Length": lambda value: isinstance(value, str),
    "Items": lambda value: isinstance(value, list),
    "imum": lambda value: _is_number(value),
}
_WORDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "type": (f"one of {', '.join(_TYPES)}", lambda given: all(each in _TYPES for each in _listed(given))),
    "properties": ("a table", lambda given: isinstance(given, Mapping)),
    "required": ("a list of names", lambda given: isinstance(given, list | tuple)),
    "enum": ("a list of values", lambda given: isinstance(given, list | tuple)),
    "additionalProperties": ("true or false", lambda given: isinstance(given, bool)),
    "items": ("a table", lambda given: isinstance(given, Mapping)),
    "writeOnly": ("true or false", lambda given: isinstance(given, bool)),
} | {word: ("a number", lambda given: _is_number(given)) for word in _LIMITS}
_ANYTHING: tuple[str, Callable[[Any], bool]] = ("", lambda _: True)
KEYWORDS = sorted({*_ANNOTATIONS, *_LIMITS, *_WORDS})


def check_schema(schema: object) -> None:
    """Check a schema of the arguments of a function.

    Raises:
        ValueError: it is not a schema of an object, or has a keyword that is not supported; the message has the place.
    """
    if not isinstance(schema, Mapping) or schema.get("type") != "object":
        raise ValueError('must be a JSON schema with type = "object"')
    for fault in _faults_of_schema(schema, ()):
        raise ValueError(fault)


def faults(value: object, schema: Schema) -> list[str]:
    """Return the errors of a value: path, expectation and actual value; at most `MAX_FAULTS`.

    Args:
        value: JSON.
        schema: as `check_schema` accepts it.
    """
    found = []
    for fault in _faults(value, schema, ()):
        found.append(fault)
        if len(found) == MAX_FAULTS:
            break
    return found


def secret_names(schema: Schema) -> frozenset[str]:
    """Return the names of properties at any depth that are ``writeOnly``: secrets, which are never shown."""
    names: set[str] = set()
    for name, each in schema.get("properties", {}).items():
        names |= {name} if each.get("writeOnly") else secret_names(each)
    items = schema.get("items")
    return frozenset(names | secret_names(items) if isinstance(items, Mapping) else names)


def _faults_of_schema(schema: object, place: tuple[str | int, ...]) -> Iterator[str]:
    where = f"{key_of(place)}: " if place else ""
    if not isinstance(schema, Mapping):
        yield f"{where}must be a table"
        return
    if len(place) > MAX_DEPTH * 2:
        yield f"{where}is nested more than {MAX_DEPTH} levels deep"
        return
    for word, given in schema.items():
        if word not in KEYWORDS:
            yield f"{where}{word[:40]} is not supported in a schema{suggestion(word, KEYWORDS)}"
            continue
        expected, holds = _WORDS.get(word, _ANYTHING)
        if not holds(given):
            yield f"{where}{word}: expected {expected}"
        elif word == "items":
            yield from _faults_of_schema(given, (*place, word))
        elif word == "properties":
            for name, each in given.items():
                yield from _faults_of_schema(each, (*place, word, name))


def _faults(value: object, schema: Schema, place: tuple[str | int, ...]) -> Iterator[str]:
    where = f"{key_of(place)}: " if place else ""
    kinds = _listed(schema.get("type", ()))
    if kinds and not any(_TYPES[kind][1](value) for kind in kinds):
        yield f"{where}expected {' or '.join(_TYPES[kind][0] for kind in kinds)}{_got(value, schema)}"
        return
    allowed = schema.get("enum")
    if allowed is not None and value not in allowed:
        yield f"{where}expected one of {', '.join(map(_shown, allowed))}{_got(value, schema)}"
        return
    for word, (expected, holds) in _LIMITS.items():
        limit = schema.get(word)
        applies = next(check for end, check in _LIMITED.items() if word.endswith(end))
        if limit is not None and applies(value) and not holds(value, limit):
            yield f"{where}expected {expected.format(limit)}"
    if isinstance(value, Mapping):
        yield from _faults_of_object(value, schema, place)
    elif isinstance(value, list) and "items" in schema:
        for index, each in enumerate(value):
            yield from _faults(each, schema["items"], (*place, index))


def _faults_of_object(value: Mapping[str, object], schema: Schema, place: tuple[str | int, ...]) -> Iterator[str]:
    properties = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            meant = properties.get(name, {}).get("description", "")
            yield f"{key_of((*place, name))}: is missing" + (f"; expected: {meant}" if meant else "")
    for name, each in value.items():
        if name in properties:
            yield from _faults(each, properties[name], (*place, name))
        elif schema.get("additionalProperties") is False:
            yield f"{key_of((*place, name))}: unknown argument{suggestion(name, list(properties))}"


def _listed(given: Any) -> tuple[Any, ...]:
    return tuple(given) if isinstance(given, list | tuple) else (given,)


def _is_number(value: Any) -> bool:
    # Not `isfinite` of an integer: it would have to fit into a float.
    return (isinstance(value, float) and isfinite(value)) or (isinstance(value, int) and not isinstance(value, bool))


def _got(value: object, schema: Schema) -> str:
    return "" if schema.get("writeOnly") else f", got {_shown(value)}"


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    text = json.dumps(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."
