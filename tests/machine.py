"""How much processor time this machine withheld from the tests: a witness beside them measures it.

An idle process is woken in time even on an overloaded machine; one that works, as the bridge does, is not. Several
programs carry the audio of a test: Asterisk, phones, and bridges in processes of their own, all of them descendants of
the process of the tests, or in containers. So the witness measures in each window, and keeps the worst of:

- how late it wakes up itself;
- how long any thread of these programs was ready to run and had to wait for a processor (``schedstat``);
- how long a hypervisor gave any processor of this machine to others, which a thread that runs on it does not notice.

``python tests/machine.py PID SHORT`` is the witness: it prints a line for each shortage until its standard input ends.
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
"""Part of a window above which it counts: 50 ms in half a second tear two frames of audio."""
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
STEAL = 8
"""Column of ``/proc/stat``."""

_MOST_BYTES = 1 << 24


@dataclass(frozen=True)
class Shortage:
    """A window in which a program that was ready to run had to wait.

    Args:
        at: when the window ended, by ``time.monotonic()``.
        seconds: for how long the program waited in it.
        who: ``witness``, ``hypervisor``, ``tests`` for the process of the tests, or the name of a thread.
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
    """The machine as the witness sees it; to be closed.

    Args:
        root: process whose descendants carry the audio; None: this one.
        short: part of a window above which it counts.
    """

    def __init__(self, root: int | None = None, short: float = SHORT) -> None:
        self._written = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        line = [sys.executable, "-P", "-S", str(Path(__file__)), str(root or os.getpid()), str(short)]
        self._witness = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=self._written)

    def shortages(self, since: float) -> list[Shortage]:
        """Return the shortages after a time (``time.monotonic()``), oldest first."""
        written = os.pread(self._written.fileno(), _MOST_BYTES, 0).decode()
        lines = [line.split(" ", 2) for line in written.splitlines()]
        found = [Shortage(float(at), float(seconds), who) for at, seconds, who in lines]
        return [shortage for shortage in found if shortage.at >= since]

    def close(self) -> None:
        """End the witness."""
        self._witness.communicate()
        self._written.close()


class Programs:
    """The threads of a process and of all its descendants, without the witness."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._parents: dict[int, int] = {}
        """Of all processes of the machine, as they were seen first: one whose parent ends gets another."""
        self._waited: dict[tuple[int, str], int] = {}
        """Nanoseconds that each thread has waited since it began."""

    def longest_wait(self) -> tuple[float, str]:
        """Return for how long a thread waited at most since the previous call, in seconds, and its name."""
        before, self._waited = self._waited, {}
        longest, where = 0, (self._pid, "")
        for pid in self._processes():
            with contextlib.suppress(OSError):  # it has ended
                for thread in os.listdir(f"/proc/{pid}/task"):
                    waited = int(_read(f"/proc/{pid}/task/{thread}/schedstat").split()[1])
                    self._waited[pid, thread] = waited
                    if waited - before.get((pid, thread), 0) > longest:
                        longest, where = waited - before.get((pid, thread), 0), (pid, thread)
        return longest / 1e9, self._name(*where)

    def _processes(self) -> list[int]:
        there = {int(name) for name in os.listdir("/proc") if name.isdigit()}
        self._parents = {pid: parent for pid, parent in self._parents.items() if pid in there}
        for pid in there - self._parents.keys():
            with contextlib.suppress(OSError):
                self._parents[pid] = int(_read(f"/proc/{pid}/stat").rpartition(")")[2].split()[1])
        ours = {self._pid: True, os.getpid(): False}
        for pid in self._parents:
            line, ancestor = [], pid
            while ancestor not in ours and ancestor in self._parents:
                line.append(ancestor)
                ancestor = self._parents[ancestor]
            ours.update(dict.fromkeys(line, ours.get(ancestor, False)))
        return [pid for pid, own in ours.items() if own]

    def _name(self, pid: int, thread: str) -> str:
        if pid == os.getppid():
            return "tests"
        with contextlib.suppress(OSError):
            return _read(f"/proc/{pid}/task/{thread}/comm").strip()
        return "a program that has ended"


def stolen(statistics: str) -> list[float]:
    """Return how many seconds a hypervisor has taken from each processor, by the text of ``/proc/stat``."""
    lines = [line.split() for line in statistics.splitlines()]
    return [int(line[STEAL]) * TICK_S for line in lines if line[0].startswith("cpu") and line[0] != "cpu"]


def watch(pid: int, stdin: TextIO, out: TextIO, short: float = SHORT) -> None:
    """Be the witness until standard input ends."""
    programs = Programs(pid)
    programs.longest_wait()
    now = time.monotonic()
    due, window, late, taken = now + INTERVAL_S, now, 0.0, stolen(_read("/proc/stat"))
    while not select.select([stdin], [], [], max(0.0, due - time.monotonic()))[0]:
        now = time.monotonic()
        late += now - due
        due = now + INTERVAL_S
        if now < window + WINDOW_S:
            continue
        taken, before = stolen(_read("/proc/stat")), taken
        away = max(after - earlier for after, earlier in zip(taken, before, strict=False))
        seconds, who = max((late, "witness"), (away, "hypervisor"), programs.longest_wait())
        if seconds >= short * (now - window):
            print(f"{now:.3f} {seconds:.3f} {who}", file=out, flush=True)
        window, late = now, 0.0


def _read(path: str) -> str:
    file = os.open(path, os.O_RDONLY)
    try:
        return os.read(file, 1 << 16).decode(errors="replace")
    finally:
        os.close(file)


if __name__ == "__main__":
    watch(int(sys.argv[1]), sys.stdin, sys.stdout, float(sys.argv[2]))
