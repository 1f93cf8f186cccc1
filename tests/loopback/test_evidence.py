"""A test of real programs is repeated only if the machine was measured to be short of processors while it failed."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests import evidence
from tests.machine import Machine, Shortage, in_words

pytest_plugins = ["pytester"]
LATE = Shortage(0.0, 0.2, "tests")
TESTS = """
    runs = []

    def test_wrong_once():
        runs.append("once")
        assert len(runs) > 1, "a hole of 60 ms"

    def test_right():
        pass
"""


def judged(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, shortages: list[Shortage]) -> pytest.RunResult:
    """Run a test of real programs that fails the first time, on a machine that was short of processors, or not."""
    monkeypatch.setattr(evidence, "REAL_TIME", (pytester.path,))
    monkeypatch.setattr(Machine, "shortages", lambda *_: shortages)
    pytester.makepyfile(TESTS)
    return pytester.runpytest_inprocess("-p", "tests.evidence", "-p", "no:asyncio")


def test_a_failure_on_a_machine_with_time_counts(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    result = judged(pytester, monkeypatch, [])
    result.assert_outcomes(passed=1, failed=1)
    assert "short of processors" not in result.stdout.str()


def test_a_failure_on_a_starved_machine_is_judged_again(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = judged(pytester, monkeypatch, [LATE])
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["PASSED *test_wrong_once: * 200 ms at most (tests)*a hole of 60 ms*"])


def test_what_fails_again_and_again_has_failed(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makepyfile(test_never="def test_never():\n    assert False")
    monkeypatch.setattr(evidence, "REAL_TIME", (pytester.path,))
    monkeypatch.setattr(Machine, "shortages", lambda *_: [LATE])
    result = pytester.runpytest_inprocess("-p", "tests.evidence", "-p", "no:asyncio")
    result.assert_outcomes(failed=1)
    assert len([line for line in result.outlines if line.startswith("FAILED") and "processors" in line]) == 3


def test_the_witness_measures_that_it_was_held_up() -> None:
    """A stopped witness is one that does not run."""
    machine = Machine()
    try:
        began = time.monotonic()
        deadline = began + 60
        while not machine.shortages(began):
            assert time.monotonic() < deadline
            os.kill(machine._witness.pid, signal.SIGSTOP)
            time.sleep(0.3)
            os.kill(machine._witness.pid, signal.SIGCONT)
            time.sleep(0.3)
        assert "withheld" in in_words(machine.shortages(began))
    finally:
        machine.close()
