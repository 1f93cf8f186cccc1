"""Tables of configuration keys, from the models and the docstrings of their fields."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined

from bridge.api.field_docs import field_docs
from bridge.config.agents import AgentConfig
from bridge.config.model import SECTIONS, TABLES

LONG_DEFAULT = 60
"""Characters of a default that a cell of a table can hold."""
LONG_MEANING = 170
"""Characters of a meaning that a cell can hold; of a longer one, the sentences after the first are a note below."""
SENTENCE_ENDS = re.compile(r"(?<=[.]) (?=[A-Z`\"])")


def fragments() -> Mapping[str, Callable[[], str]]:
    """Return a writer for each section, each list of tables, and the table inside them, by its name in TOML."""
    models = {f"[{name}]": model for name, model in SECTIONS.items()}
    models |= {f"[[{name}]]": model for name, model in TABLES.items()}
    models["agent"] = AgentConfig
    return {name: functools.partial(table, model) for name, model in models.items()}


def table(model: type[BaseModel]) -> str:
    """Return the keys of a model as a table, and as notes what is too long for it."""
    docs = field_docs(model)
    rows = ["| key | default | value | meaning |", "|---|---|---|---|"]
    notes = []
    for name, field in model.model_fields.items():
        meaning = " ".join(docs.get(name, "").replace("``", "`").split())
        if len(meaning) > LONG_MEANING:
            meaning, *rest = SENTENCE_ENDS.split(meaning, maxsplit=1)
            notes += [f"- `{name}`. {each}" for each in rest]
        rows.append(f"| `{name}` | {_default(field)} | {_cell(field.description or 'a list')} | {_cell(meaning)} |")
    return "\n".join([*rows, *(["", *notes] if notes else [])])


def _default(field: Any) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    text = _toml(value)
    return "" if text is None else f"`{text}`" if len(text) <= LONG_DEFAULT else f"`{text[:LONG_DEFAULT]}...`"


def _toml(value: Any) -> str | None:
    match value:
        case None:
            return None
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case str():
            return f'"{value}"'
        case SecretStr():
            return '""'
        case BaseModel():
            return "{}"
        case dict():
            return "{" + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + "}"
    return "[" + ", ".join(filter(None, map(_toml, value))) + "]"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
