"""What tests must not do, held by machine: read other test modules, and wait for real time in tests/unit."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
REAL_CLOCKS = {"time", "monotonic", "perf_counter", "process_time", "time_ns", "monotonic_ns", "perf_counter_ns"}


def sources(*folders: str) -> Iterator[tuple[Path, ast.Module]]:
    """Return the modules of some folders of tests."""
    for folder in folders:
        for path in sorted((TESTS / folder).rglob("*.py")):
            yield path.relative_to(TESTS), ast.parse(path.read_text())


def modules_read_by(tree: ast.AST) -> Iterator[str]:
    """Return the names of the modules that a module imports, and what it imports of packages."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (alias.name for alias in node.names if not node.module or node.module.startswith("tests"))


def waits_in(tree: ast.AST) -> Iterator[int]:
    """Return the lines in which real time passes or is read."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        module = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
        is_zero = bool(node.args) and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0
        if (module in ("asyncio", "time") and node.func.attr == "sleep" and not is_zero) or (
            module == "time" and node.func.attr in REAL_CLOCKS
        ):
            yield node.lineno


def test_what_tests_share_is_in_helper_modules() -> None:
    found = [
        f"{path}: {name}"
        for path, tree in sources("unit", "loopback", "lab", "fakes")
        for name in modules_read_by(tree)
        if name.rpartition(".")[2].startswith("test_") and name != "aiohttp.test_utils"
    ]
    assert found == []


def test_no_real_time_in_unit_tests() -> None:
    """`tests.fakes.virtual_time` has what to use; a test of a process or a thread belongs in tests/loopback."""
    found = [f"{path}:{line}" for path, tree in sources("unit") for line in waits_in(tree)]
    assert found == []


def test_these_rules_find_what_they_forbid() -> None:
    assert list(modules_read_by(ast.parse("from tests.unit.api.test_server import Pbx"))) == [
        "tests.unit.api.test_server",
        "Pbx",
    ]
    assert "test_server" in list(modules_read_by(ast.parse("from . import test_server")))
    waiting = "import asyncio\nasyncio.sleep(0)\nasyncio.sleep(1)\nasyncio.sleep(x)\ntime.sleep(1)\ntime.monotonic()\n"
    assert list(waits_in(ast.parse(waiting))) == [3, 4, 5, 6]
