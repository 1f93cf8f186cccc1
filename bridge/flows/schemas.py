"""JSON schemas of options, for OpenAPI."""

from __future__ import annotations

import copy
from typing import Any

from pydantic import BaseModel


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return a model's schema with every ``$ref`` replaced by its definition."""
    schema = model.model_json_schema(mode="validation")
    definitions = schema.pop("$defs", {})
    inlined = _inline(schema, definitions)
    assert isinstance(inlined, dict)
    return inlined


def _inline(value: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_inline(item, definitions) for item in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        named = definitions[value["$ref"].rpartition("/")[2]]
        rest = {key: item for key, item in value.items() if key != "$ref"}
        return _inline({**copy.deepcopy(named), **rest}, definitions)
    return {key: _inline(item, definitions) for key, item in value.items()}
