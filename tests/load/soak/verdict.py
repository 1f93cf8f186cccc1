"""The verdict on a soak: a list of checks, each passed, failed or not judged. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from tests.load.soak.ears import Fault
from tests.load.soak.samples import Sample
from tests.machine import WINDOW_S, Shortage

PASSED, FAILED, NOT_JUDGED = "passed", "FAILED", "not judged"
EXCUSED_S = 2.0
"""How long after a shortage a fault may still be its consequence: an application sends a second ahead."""
SPARSE_S = 60.0
"""A single silent frame delays audio and loses none: Asterisk inserts it into its copy of a channel when its timer
precedes the audio. One in this time, at one ear, is not a fault; the sum of the delays is judged as drift."""
LEAST_QUIET = 0.1
"""Share of the time without shortages below which audio is not judged."""
LEAST_SAMPLES = 18
"""Fewer samples, three in a window of comparison, are too few to judge growth."""
MORE = 12
"""By how many descriptors or tasks the middle may differ while calls come and go: what stays is counted at the end."""
MORE_SHARE = 0.1
DRIFT_MS = 60.0
"""What a clock may differ: three frames, which wait somewhere or do not."""
LATE = "0.1"
"""Lateness in seconds of the event loop that only the machine may cause: five frames of each call."""


@dataclass(frozen=True)
class Limits:
    """What is tolerated.

    Args:
        memory: growth after the first third, as a share.
    """

    memory: float = 0.01


@dataclass(frozen=True)
class Record:
    """All that a soak has found.

    Args:
        samples: oldest first, from the moment at which all long calls were judged to that at which they were ended.
        faults: of the audio.
        shortages: windows in which the machine withheld its processors.
        left: what should have been gone at the end.
        problems: requests with unexpected results, and errors in the log.
        long_calls: how many were judged.
        short_calls: how many came and went.
    """

    samples: Sequence[Sample]
    faults: Sequence[Fault]
    shortages: Sequence[Shortage]
    left: Sequence[str]
    problems: Sequence[str]
    long_calls: int
    short_calls: int


@dataclass(frozen=True)
class Check:
    """One line of the verdict."""

    name: str
    outcome: str
    text: str


def verdict(record: Record, limits: Limits) -> list[Check]:
    """Return every check."""
    return [
        _memory(record, limits),
        _steady(record, "descriptors", lambda sample: sample.descriptors),
        _steady(record, "tasks", lambda sample: sample.tasks),
        _audio(record),
        _drift(record),
        _ticks(record),
        _list("nothing left", record.left, "nothing is left at the end"),
        _list("no problems", record.problems, "no unexpected response, no error in the log"),
    ]


def growth(values: Sequence[float]) -> tuple[float, float]:
    """Return the medians of the first quarter and of the last quarter of what follows the first third."""
    rest = values[len(values) // 3 :]
    size = max(1, len(rest) // 4)
    return median(rest[:size]), median(rest[-size:])


def excused(at: float, shortages: Iterable[Shortage]) -> bool:
    """Return whether the machine was short of processors at a time, or shortly before."""
    return any(each.at - WINDOW_S <= at <= each.at + EXCUSED_S for each in shortages)


def quiet_share(record: Record) -> float:
    """Return the share of the time in which no fault is excused."""
    begin, end = record.samples[0].at, record.samples[-1].at
    busy_s, until = 0.0, begin
    for each in sorted(record.shortages, key=lambda shortage: shortage.at):
        first, last = max(each.at - WINDOW_S, until), min(each.at + EXCUSED_S, end)
        if last > first:
            busy_s += last - first
            until = last
    return 1 - busy_s / (end - begin) if end > begin else 0.0


def unexcused(record: Record) -> list[Fault]:
    """Return the faults that the machine does not explain; the end of a stream is never excused."""
    found: list[Fault] = []
    inserted: dict[str, float] = {}  # when each ear last received a silent frame
    for fault in record.faults:
        if fault.kind != "ended" and excused(fault.at, record.shortages):
            continue
        if (fault.kind, fault.frames) == ("silent", 1):
            before, inserted[fault.where] = inserted.get(fault.where), fault.at
            if before is None or fault.at - before > SPARSE_S:
                continue
        found.append(fault)
    return found


def _memory(record: Record, limits: Limits) -> Check:
    values = [sample.resident_mb for sample in record.samples]
    if len(values) < LEAST_SAMPLES:
        return Check("memory", NOT_JUDGED, f"{len(values)} samples are too few")
    before, after = growth(values)
    share = after / before - 1
    text = f"{before:.1f} MB after the first third, {after:.1f} MB at the end: {share:+.1%} (limit {limits.memory:.0%})"
    return Check("memory", FAILED if share > limits.memory else PASSED, text)


def _steady(record: Record, name: str, value: Callable[[Sample], int]) -> Check:
    values = [value(sample) for sample in record.samples]
    if len(values) < LEAST_SAMPLES:
        return Check(name, NOT_JUDGED, f"{len(values)} samples are too few")
    before, after = growth(values)
    more = after - before > max(MORE, MORE_SHARE * before)
    return Check(name, FAILED if more else PASSED, f"{before:g} after the first third, {after:g} at the end")


def _audio(record: Record) -> Check:
    quiet, wrong = quiet_share(record), unexcused(record)
    every = sum(fault.frames for fault in record.faults)
    text = f"{_kinds(wrong) or 'no fault'} while the machine had processors ({quiet:.0%} of the time)"
    text += f"; {every - sum(fault.frames for fault in wrong)} frames while it had not"
    if wrong:
        return Check("audio", FAILED, f"{text}. By ear: {_places(wrong)}")
    return Check("audio", PASSED if quiet >= LEAST_QUIET else NOT_JUDGED, text)


def _drift(record: Record) -> Check:
    third, last = record.samples[len(record.samples) // 3], record.samples[-1]
    allowed = DRIFT_MS + 1000 * sum(each.seconds for each in record.shortages if each.at >= third.at)
    drifts = {name: last.behind_ms[name] - begin for name, begin in third.behind_ms.items() if name in last.behind_ms}
    if not drifts:
        return Check("drift", NOT_JUDGED, "no long call was judged")
    name = max(drifts, key=lambda each: abs(drifts[each]))
    text = f"{drifts[name]:+.0f} ms in {last.at - third.at:.0f} s at most ({name}; limit {allowed:.0f} ms)"
    return Check("drift", FAILED if abs(drifts[name]) > allowed else PASSED, text)


def _ticks(record: Record) -> Check:
    """Judge what the process itself counts, in the intervals in which the machine had processors."""
    found: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for before, sample in zip(record.samples, record.samples[1:], strict=False):
        counts = Counter(sample.counted)
        counts["timers later than 100 ms"] = sample.late.get(LATE, 0)
        found += counts
        if not any(before.at - EXCUSED_S <= each.at <= sample.at + WINDOW_S for each in record.shortages):
            wrong += counts
    texts = [f"{wrong[name]} of {count} {name}" for name, count in sorted((+found).items())]
    text = ", ".join(texts) + " while the machine had processors" if texts else "none skipped, blocked, dropped or late"
    return Check("ticks", FAILED if +wrong else PASSED, text)


def _list(name: str, found: Sequence[str], none: str) -> Check:
    return Check(name, FAILED, "; ".join(found[:10])) if found else Check(name, PASSED, none)


def _kinds(faults: Iterable[Fault]) -> str:
    counts: Counter[str] = Counter()
    for fault in faults:
        counts[fault.kind] += max(fault.frames, 1)
    return ", ".join(f"{count} {kind}" for kind, count in counts.most_common())


def _places(faults: Iterable[Fault]) -> str:
    by_ear: dict[str, list[Fault]] = {}
    for fault in faults:
        by_ear.setdefault(fault.where, []).append(fault)
    return "; ".join(f"{name}: {_kinds(each)}" for name, each in sorted(by_ear.items()))
