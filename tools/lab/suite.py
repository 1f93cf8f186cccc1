"""``./lab test``: the parts of the test suite, side by side where they do not disturb each other."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

LABS = 3
"""Calls mostly wait, so several labs share two processors, each with an Asterisk, ports and phones of its own. What
starts in one of them (an Asterisk, a bridge of several processes) takes a processor for seconds, so more would tear
each other's audio."""
SIDE_BY_SIDE = ("-n", str(LABS), "--dist", "loadfile")
PYTEST = ("-m", "pytest")
COVERING = ("-m", "coverage", "run", *PYTEST) if os.environ.get("MEASURE") == "yes" else PYTEST
"""MEASURE=yes: with branch coverage, which `tools/coverage report` shows."""
SUMMARY = re.compile(r"^=+ (.*\bin [\d.]+s.*?) =+$", re.MULTILINE)
MOST_SHOWN = 5
"""Arguments of a part that are shown."""
ALONE = ("tests/loopback/test_bench.py", "tests/loopback/test_overload.py")
"""These measure what a machine carries: alone, too."""


@dataclass(frozen=True)
class Part:
    """One run of pytest.

    Args:
        name: in messages, and of its log file.
        arguments: pytest's.
        nice: priority; a part that computes yields to the parts that carry calls.
        program: what Python runs with the arguments.
    """

    name: str
    arguments: tuple[str, ...]
    nice: int = 0
    program: tuple[str, ...] = PYTEST


@dataclass(frozen=True)
class Outcome:
    """The result of a part.

    Args:
        code: pytest's exit code.
        summary: pytest's last line without its frame; empty if it was interrupted.
    """

    part: Part
    code: int
    seconds: float
    summary: str


ROOT = Path(__file__).parents[2]


def _loopback() -> tuple[str, ...]:
    """Return the files of tests/loopback that run beside others."""
    found = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests/loopback").glob("test_*.py"))
    return tuple(path for path in found if path not in ALONE)


WHOLE = (
    # One processor for what computes, one for what measures by the clock and mostly waits: in two halves.
    (
        Part("unit", ("tests/unit",), 10, COVERING),
        Part("loopback-1", _loopback()[::2], 0, COVERING),
        Part("loopback-2", _loopback()[1::2], 0, COVERING),
    ),
    (Part("lab", ("tests/lab", *SIDE_BY_SIDE)),),
    # These measure how late audio is: alone.
    (Part("attack", ("tests/attack",)),),
    (Part("bench", ALONE),),
    (Part("soak", ("tests/load/test_soak.py",)),),
)
"""Groups of parts; the parts of a group run at the same time, the groups one after another."""

CORE_OF_LOOPBACK = tuple(
    f"tests/loopback/test_{name}.py" for name in ("ari_client", "dial", "links", "listener", "pump")
)
QUICK = (
    (
        Part("lab", ("tests/lab", "-m", "quick", "-n", "2", "--dist", "loadfile")),
        Part("unit", ("tests/unit", *CORE_OF_LOOPBACK, "-m", "not slow", "-n", "2", "--dist", "loadfile"), nice=10),
    ),
)
"""What answers within two minutes."""


def run(groups: tuple[tuple[Part, ...], ...], arguments: list[str], logs: Path | None) -> int:
    """Run groups of parts; print what each printed when it ends, and all times at the end.

    Args:
        groups: the parts; those of a group run at the same time.
        arguments: further ones for each part.
        logs: folder for the output and for the labs' logs; None: a temporary one.

    Returns:
        Exit code: that of the first part that failed, or 0.
    """
    folder = logs or Path(tempfile.mkdtemp(prefix="lab-test-"))
    outcomes: list[Outcome] = []
    for group in groups:
        outcomes += _together(group, arguments, folder)
    print("\nTimes:")
    for outcome in outcomes:
        print(f"  {outcome.part.name:12}{outcome.seconds:6.0f} s   {outcome.summary or f'exit code {outcome.code}'}")
    failed = [outcome for outcome in outcomes if outcome.code]
    if failed:
        print(f"logs are in {folder}")
    # The last line is a summary as pytest prints it: of what failed, if anything did.
    print(f"=== {(failed or outcomes)[-1].summary or 'no summary'} ===", flush=True)
    return failed[0].code if failed else 0


def _together(group: tuple[Part, ...], arguments: list[str], folder: Path) -> list[Outcome]:
    began = time.monotonic()
    running: dict[Part, subprocess.Popen[bytes]] = {}
    for part in group:
        log = folder / f"{part.name}.log"
        line = [*("nice", "-n", str(part.nice)), sys.executable, *part.program, *part.arguments]
        line += ["--lab-folder", str(folder / f"{part.name}-lab"), "-o", f"cache_dir={folder / part.name}.cache"]
        shown = " ".join(part.arguments[:MOST_SHOWN]) + (" ..." if len(part.arguments) > MOST_SHOWN else "")
        print(f"{part.name}: pytest {shown} (output: {log})", flush=True)
        with log.open("wb") as out:
            running[part] = subprocess.Popen([*line, *arguments], stdout=out, stderr=subprocess.STDOUT)
    outcomes = []
    try:
        while running:
            for part, process in tuple(running.items()):
                if (code := process.poll()) is not None:
                    del running[part]
                    output = (folder / f"{part.name}.log").read_text(errors="replace")
                    print(f"\n--- {part.name}\n{output}", flush=True)
                    found = SUMMARY.findall(output)
                    outcomes.append(Outcome(part, code, time.monotonic() - began, found[-1] if found else ""))
            time.sleep(0.2)
    finally:
        for process in running.values():  # interrupted: pytest ends what its fixtures have started
            process.send_signal(signal.SIGINT)
        for process in running.values():
            process.wait()
    return outcomes
