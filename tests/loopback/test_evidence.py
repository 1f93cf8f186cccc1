"""A test of real programs is repeated only if the machine was measured to be short of processors while it failed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE

import pytest

from tests import evidence
from tests.machine import SHORT, TICK_S, WINDOW_S, Machine, Programs, Shortage, in_words, stolen

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
FIXTURE = """
    import pytest

    runs = []

    @pytest.fixture
    def calls():
        runs.append("begin")
        assert {begin} or len(runs) > 1, "no phone registered"
        yield
        assert {end} or len(runs) > 1, "a channel is left"

    def test_wrong_once(calls):
        pass

    def test_right():
        pass
"""


def judged(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, shortages: list[Shortage], tests: str = TESTS
) -> pytest.RunResult:
    """Run a test of real programs that fails the first time, on a machine that was short of processors, or not."""
    monkeypatch.setattr(evidence, "REAL_TIME", (pytester.path,))
    monkeypatch.setattr(Machine, "shortages", lambda *_: shortages)
    pytester.makepyfile(tests)
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


@pytest.mark.parametrize(
    ("begin", "end", "message"), [(False, True, "no phone registered"), (True, False, "a channel is left")]
)
def test_what_fails_before_or_after_a_test_is_judged_again_too(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, begin: bool, end: bool, message: str
) -> None:
    tests = FIXTURE.format(begin=begin, end=end)
    result = judged(pytester, monkeypatch, [LATE], tests)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines([f"PASSED *test_wrong_once: *{message}*"])
    judged(pytester, monkeypatch, [], tests).assert_outcomes(passed=1 + begin, errors=1)


def test_what_fails_again_and_again_has_failed(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makepyfile(test_never="def test_never():\n    assert False")
    monkeypatch.setattr(evidence, "REAL_TIME", (pytester.path,))
    monkeypatch.setattr(Machine, "shortages", lambda *_: [LATE])
    result = pytester.runpytest_inprocess("-p", "tests.evidence", "-p", "no:asyncio")
    result.assert_outcomes(failed=1)
    assert len([line for line in result.outlines if line.startswith("FAILED") and "processors" in line]) == 3


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = Machine()
    yield machine
    machine.close()


def measured(machine: Machine, who: str, act: Callable[[], object]) -> list[Shortage]:
    """Act until the witness has evidence about a program, and return it."""
    began = time.monotonic()
    while not (found := [each for each in machine.shortages(began) if each.who == who]):
        assert time.monotonic() < began + 60, machine.shortages(began)
        act()
    return found


def test_the_witness_measures_that_it_was_held_up(machine: Machine) -> None:
    """A stopped witness is one that does not run."""

    def hold_up() -> None:
        os.kill(machine._witness.pid, signal.SIGSTOP)
        time.sleep(0.3)
        os.kill(machine._witness.pid, signal.SIGCONT)
        time.sleep(0.3)

    assert "withheld" in in_words(measured(machine, "witness", hold_up))


READY = "import os, subprocess, sys; print(flush=True); "
GREEDY = READY + "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nwhile True: pass"
"""A program that always wants to run, and only on one processor."""
IDLE = READY + "sys.stdin.read()"
PASSES_ON = "import subprocess, sys; subprocess.run(sys.argv[1:])"


@contextlib.contextmanager
def program(folder: Path, name: str, code: str, *, below: bool = False) -> Iterator[int]:
    """Run Python under a name that the kernel reports, if wanted as another program's child, and yield its PID."""
    link = folder / name
    link.symlink_to(sys.executable)
    line = [str(link), "-S", "-c", code]
    if below:
        line = [sys.executable, "-S", "-c", PASSES_ON, *line]
    process = subprocess.Popen(line, stdin=PIPE, stdout=PIPE, process_group=0)
    assert process.stdout is not None
    process.stdout.readline()
    yield process.pid
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_a_program_of_the_test_that_gets_no_processor_is_evidence(machine: Machine, tmp_path: Path) -> None:
    """Neither the process of the tests nor the witness has to wait: two programs share one of the processors."""
    with program(tmp_path, "rival", GREEDY), program(tmp_path, "starved", GREEDY, below=True):
        worst = max(measured(machine, "starved", lambda: time.sleep(0.1)), key=lambda each: each.seconds)
        assert worst.seconds > 0.05


def test_a_program_that_needs_no_processor_is_no_evidence(tmp_path: Path) -> None:
    with (
        program(tmp_path, "sleeps", IDLE, below=True) as idle,
        program(tmp_path, "rival", GREEDY),
        program(tmp_path, "starved", GREEDY) as starved,
    ):
        quiet, busy = Programs(idle), Programs(starved)
        quiet.longest_wait(), busy.longest_wait()
        time.sleep(1)
        assert quiet.longest_wait()[0] < SHORT * WINDOW_S / 2
        assert busy.longest_wait()[0] > SHORT


def test_time_that_a_hypervisor_took_is_read_by_processor() -> None:
    text = "cpu  9 9 9 9 9 9 9 30 0 0\ncpu0 1 2 3 4 5 6 7 10 0 0\ncpu1 1 2 3 4 5 6 7 20 0 0\nintr 1 2 3\n"
    assert stolen(text) == pytest.approx([10 * TICK_S, 20 * TICK_S])
    assert len(stolen(Path("/proc/stat").read_text())) == os.cpu_count()
