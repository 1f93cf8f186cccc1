"""Fixed sleeps in the lab's tests only become fewer: a test waits for a state, not for a time."""

from __future__ import annotations

import ast
from pathlib import Path

LAB = Path(__file__).parents[2] / "lab"
ALLOWED = 52
"""Lower it when you replace some (`tests/lab/waiting.py` has waits for audio and for states); never raise it."""


def fixed_sleeps(source: str) -> list[int]:
    """Return the lines of sleeps that do not belong to a loop that polls a state."""
    found: list[int] = []

    def visit(node: ast.AST, polls: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Call) and ast.unparse(child.func) == "asyncio.sleep" and not polls:
                found.append(child.lineno)
            visit(child, polls or isinstance(child, ast.While))

    visit(ast.parse(source), False)
    return found


def test_fixed_sleeps_only_become_fewer() -> None:
    # record_ari.py records transcripts from a person's point of view: it is no test.
    found = {path.name: fixed_sleeps(path.read_text()) for path in LAB.glob("*.py") if path.name != "record_ari.py"}
    count = sum(map(len, found.values()))
    assert count <= ALLOWED, {name: lines for name, lines in found.items() if lines}


def test_the_check_itself_can_fail() -> None:
    assert fixed_sleeps(
        "async def f():\n    await asyncio.sleep(1)\n    while x:\n        await asyncio.sleep(1)\n"
    ) == [2]
