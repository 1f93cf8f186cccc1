"""What is measured every few seconds: of the process, of its API, of Asterisk, and of the machine."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.testing.bridge_program import BridgeProgram
from tests.load.soak.ears import Ear
from tests.load.soak.long_calls import LongCalls
from tests.machine import Machine, stolen

COUNTERS = ("ticks_skipped", "frames_blocked", "messages_dropped", "legs_refused", "protocol_errors", "starts_refused")
"""Of ``/metrics``, without ``_total``: each must stay as it is, unless the machine withheld its processors."""
LATE = re.compile(r'^asterisk_bridge_loop_lag_seconds_bucket\{le="([^"]+)"\} (\d+)', re.MULTILINE)


@dataclass(frozen=True)
class Sample:
    """One measurement.

    Args:
        at: by ``time.monotonic()``.
        resident_mb: memory of asterisk-bridge in RAM.
        private_mb: of these, what is not mapped from files.
        blocks: objects and buffers that Python has allocated.
        descriptors: open files and sockets.
        tasks, timers, threads: of asterisk-bridge.
        calls, streams: by its metrics.
        channels, bridges: of Asterisk, by ARI.
        counted: increase of each of `COUNTERS` since the previous sample.
        late: how many of the event loop's timers were late since the previous sample, by limits in seconds.
        stolen_s: time since the previous sample that a hypervisor gave to others, summed over the processors.
        short_s: time that a program which was ready to run had to wait, in windows that count as shortages.
        load: load average over a minute.
        behind_ms: audio that is missing since the beginning of the judgment, by the clock, for each ear.
    """

    at: float
    resident_mb: float
    private_mb: float
    blocks: int
    descriptors: int
    tasks: int
    timers: int
    threads: int
    calls: int
    streams: int
    channels: int
    bridges: int
    counted: dict[str, int]
    late: dict[str, int]
    stolen_s: float
    short_s: float
    load: float
    behind_ms: dict[str, float]


class Sampler:
    """Measures one asterisk-bridge.

    Args:
        program: it, with a probe.
        pid: its process.
        probe: path of the probe's socket.
        calls: the calls that are judged; their ears, and ARI.
        machine: the witness.
        clock: the time in seconds.
    """

    def __init__(
        self,
        program: BridgeProgram,
        pid: int,
        probe: Path,
        *,
        calls: LongCalls,
        machine: Machine,
        clock: Callable[[], float],
    ) -> None:
        self.names: list[str] = []
        """Names of the tasks in the last sample."""
        self._program = program
        self._pid = pid
        self._probe = probe
        self._calls = calls
        self._machine = machine
        self._clock = clock
        self._totals: dict[str, int] = {}
        self._late: dict[str, int] = {}
        self._stolen = _stolen_s()
        self._at = clock()

    async def sample(self) -> Sample:
        """Measure now."""
        now = self._clock()
        inside = await self._inside()
        _, text = await self._program.request("GET", "/metrics")
        totals = {name: int(_metric(text, f"{name}_total")) for name in COUNTERS}
        late = {limit: int(count) for limit, count in LATE.findall(text)}
        taken, status = _stolen_s(), _status(self._pid)
        short_s = sum(each.seconds for each in self._machine.shortages(self._at))
        found = Sample(
            at=now,
            resident_mb=_kb(status, "VmRSS") / 1024,
            private_mb=_kb(status, "RssAnon") / 1024,
            blocks=inside["blocks"],
            descriptors=len(os.listdir(f"/proc/{self._pid}/fd")),
            tasks=inside["tasks"],
            timers=inside["timers"],
            threads=_kb(status, "Threads"),
            calls=int(_metric(text, "calls")),
            streams=int(_metric(text, "streams")),
            channels=len(await self._calls.ari("GET", "/channels")),
            bridges=len(await self._calls.ari("GET", "/bridges")),
            counted={name: total - self._totals.get(name, total) for name, total in totals.items()},
            late=_later(late, self._late),
            stolen_s=taken - self._stolen,
            short_s=short_s,
            load=os.getloadavg()[0],
            behind_ms={ear.name: _behind_ms(ear) for ear in self._calls.ears if ear.judging},
        )
        self._totals, self._late, self._stolen, self._at = totals, late, taken, now
        return found

    async def _inside(self) -> dict[str, Any]:
        reader, writer = await asyncio.open_unix_connection(str(self._probe), limit=1 << 20)
        found: dict[str, Any] = json.loads(await reader.readline())
        writer.close()
        self.names = found["names"]
        return found


def _stolen_s() -> float:
    return sum(stolen(Path("/proc/stat").read_text()))


def _status(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()


def _behind_ms(ear: Ear) -> float:
    return round(ear.behind_s * 1000, 1)


def _kb(status: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
    return int(found[1]) if found else 0


def _metric(text: str, name: str) -> float:
    found = re.search(rf"^asterisk_bridge_{name} (\S+)", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def _later(now: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    """Return how many measurements since the previous sample were above each limit."""
    if not before:
        return {}
    every = now["+Inf"] - before["+Inf"]
    return {limit: every - (count - before[limit]) for limit, count in now.items() if limit != "+Inf"}
