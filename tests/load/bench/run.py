"""One run: a bridge, a number of calls, a duration."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bridge.errors import BridgeError
from tests.load.bench.build import Programs
from tests.load.bench.variants import BridgeFailed, Ports, Variant, free_ports, running

FIFO_PRIORITY = 10
GRACE_S = 120.0
"""What a run may take beyond warm-up and window: connecting the calls, above all."""


@dataclass(frozen=True)
class Case:
    """What is measured.

    Args:
        dialect: as the generator names them.
        way: ``capture`` (the application only listens), ``playout`` (it only speaks) or ``both`` (it echoes).
        pattern: ``aligned`` (all frames at the same instant) or ``spread`` (evenly over 20 ms).
        calls: how many simultaneously.
    """

    dialect: str
    way: str
    pattern: str
    calls: int

    def __str__(self) -> str:
        return f"{self.dialect}, {self.way}, {self.pattern}, {self.calls} calls"


@dataclass(frozen=True)
class Settings:
    """How it is measured.

    Args:
        warmup_s: time that does not count, after the last call is connected.
        seconds: length of the window that counts.
        bridge_core: the core that the bridge has to itself.
        generator_core: the generator's.
        fifo: run both above everything else on the machine (needs root).
    """

    warmup_s: float
    seconds: float
    bridge_core: int
    generator_core: int
    fifo: bool = False


class RunFailed(BridgeError):
    """A run gave no result; the message gives the reason."""


def run(case: Case, variant: Variant, programs: Programs, settings: Settings) -> dict[str, Any]:
    """Do a run, and return the generator's report, with the bridge's variant and the duration of its start.

    Raises:
        RunFailed: the bridge did not come up, or could not connect all calls.
    """
    with tempfile.TemporaryDirectory() as folder, free_ports() as ports:
        # Several processes share both cores with the generator, and take turns with it: no FIFO.
        alone = variant.workers == 1
        bridge_cores = {settings.bridge_core} if alone else {settings.bridge_core, settings.generator_core}
        fifo = settings.fifo and alone
        try:
            with running(variant, ports, case.dialect, Path(folder), _prepared(bridge_cores, fifo)) as (pids, start_ms):
                generator_cores = {settings.generator_core} if alone else bridge_cores
                report = _generate(case, variant, programs, settings, ports, pids, _prepared(generator_cores, fifo))
        except BridgeFailed as problem:
            raise RunFailed(str(problem)) from None
    return {"variant": variant.name, "case": asdict(case), "start_ms": round(start_ms), **report}


def _generate(
    case: Case,
    variant: Variant,
    programs: Programs,
    settings: Settings,
    ports: Ports,
    pids: Sequence[int],
    prepare: Callable[[], None],
) -> dict[str, Any]:
    command = [
        *(str(programs.generator), "--calls", str(case.calls), "--bridge", str(ports.audiosocket)),
        *("--application", str(ports.application), "--dialect", case.dialect),
        *("--way", case.way, "--pattern", case.pattern, "--warmup", str(settings.warmup_s)),
        *("--seconds", str(settings.seconds), "--pid", ",".join(map(str, pids))),
        *("--workers", str(variant.workers), "--tracks", str(variant.tracks)),
    ]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=settings.warmup_s + settings.seconds + GRACE_S,
            preexec_fn=prepare,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RunFailed("the generator did not come to an end") from None
    if done.returncode:
        raise RunFailed(done.stderr.strip() or f"the generator ended with {done.returncode}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _prepared(cores: set[int], fifo: bool) -> Callable[[], None]:
    def prepare() -> None:
        os.sched_setaffinity(0, cores)
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        if fifo:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(FIFO_PRIORITY))

    return prepare


def faults(report: dict[str, Any]) -> dict[str, int]:
    """Return what went wrong with the audio in a run: a count by kind, only those that happened."""
    found: dict[str, int] = {}
    for way in ("capture", "playout"):
        for kind in ("lost", "duplicated", "reordered", "corrupt", "foreign", "late", "blocked"):
            if report[way][kind]:
                found[f"{way} {kind}"] = report[way][kind]
    for kind in ("bad_messages", "ended_early"):
        if report[kind]:
            found[kind.replace("_", " ")] = report[kind]
    return found
