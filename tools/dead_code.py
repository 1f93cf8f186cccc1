"""Report code that nothing uses. Use by tests alone does not count.

Vulture finds names that are defined and never named again. What only looks so is left out: the fields of pydantic's and
msgspec's models and of counters, which are read by those who know the class, what is registered by a decorator, and the
names in tools/used_by_others.txt.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from vulture import Vulture  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[1]
SCANNED = ("bridge", "tools", "packaging")
KIT = ROOT / "bridge/testing"
"""For the tests of users: what it defines is used by them."""
DECORATORS = ["@action", "@model_validator", "@field_validator", "@pytest.*"]
DISCOVERED = ROOT / "bridge/dialects"
"""Its classes are found by looking."""
READ_AS_A_WHOLE = {"Counters", "CallRecord"}
"""Classes whose fields are read by `dataclasses.fields`."""


def fields(path: Path, named: bool = False) -> Iterator[ast.AnnAssign | ast.Assign]:
    """Yield the fields of classes that are read as a whole: of those with bases, which are libraries' models.

    Args:
        path: of the module.
        named: only those of READ_AS_A_WHOLE.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef) and (node.name in READ_AS_A_WHOLE or (node.bases and not named)):
            yield from (each for each in node.body if isinstance(each, ast.AnnAssign | ast.Assign))


def main() -> int:
    """Return the exit code: 1 if something is not used."""
    used = (ROOT / "tools/used_by_others.txt").read_text(encoding="utf-8").splitlines()
    names = [line.split("#", 1)[0].strip() for line in used]
    for path in (ROOT / "bridge").rglob("*.py"):
        names += [ast.unparse(each.target) for each in fields(path, named=True) if isinstance(each, ast.AnnAssign)]
    finder = Vulture(ignore_decorators=DECORATORS, ignore_names=[name for name in names if name])
    finder.scavenge([str(ROOT / each) for each in SCANNED])
    code = 0
    for item in finder.get_unused_code(min_confidence=60):
        path = Path(item.filename)
        if KIT in path.parents or (path.parent == DISCOVERED and item.typ == "class"):
            continue
        if item.typ == "variable" and item.first_lineno in {each.lineno for each in fields(path)}:
            continue
        print(f"{path.relative_to(ROOT)}:{item.first_lineno}: unused {item.typ} {item.name}", file=sys.stderr)
        code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
