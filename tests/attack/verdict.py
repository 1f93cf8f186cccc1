"""What an attack did to a call: pure arithmetic on what observer, application, witness and prober have recorded.

How it is meant, and why, is in the README of this folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tests.attack.clock import FRAME_S
from tests.attack.observer import DAMAGED, Recording
from tests.attack.witness import Statement

MAX_GAP_S = 0.1
MAX_AUDIO_GAP_S = MAX_GAP_S + 0.1
"""The playout gathers up to the largest `media.playout_lead_ms` of audio again after it has run dry."""
MAX_MISSING = 0.1
"""Part of the audio that may be missing: a bridge that stands still for 99 ms again and again fails as well."""
MAX_GROWTH_BYTES = 50 << 20
MAX_HEALTH_S = 1.0
TOO_LATE = 0.5
"""Part of the time for which the machine may be too late to judge anything before a case is measured again."""
CALM = 0.1
"""Up to this part a fault is the bridge's; beyond it the case is measured again before it counts."""
STARVED = 0.8

Interval = tuple[float, float]


@dataclass(frozen=True)
class Probe:
    """One ``GET /health``: when it began, how long it took, and the status code (0: no answer)."""

    began: float
    seconds: float
    status: int


@dataclass
class Evidence:
    """Everything that was recorded from the beginning of an attack to its end.

    Args:
        began, ended: seconds by ``time.monotonic()``.
        probes: the health checks.
        application_late: when the echo application did not run in time.
        memory_after: resident memory of the bridge, in bytes, after it had time to return it.
        max_kept_bytes: how much more of it than before is fine.
        lag_s: upper bound of the longest stall of the loop by the bridge's own histogram; None: there is none.
        did: how many things the attack did.
        faults: what went wrong beside the measurements, in words.
    """

    began: float
    ended: float
    call: Recording
    witness: Statement
    application_late: Sequence[Interval] = ()
    probes: Sequence[Probe] = ()
    memory_before: int = 0
    memory_after: int = 0
    max_kept_bytes: int = 20 << 20
    lag_s: float | None = None
    did: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Verdict:
    """What the evidence amounts to; times in milliseconds, memory in MB (2**20 bytes)."""

    gap_ms: float
    """The longest time between two frames that is the bridge's own."""
    audio_gap_ms: float
    """The same for frames that hold the call's audio."""
    raw_gap_ms: float
    """The longest time between two frames, the machine's part included."""
    growth_mb: float
    kept_mb: float
    health_ms: float
    cpu: float
    """Part of one processor that the bridge's main thread used."""
    late: float
    """Part of the time in which the machine kept the bridge, or what watches it, from running."""
    did: int
    """How many things the attack did."""
    lag_s: float | None
    """Upper bound of the longest stall of the loop by the bridge's own histogram, in seconds."""
    faults: tuple[str, ...]

    @property
    def conclusive(self) -> bool:
        """Whether the machine was quiet enough for this to count; a good call that needs no excuse always counts."""
        if self.faults:
            return self.late <= CALM
        return self.late <= TOO_LATE or self.raw_gap_ms < MAX_GAP_S * 1000

    def __str__(self) -> str:
        lag = "" if self.lag_s is None else f", loop lag <= {self.lag_s:g} s"
        return (
            f"{self.did} attacks, gap {self.gap_ms:.0f} ms ({self.raw_gap_ms:.0f} ms with the machine's part), "
            f"audio gap {self.audio_gap_ms:.0f} ms, memory +{self.growth_mb:.0f} MB, then +{self.kept_mb:.0f} MB, "
            f"health {self.health_ms:.0f} ms, CPU {self.cpu:.0%}, machine late {self.late:.0%}{lag}"
            + "".join(f"\n  {fault}" for fault in self.faults)
        )


