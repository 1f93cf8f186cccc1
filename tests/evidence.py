"""A test of real programs is repeated if it failed while the machine withheld its processors, and only then.

Two programs that wait for each other's processor tear audio and miss deadlines as a fault of the bridge does. What
distinguishes them is measured (`tests.machine`): a test that fails while no shortage was measured has failed. Otherwise
it runs again, a few times at most, and the evidence is printed at the end, whatever comes of it.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol  # as pytest's plug-ins that repeat tests do: there is no public name for it

from tests.machine import Machine, in_words

REPEATS = 2
HERE = Path(__file__).parent
REAL_TIME = (HERE / "lab", HERE / "loopback")
"""Folders of tests that measure by the clock: against a real Asterisk or over real sockets."""
EVIDENCE = "the machine, not the bridge"
INIT = 1
"""The process from which those in containers descend."""
_MACHINE = pytest.StashKey[Machine]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a test, again if its failure is more likely the machine's."""
    if not any(map(item.path.is_relative_to, REAL_TIME)):
        return None
    machine = _machine(item.config)
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    evidence: list[str] = []
    while True:
        began = time.monotonic()
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        wrong = next((report for report in reports if report.failed), None)
        short = machine.shortages(began) if wrong is not None else []
        if wrong is None or not short:
            break
        evidence.append(f"{in_words(short)}: {_message(wrong)}")
        if len(evidence) > REPEATS:
            break
    for report in reports:
        if report is (wrong or reports[1]):
            report.user_properties += [(EVIDENCE, line) for line in evidence]
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print why tests were repeated."""
    lines = [
        f"{outcome.upper()} {report.nodeid}: {text}"
        for outcome in ("passed", "failed", "error")
        for report in terminalreporter.getreports(outcome)
        for name, text in getattr(report, "user_properties", ())  # a collection error has none
        if name == EVIDENCE
    ]
    if lines:
        terminalreporter.section("repeated while the machine was short of processors")
        for line in lines:
            terminalreporter.write_line(line)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the witness."""
    if (machine := config.stash.get(_MACHINE, None)) is not None:
        machine.close()


def _machine(config: pytest.Config) -> Machine:
    if _MACHINE not in config.stash:
        containers = config.getoption("--lab-engine", default="") == "docker"
        config.stash[_MACHINE] = Machine(INIT if containers else None)
    return config.stash[_MACHINE]


def _message(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash else report.longreprtext).splitlines()[0]
