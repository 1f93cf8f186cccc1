"""Public classes have names of their own, so a name has one meaning wherever it is read."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOREIGN = {
    "bridge/api/models": "the JSON form of what has the name elsewhere; the class is the schema's name in OpenAPI",
    "bridge/ari/model.py": "the names of Asterisk's own schema",
    "bridge/ari/resources.py": "the names of Asterisk's own resources",
}
"""Files whose names are given from outside."""
EXCEPTIONS = {"Samples": "one type, repeated in modules of the pytest plugin that do not import each other"}
"""Names that several classes may have, each with the reason."""


def defined(source: str) -> Iterable[str]:
    """Yield the public classes and type aliases that a module defines."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            name = node.name
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
        else:
            continue
        if name[0].isupper() and not name.isupper():
            yield name


def shared(sources: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the names that several modules define, with the modules."""
    found = defaultdict(list)
    for path, source in sources.items():
        if not path.startswith(tuple(FOREIGN)):
            for name in defined(source):
                found[name].append(path)
    return {name: paths for name, paths in found.items() if len(paths) > 1 and name not in EXCEPTIONS}


def test_no_two_public_classes_share_a_name() -> None:
    sources = {str(path.relative_to(ROOT)): path.read_text() for path in sorted((ROOT / "bridge").rglob("*.py"))}
    assert len(sources) > 100
    assert shared(sources) == {}


@pytest.mark.parametrize("second", ["class Store: ...", "Store = int | str", "Store: type = int"])
def test_a_shared_name_is_found(second: str) -> None:
    found = shared({"bridge/a.py": "class Store: ...", "bridge/b.py": second, "bridge/c.py": "class Other: ..."})
    assert found == {"Store": ["bridge/a.py", "bridge/b.py"]}


def test_names_that_are_given_from_outside_may_be_shared() -> None:
    assert shared({"bridge/a.py": "class Call: ...", "bridge/api/models/calls.py": "class Call: ..."}) == {}
