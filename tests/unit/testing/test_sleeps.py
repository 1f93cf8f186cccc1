"""Fixed sleeps in the lab's tests only become fewer: a test waits for a state, not for a time."""

from __future__ import annotations

import ast
from pathlib import Path

LAB = Path(__file__).parents[2] / "lab"
ALLOWED = 9
"""Durations that no state can replace, each with its reason; `tests/lab/waiting.py` waits for audio and for states."""


def sleeps(call: ast.Call) -> bool:
    """Return whether a call lets time pass; ``sleep(0)`` is one turn of the loop."""
    return ast.unparse(call.func) == "asyncio.sleep" and ast.unparse(call.args[0]) != "0"


def fixed_sleeps(source: str) -> list[int]:
    """Return the lines of sleeps that do not belong to a loop that polls a state."""
    found: list[int] = []

    def visit(node: ast.AST, polls: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Call) and sleeps(child) and not polls:
                found.append(child.lineno)
            visit(child, polls or isinstance(child, ast.While))

    visit(ast.parse(source), False)
    return found


def test_fixed_sleeps_only_become_fewer() -> None:
    # record_ari.py and record_requests.py record transcripts: people run them.
    found = {each.name: fixed_sleeps(each.read_text()) for each in LAB.glob("*.py") if not each.match("record_*")}
    count = sum(map(len, found.values()))
    assert count <= ALLOWED, {name: lines for name, lines in found.items() if lines}


def test_the_check_itself_can_fail() -> None:
    sleeping = "async def f():\n    await asyncio.sleep(1)\n    await asyncio.sleep(0)\n"
    assert fixed_sleeps(sleeping + "    while x:\n        await asyncio.sleep(1)\n") == [2]
