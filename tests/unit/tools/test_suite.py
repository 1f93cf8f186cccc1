"""The parts of `./lab test`: all run, times and a summary at the end, and the exit code of what failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.lab import suite
from tools.lab.suite import Part

WAITS = """
import pathlib, sys, time
pathlib.Path(sys.argv[1]).touch()
while not pathlib.Path(sys.argv[2]).exists():
    time.sleep(0.01)
print("===== 1 passed in 0.01s =====")
"""
FAILS = "import sys; print('===== 1 failed in 0.01s ====='); sys.exit(1)"


def part(name: str, script: str, *arguments: Path) -> Part:
    return Part(name, tuple(map(str, arguments)), program=("-S", "-c", script))


def test_parts_run_together_and_all_are_reported(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Two that wait for each other's file cannot run one after the other; the third runs after them."""
    one, other = tmp_path / "one", tmp_path / "other"
    groups = ((part("a", WAITS, one, other), part("b", WAITS, other, one)), (part("c", WAITS, one, other),))
    assert suite.run(groups, [], tmp_path) == 0
    times = capfd.readouterr().out.partition("Times:")[2].splitlines()
    assert sorted(line.split()[0] for line in times[1:4]) == ["a", "b", "c"]
    assert all("1 passed" in line for line in times[1:4])
    assert times[-1] == "=== 1 passed in 0.01s ==="


def test_what_fails_is_the_exit_code_and_the_last_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    groups = ((part("bad", FAILS),), (part("good", WAITS, file, file),))
    assert suite.run(groups, [], tmp_path) == 1
    printed = capfd.readouterr().out
    assert "good" in printed.partition("Times:")[2]  # the rest runs although a part has failed
    assert printed.splitlines()[-1] == "=== 1 failed in 0.01s ==="


def test_every_test_belongs_to_one_part() -> None:
    root = Path(__file__).parents[3]
    named = [argument for group in suite.WHOLE for each in group for argument in each.arguments]
    for file in (str(path.relative_to(root)) for path in (root / "tests").rglob("test_*.py")):
        assert len([name for name in named if file == name or file.startswith(f"{name}/")]) == 1, file
