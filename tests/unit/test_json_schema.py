"""The part of JSON Schema that describes arguments of tools."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.json_schema import check_schema, faults, secret_names

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 2, "maxLength": 5},
        "count": {"type": "integer", "minimum": 1, "maximum": 9},
        "size": {"enum": ["s", "m"]},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
        "when": {"type": ["string", "null"]},
        "who": {"type": "object", "properties": {"pin": {"type": "string", "writeOnly": True}}, "required": ["pin"]},
    },
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"name": "Ann", "count": 3, "size": "s", "tags": ["a"], "when": None, "who": {"pin": "1"}}, []),
        ({"name": "Ann", "count": 3.0}, []),
        ({}, ["name: is missing"]),
        ({"name": 1}, ["name: expected a string, got 1"]),
        ({"name": "A"}, ["name: expected a string of at least 2 characters"]),
        ({"name": "Ann", "count": True}, ["count: expected an integer, got true"]),
        ({"name": "Ann", "count": 2.5}, ["count: expected an integer, got 2.5"]),
        ({"name": "Ann", "count": 10}, ["count: expected a number up to 9"]),
        ({"name": "Ann", "count": 10**400}, ["count: expected a number up to 9"]),
        ({"name": "Ann", "count": float("inf")}, ["count: expected an integer, got Infinity"]),
        ({"name": "Ann", "size": "xl"}, ['size: expected one of "s", "m", got "xl"']),
        ({"name": "Ann", "tags": ["a", 1]}, ["tags[1]: expected a string, got 1"]),
        ({"name": "Ann", "tags": ["a", "b", "c"]}, ["tags: expected a list of at most 2 entries"]),
        ({"name": "Ann", "when": 5}, ["when: expected a string or null, got 5"]),
        ({"name": "Ann", "who": {}}, ["who.pin: is missing"]),
        ({"name": "Ann", "nme": "x"}, ["nme: unknown argument; did you mean name?"]),
        ({"name": "Ann", "who": {"pin": 1234}}, ["who.pin: expected a string"]),
        ([], ["expected an object {...}, got a list"]),
    ],
)
def test_faults_say_where_and_what_was_expected(value: object, expected: list[str]) -> None:
    assert faults(value, SCHEMA) == expected


def test_the_number_of_faults_is_limited() -> None:
    assert len(faults({f"x{number}": 1 for number in range(1000)}, SCHEMA)) == 10


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "string"}, 'must be a JSON schema with type = "object"'),
        ({"type": "object", "properties": {"a": {"pattern": "(a+)+"}}}, "properties.a: pattern is not supported"),
        ({"type": "object", "properties": {"a": {"type": "int"}}}, "properties.a: type: expected one of string"),
        ({"type": "object", "properties": {"a": 1}}, "properties.a: must be a table"),
        ({"type": "object", "required": "a"}, "required: expected a list"),
        ({"type": "object", "properties": {"a": {"minLength": "2"}}}, "properties.a: minLength: expected a number"),
        ({"type": "object", "$ref": "#/x"}, r"\$ref is not supported"),
    ],
)
def test_a_schema_that_is_not_supported_is_rejected(schema: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_schema(schema)


def test_the_depth_of_a_schema_is_limited() -> None:
    deep: dict[str, Any] = {"type": "object"}
    for _ in range(50):
        deep = {"type": "object", "properties": {"a": deep}}
    with pytest.raises(ValueError, match="nested more than 10 levels"):
        check_schema(deep)


def test_secrets_at_any_depth_are_known() -> None:
    check_schema(SCHEMA)
    assert secret_names(SCHEMA) == {"pin"}