def judge(evidence: Evidence) -> Verdict:
    """Return the verdict on an attack."""
    call, witness = evidence.call, evidence.witness
    began, ended = evidence.began, evidence.ended
    faults = list(evidence.faults)
    late = merged([*call["late"], *witness["late"]])
    late_there = merged([*late, *evidence.application_late])
    process = witness["process"]

    arrivals = [at for at, _ in call["received"]]
    gap, raw_gap = _worst_gap([began, *arrivals, ended], process, late)
    heard = [(at, number) for at, number in call["received"] if number > 0]
    audio_gap, _ = _worst_gap([began, *(at for at, _ in heard), ended], process, late_there)
    if gap >= MAX_GAP_S:
        faults.append(f"no frame for {gap:.3f} s: expected less than {MAX_GAP_S} s")
    elif audio_gap >= MAX_AUDIO_GAP_S:
        faults.append(f"no audio for {audio_gap:.3f} s: expected less than {MAX_AUDIO_GAP_S:.2f} s")
    if damaged := sum(number == DAMAGED for _, number in call["received"]):
        faults.append(f"{damaged} frames hold what was never sent")
    if any(after <= before for (_, before), (_, after) in pairwise(heard)):
        faults.append("frames came twice or out of order")
    long = [edge for edge in pairwise([began, *arrivals, ended]) if edge[1] - edge[0] > 2 * FRAME_S]
    lost = max(overlap(_lost(process, late_there), began, ended), sum(_excuse(process, late, *edge) for edge in long))
    missing = (len(call["sent"]) - len(heard)) * FRAME_S - lost
    if missing > max(MAX_AUDIO_GAP_S, MAX_MISSING * (ended - began)):
        faults.append(f"{missing:.2f} s of the audio are missing")
    if call["ended"]:
        faults.append("the call was ended")

    peak = max((size for _, size in witness["memory"]), default=evidence.memory_before)
    growth, kept = peak - evidence.memory_before, evidence.memory_after - evidence.memory_before
    if growth >= MAX_GROWTH_BYTES:
        faults.append(f"memory grew by {_mb(growth):.0f} MB: expected less than {_mb(MAX_GROWTH_BYTES):.0f} MB")
    if kept >= evidence.max_kept_bytes:
        faults.append(f"{_mb(kept):.0f} MB were kept: expected less than {_mb(evidence.max_kept_bytes):.0f} MB")

    health = 0.0
    for probe in evidence.probes:
        until = probe.began + probe.seconds
        own = probe.seconds - _excuse(process, late, probe.began, until)
        health = max(health, own)
        if probe.status != 200:
            faults.append(f"/health: status {probe.status or 'none'} after {probe.seconds:.2f} s")
        elif own >= MAX_HEALTH_S:
            faults.append(f"/health took {own:.2f} s: expected less than {MAX_HEALTH_S} s")

    length = max(ended - began, FRAME_S)
    return Verdict(
        gap_ms=gap * 1000,
        audio_gap_ms=audio_gap * 1000,
        raw_gap_ms=raw_gap * 1000,
        growth_mb=_mb(growth),
        kept_mb=_mb(kept),
        health_ms=health * 1000,
        cpu=_increase(process, 1, began, ended) / length,
        late=overlap(_lost(process, late), began, ended) / length,
        did=evidence.did,
        lag_s=evidence.lag_s,
        faults=tuple(dict.fromkeys(faults)),
    )


def merged(intervals: Iterable[Interval]) -> list[Interval]:
    """Return intervals in order, those that overlap joined."""
    joined: list[Interval] = []
    for begin, end in sorted(tuple(each) for each in intervals):
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return joined


def overlap(intervals: Iterable[Interval], begin: float, end: float) -> float:
    """Return how many seconds of ``begin`` to ``end`` are in merged intervals."""
    return sum(max(0.0, min(end, last) - max(begin, first)) for first, last in intervals)


def withheld_s(process: Sequence[tuple[float, float, float]], begin: float, end: float) -> float:
    """Return for how many seconds of an interval the bridge was ready to run and got no processor."""
    return min(end - begin, _increase(process, 2, begin, end))


def _increase(process: Sequence[tuple[float, float, float]], column: int, begin: float, end: float) -> float:
    """Return the increase of a counter between the last sample before an interval and the first one after it."""
    before = [sample for sample in process if sample[0] <= begin] or process[:1]
    after = [sample for sample in process if sample[0] >= end] or process[-1:]
    return max(0.0, after[0][column] - before[-1][column]) if before and after else 0.0


def _excuse(process: Sequence[tuple[float, float, float]], late: Sequence[Interval], begin: float, end: float) -> float:
    """Return the part of an interval that the machine is to blame for: not the sum, as both may be the same time."""
    return min(end - begin, max(withheld_s(process, begin, end), overlap(late, begin, end)))


def _lost(process: Sequence[tuple[float, float, float]], late: Sequence[Interval]) -> list[Interval]:
    """Return when the machine was too late to judge anything.

    Either the watchers ran late, or the bridge was kept from running for a whole interval between two samples. Short
    waits, however many, delay nothing.
    """
    starved = [
        (before[0], after[0])
        for before, after in pairwise(process)
        if after[2] - before[2] > STARVED * (after[0] - before[0])
    ]
    return merged([*late, *starved])


def _worst_gap(
    times: Sequence[float], process: Sequence[tuple[float, float, float]], late: Sequence[Interval]
) -> tuple[float, float]:
    """Return the longest own gap, and the longest one of all."""
    gaps = sorted(((after - before, before, after) for before, after in pairwise(times)), reverse=True)
    worst = 0.0
    for length, before, after in gaps:
        if length <= worst:
            break
        worst = max(worst, length - _excuse(process, late, before, after))
    return worst, gaps[0][0]


def _mb(size: float) -> float:
    return size / (1 << 20)
