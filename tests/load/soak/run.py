"""One soak: a lab, asterisk-bridge with a probe, long calls, short calls, samples, and what is left at the end."""

from __future__ import annotations

import asyncio
import os
import random
import re
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from bridge.testing.bridge_program import BridgeProgram
from bridge.testing.embedded import EmbeddedLab
from bridge.testing.lab_engine import TRUNK
from tests.load.soak import watched
from tests.load.soak.churn import MOST_S, Churn, sections
from tests.load.soak.ears import FRAME_S
from tests.load.soak.far_end import FarEnd
from tests.load.soak.long_calls import LongCalls, SoakFailed
from tests.load.soak.samples import Sample, Sampler
from tests.load.soak.verdict import Record
from tests.machine import WINDOW_S, Machine

GONE_S = 60.0
"""How long what has ended may take to be gone: idle connections are kept for several seconds."""
SEED = 14
ONE_FRAME = FRAME_S / WINDOW_S
"""A program that waits for 20 ms in a window is late by a frame: Asterisk's snoop then sends one of silence."""
FAILURE = re.compile(r"^.*(?: (?:ERROR|CRITICAL) |Traceback).*$", re.MULTILINE)


@dataclass(frozen=True)
class Options:
    """How a soak runs.

    Args:
        minutes: how long, once all long calls are up.
        calls: how many at a time; half of them are long.
        every_s: between samples.
        folder: for logs and configurations.
        faults: that asterisk-bridge is given (`tests.load.soak.watched`).
    """

    minutes: float
    calls: int
    every_s: float
    folder: Path
    faults: str = ""


async def soak(options: Options, say: Callable[[str], None]) -> Record:
    """Run a soak.

    Args:
        options: how.
        say: called with a message about each step.

    Raises:
        SoakFailed: it could not run; nothing is judged.
    """
    async with AsyncExitStack() as stack:
        lab = EmbeddedLab(options.folder, progress=say)
        stack.push_async_callback(lab.stop)
        await lab.start()
        _schedule_as_this(lab)
        probe = options.folder / "probe"
        os.environ[watched.PROBE], os.environ[watched.FAULTS] = str(probe), options.faults
        folder = options.folder / "bridge"
        folder.mkdir()
        calls, chance = LongCalls(lab), random.Random(SEED)
        await calls.open(lab.settings.host)
        stack.push_async_callback(calls.close)
        program = BridgeProgram(lab, folder, sections(calls.url), command=f"{sys.executable} {watched.__file__}")
        stack.push_async_callback(program.stop)
        await program.start()
        calls.program = program
        far_end = FarEnd(calls.of, MOST_S, chance)
        await far_end.open(lab.settings.host, lab.phone_port(TRUNK))
        stack.push_async_callback(far_end.close)
        machine = Machine(short=ONE_FRAME)
        stack.callback(machine.close)
        sampler = Sampler(program, _pid(folder), probe, calls=calls, machine=machine, clock=time.monotonic)
        await asyncio.sleep(5)  # what the start leaves to be loaded
        idle, tasks = await sampler.sample(), sampler.names
        long_calls = max(1, options.calls // 2)
        say(f"{long_calls} long calls")
        await calls.start(long_calls)
        say("short calls")
        short = options.folder / "sipp"
        short.mkdir()
        churn = Churn(lab, program, short, calls.url, places=options.calls - long_calls, chance=chance)
        began = time.monotonic()
        async with churn.running():
            samples = await _samples(sampler, options, say)
            calls.stop_judging()
        shortages = machine.shortages(began)
        say("the end of all calls")
        await calls.end()
        left = await _left(sampler, idle, tasks, far_end)
        problems = [*churn.problems, *FAILURE.findall(program.log.read_text(errors="replace"))]
        short_calls = far_end.answered + calls.connections
        return Record(samples, calls.faults, shortages, left, problems, long_calls, short_calls)


async def _samples(sampler: Sampler, options: Options, say: Callable[[str], None]) -> list[Sample]:
    samples: list[Sample] = []
    began = time.monotonic()
    while True:
        samples.append(sample := await sampler.sample())
        passed_s = time.monotonic() - began
        if len(samples) % max(1, round(30 / options.every_s)) == 0:
            say(
                f"{passed_s / 60:5.1f} min: {sample.resident_mb:.1f} MB, {sample.calls} calls, {sample.streams} "
                f"streams, {sample.tasks} tasks, {sample.descriptors} descriptors, load {sample.load:.1f}"
            )
        if passed_s >= options.minutes * 60:
            return samples
        await asyncio.sleep(max(0.0, began + len(samples) * options.every_s - time.monotonic()))


async def _left(sampler: Sampler, idle: Sample, tasks: list[str], far_end: FarEnd) -> list[str]:
    """Wait until everything is as before the first call; return what is not in the end."""
    deadline = time.monotonic() + GONE_S
    while True:
        now = await sampler.sample()
        left = [
            f"{count} {name}"
            for name, count in (
                ("calls", now.calls),
                ("streams", now.streams),
                ("channels", now.channels),
                ("mixing bridges", now.bridges),
                ("calls of the far end", len(far_end)),
                ("descriptors more than before", max(0, now.descriptors - idle.descriptors)),
                ("threads more than before", max(0, now.threads - idle.threads)),
            )
            if count
        ]
        more = list(sampler.names)
        for name in tasks:
            if name in more:
                more.remove(name)
        left += [f"task {name}" for name in more]
        if not left or time.monotonic() > deadline:
            return left
        await asyncio.sleep(1)


def _schedule_as_this(lab: EmbeddedLab) -> None:
    """Let Asterisk's threads have the scheduling of this process, if that is real-time: it resets what it inherits."""
    policy = os.sched_getscheduler(0)
    if policy in (os.SCHED_FIFO, os.SCHED_RR):
        for thread in os.listdir(f"/proc/{lab._asterisk.pid}/task"):
            os.sched_setscheduler(int(thread), policy, os.sched_getparam(0))


def _pid(folder: Path) -> int:
    try:
        return int((folder / "bridge.pid").read_text().split()[0])
    except (OSError, ValueError) as error:
        raise SoakFailed(f"the process of asterisk-bridge is unknown: {error}") from None
