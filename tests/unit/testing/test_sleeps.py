"""Tests of the lab wait for a state, not for a time; a fixed sleep has a comment that names what lasts."""

from __future__ import annotations

import ast
from pathlib import Path

LAB = Path(__file__).parents[2] / "lab"


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


def unexplained(source: str) -> list[int]:
    """Return the lines of fixed sleeps without a comment."""
    lines = source.splitlines()
    return [number for number in fixed_sleeps(source) if "#" not in lines[number - 1]]


def test_each_fixed_sleep_says_what_lasts_so_long() -> None:
    """`tests/lab/waiting.py` has waits for audio and for states."""
    # record_ari.py and record_requests.py record transcripts: people run them.
    found = {each.name: unexplained(each.read_text()) for each in LAB.glob("*.py") if not each.match("record_*")}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_the_check_itself_can_fail() -> None:
    sleeping = "async def f():\n    await asyncio.sleep(1)\n    await asyncio.sleep(0)\n"
    explained = "    await asyncio.sleep(1)  # of load\n"
    polling = "    while x:\n        await asyncio.sleep(1)\n"
    assert unexplained(sleeping + explained + polling) == [2]
