"""The public names of the product, as docs/reference/stability.md lists the interfaces. After an intended change:

    .venv/bin/python -m tests.surface

writes tests/unit/public_surface.json, whose difference is for the reviewer and for the changelog.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import Mock

from pydantic import BaseModel

from bridge import dialects
from bridge.access import SCOPES
from bridge.api.errors import REASONS
from bridge.audit import ACTIONS
from bridge.config.model import SECTIONS, TABLES
from bridge.events import EVENT_TYPES
from bridge.logs import IDS
from bridge.testing import plugin
from tools.reference import command_line, metrics
from tools.reference.configuration import _default
from tools.reference.http import served

FILE = Path(__file__).parent / "unit/public_surface.json"
PYTHON = {
    "bridge.testing.bridge_program": ("BridgeProgram",),
    "bridge.testing.lab_engine": ("Lab",),
    "bridge.testing.phone": ("Phone",),
    "bridge.testing.peer": ("Peer",),
    "bridge.testing.judge": (),
    "bridge.testing.modem": (),
}
"""Public modules, with the classes whose members are public too."""


def surface() -> dict[str, Any]:
    """Return all public names, by interface."""
    document = json.loads(asyncio.run(served("GET", "/openapi.json")))
    return {
        "http operations": dict(sorted(_operations(document))),
        "http schemas": {
            name: _properties(schema) for name, schema in sorted(document["components"]["schemas"].items())
        },
        "http errors": {reason: status for reason, (status, _) in sorted(REASONS.items())},
        "scopes": sorted(SCOPES),
        "events": sorted(EVENT_TYPES),
        "dialects": {name: sorted(dialect.options()) for name, dialect in sorted(dialects.known().items())},
        "configuration": _configuration(),
        "command line": _command_line(),
        "metrics": _metrics(),
        "log ids": sorted(IDS),
        "audit actions": sorted(ACTIONS),
        "pytest plug-in": _plugin(),
    }


def _operations(document: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Return each operation with its id and the names of its parameters."""
    return [
        (
            f"{method.upper()} {path}",
            [operation["operationId"], *sorted(each["name"] for each in operation.get("parameters", ()))],
        )
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def _properties(schema: Mapping[str, Any]) -> list[str]:
    """Return the names of a schema's fields, at any depth, and of its actions and their options."""
    found: set[str] = set()

    def walk(part: Any) -> None:
        if isinstance(part, Mapping):
            found.update(part.get("properties", {}))
            if isinstance(part.get("const"), str):
                found.add(part["const"])
            for key, each in part.items():
                if key not in {"example", "examples", "default", "description"}:
                    walk(each)
        elif isinstance(part, list):
            for each in part:
                walk(each)

    walk(schema)
    return sorted(found)


def _configuration() -> dict[str, str]:
    models: dict[str, type[BaseModel]] = {f"[{name}]": model for name, model in SECTIONS.items()}
    models |= {f"[[{name}]]": model for name, model in TABLES.items()}
    return {
        f"{head} {name}": _default(field).strip("`")
        for head, model in sorted(models.items())
        for name, field in sorted(model.model_fields.items())
    }


def _command_line() -> dict[str, list[str]]:
    """Return the options and arguments of each command."""
    found: dict[str, list[str]] = {}
    for part in command_line.commands().split("## `")[1:]:
        command, _, table = part.partition("`")
        found[command] = [
            name for row in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)
        ]
    return found


def _metrics() -> dict[str, str]:
    return dict(sorted(re.findall(r"^\| `(\w+)` \| (\w+) \|", metrics.tables(), re.MULTILINE)))


def _plugin() -> dict[str, list[str]]:
    parser = Mock()
    plugin.pytest_addoption(parser)
    added = parser.getgroup.return_value.addoption.call_args_list
    found = {"fixtures": sorted(plugin.__all__), "options": sorted(call.args[0] for call in added)}
    for name, classes in PYTHON.items():
        module = import_module(name)
        if not classes:
            own = {key: each for key, each in vars(module).items() if getattr(each, "__module__", name) == name}
            found[name] = _public(own)
        for each in classes:
            found[f"{name}.{each}"] = _public(vars(getattr(module, each)))
    return found


def _public(names: Mapping[str, Any]) -> list[str]:
    """Return public names, functions with those of their parameters."""
    return sorted(
        f"{name}({', '.join(inspect.signature(value).parameters)})" if inspect.isfunction(value) else name
        for name, value in names.items()
        if not name.startswith("_") and not inspect.ismodule(value) and name != "annotations"
    )


def as_text() -> str:
    """Return the surface as the file holds it."""
    return json.dumps(surface(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(as_text(), encoding="utf-8")
