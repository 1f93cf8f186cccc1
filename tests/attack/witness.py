"""The witness: what the bridge's process got from the machine, and how late an idle process wakes up.

``python -m tests.attack.witness PID [PID...]`` prints, for every line that it reads, a `Statement` (JSON) about the
time since the previous one. The first process is the one that carries the call.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import time
from pathlib import Path
from typing import TypedDict

from tests.attack.clock import LATE_S

INTERVAL_S = 0.01
MEMORY_EVERY = 5
"""Memory is read in every fifth round only: adding up a process's pages costs more."""


class Statement(TypedDict):
    """What the witness has seen; times in seconds by ``time.monotonic()``."""

    process: list[tuple[float, float, float]]
    """At a time: seconds that the bridge's main thread has run, and seconds that it was ready to run and had to wait
    for a processor, both since it started (``/proc/PID/task/PID/schedstat``)."""
    memory: list[tuple[float, int]]
    """Resident memory of all processes of the bridge, in bytes."""
    late: list[tuple[float, float]]
    """From when to when the witness itself should have run and did not."""


def scheduled(pid: int) -> tuple[float, float]:
    """Return the seconds that a process's main thread ran and waited."""
    ran, waited, _ = Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()
    return int(ran) / 1e9, int(waited) / 1e9


def resident(pids: list[int]) -> int:
    """Return the resident memory of processes, in bytes; one that has ended has none."""
    pages = 0
    for pid in pids:
        try:
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            continue
    return pages * os.sysconf("SC_PAGE_SIZE")


def nothing() -> Statement:
    """Return an empty statement."""
    return {"process": [], "memory": [], "late": []}


def main(pids: list[int]) -> None:
    """Watch until standard input ends."""
    seen = nothing()
    due = time.monotonic()
    turn = 0
    while True:
        ready, _, _ = select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))
        now = time.monotonic()
        if now >= due:
            if now - due > LATE_S:
                seen["late"].append((due, now))
            with contextlib.suppress(OSError):  # it has ended, which others notice
                seen["process"].append((now, *scheduled(pids[0])))
            if turn % MEMORY_EVERY == 0:
                seen["memory"].append((now, resident(pids)))
            turn += 1
            due = max(due + INTERVAL_S, now)
        if ready:
            if not sys.stdin.readline():
                return
            print(json.dumps(seen), flush=True)
            seen = nothing()


if __name__ == "__main__":
    sys.stdin = os.fdopen(0, "r", buffering=1)
    main([int(pid) for pid in sys.argv[1:]])
