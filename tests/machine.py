"""How much processor time this machine withheld from the tests: a witness beside them measures it.

An idle process is woken in time even on an overloaded machine; one that works, as the bridge does, is not. So the
witness measures both: how late it wakes up itself, and how long the process of the tests, which carries bridge and
applications, was ready to run and had to wait for a processor.

``python tests/machine.py PID`` is the witness: it prints a line for each shortage until its standard input ends.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

INTERVAL_S = 0.02
WINDOW_S = 0.5
SHORT = 0.1
"""Part of a window from which on it counts: 50 ms in half a second tear two frames of audio."""

_MOST_BYTES = 1 << 24


@dataclass(frozen=True)
class Shortage:
    """A window in which a program that was ready to run had to wait.

    Args:
        at: when the window ended, by ``time.monotonic()``.
        seconds: for how long the program waited in it.
        who: ``witness``, or ``tests`` for the process of the tests.
    """

    at: float
    seconds: float
    who: str


def in_words(shortages: list[Shortage]) -> str:
    """Return the evidence in one line."""
    most = max(shortages, key=lambda shortage: shortage.seconds)
    return (
        f"the machine was short of processors in {len(shortages)} windows of {WINDOW_S:g} s: it withheld "
        f"{sum(shortage.seconds for shortage in shortages):.2f} s in sum, {most.seconds * 1000:.0f} ms at most "
        f"({most.who}); load {os.getloadavg()[0]:.1f} on {os.cpu_count()}"
    )


class Machine:
    """The machine as the witness sees it; to be closed."""

    def __init__(self) -> None:
        self._written = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        line = [sys.executable, "-P", "-S", str(Path(__file__)), str(os.getpid())]
        self._witness = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=self._written)

    def shortages(self, since: float) -> list[Shortage]:
        """Return the shortages after a time (``time.monotonic()``), oldest first."""
        written = os.pread(self._written.fileno(), _MOST_BYTES, 0).decode()
        lines = [line.split() for line in written.splitlines()]
        found = [Shortage(float(at), float(seconds), who) for at, seconds, who in lines]
        return [shortage for shortage in found if shortage.at >= since]

    def close(self) -> None:
        """End the witness."""
        self._witness.communicate()
        self._written.close()


def waited(pid: int) -> float:
    """Return for how many seconds a process's main thread was ready to run and had to wait (``schedstat``)."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[1]) / 1e9


def watch(pid: int, stdin: TextIO, out: TextIO) -> None:
    """Be the witness until standard input ends or the process is gone."""
    with contextlib.suppress(OSError):
        now = time.monotonic()
        due, window, late, before = now + INTERVAL_S, now, 0.0, waited(pid)
        while not select.select([stdin], [], [], max(0.0, due - time.monotonic()))[0]:
            now = time.monotonic()
            late += now - due
            due = now + INTERVAL_S
            if now < window + WINDOW_S:
                continue
            total = waited(pid)
            for who, seconds in (("witness", late), ("tests", total - before)):
                if seconds >= SHORT * (now - window):
                    print(f"{now:.3f} {seconds:.3f} {who}", file=out, flush=True)
            window, late, before = now, 0.0, total


if __name__ == "__main__":
    watch(int(sys.argv[1]), sys.stdin, sys.stdout)
