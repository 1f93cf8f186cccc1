"""``./lab soak`` in short, and that it cannot lie: with a leak and lost frames its verdict fails.

``--soak-minutes 10`` makes it longer. It measures how late audio is: it runs beside nothing else.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.checkout import ROOT
from tests.load.soak.verdict import FAILED, NOT_JUDGED, PASSED

CALLS = 6
SHORT_MEMORY_PERCENT = 6.0
"""In its first minutes a process still loads what its calls need."""
LONG_MINUTES = 8.0
FAULTY_MINUTES = 0.6


async def soak(output: Path, minutes: float, memory_percent: float, faults: str = "") -> tuple[int, dict[str, Any]]:
    """Run the program; return its exit code and its figures."""
    words = f"--minutes {minutes} --calls {CALLS} --memory-percent {memory_percent}".split()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.load.soak", *words, "--faults", faults),
        *("--output", str(output), "--folder", str(output / "lab")),
        cwd=ROOT,
    )
    try:
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    figures: dict[str, Any] = json.loads(output.with_suffix(".json").read_text())
    assert output.with_suffix(".svg").stat().st_size > 5000
    return code, figures


def outcomes(figures: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["outcome"] for check in figures["verdict"]}


async def test_calls_come_and_go_for_minutes_and_nothing_is_lost_grows_or_stays(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    minutes = request.config.getoption("--soak-minutes")
    percent = 1.0 if minutes >= LONG_MINUTES else SHORT_MEMORY_PERCENT
    code, figures = await soak(tmp_path / "soak", minutes, percent)
    assert FAILED not in outcomes(figures).values(), figures["verdict"]
    assert code in (0, 3)
    assert figures["long_calls"] == CALLS // 2
    assert figures["short_calls"] >= 20 * minutes
    judged = figures["samples"][-1]["behind_ms"]
    assert len(judged) == 8, "2 agents with 2 ears each, one observed call with 4"


async def test_a_leak_and_lost_frames_make_the_verdict_fail(tmp_path: Path) -> None:
    code, figures = await soak(tmp_path / "soak", FAULTY_MINUTES, SHORT_MEMORY_PERCENT, "leak=2000,lose=200")
    found = outcomes(figures)
    assert code == 1
    assert found["memory"] == FAILED
    lost = [fault for fault in figures["faults"] if fault["kind"] == "lost" and "to application" in fault["where"]]
    assert {fault["where"] for fault in lost} == {
        name for name in figures["samples"][-1]["behind_ms"] if name.endswith("to application")
    }
    assert found["audio"] in (FAILED, NOT_JUDGED), figures["verdict"]
    assert (found["tasks"], found["nothing left"]) == (PASSED, PASSED)
