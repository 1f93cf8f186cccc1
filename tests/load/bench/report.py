"""Medians over rounds, ratios, and the table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from tests.load.bench.run import Case, faults

SATURATED = 0.9
"""Share of a core beyond which latencies say more about the machine than about the program."""
CPU = "CPU-ms per call-second"
COLUMNS = (
    "bridge",
    CPU,
    "/ C",
    "/ Go",
    "/ naive",
    "to application, ms: p50 / p99 / p99.9",
    "to call, ms: p50, beyond pace p99 / p99.9",
    "interval off 20 ms: p99 / max",
    "KB per call",
    "core",
    "not as sent",
)


@dataclass
class Outcome:
    """All runs of one variant in one case.

    Args:
        label: for the table.
        reports: the generator's, one for every round that came to an end.
        failures: why the others did not.
    """

    label: str
    reports: list[dict[str, Any]]
    failures: list[str]

    def middle(self, value: Callable[[dict[str, Any]], float]) -> float | None:
        """Return the median over the rounds."""
        return median(map(value, self.reports)) if self.reports else None

    @property
    def cpu(self) -> float | None:
        """CPU-milliseconds for each call and second."""
        return self.middle(lambda report: report["cpu_ms_per_call_second"])


def tables(results: dict[Case, dict[str, Outcome]]) -> str:
    """Return one table for each case, in Markdown."""
    return "\n\n".join(f"**{case}**\n\n{_table(outcomes)}" for case, outcomes in results.items())


def _table(outcomes: dict[str, Outcome]) -> str:
    rows = [[outcome.label, *_cells(outcome, outcomes)] for outcome in outcomes.values()]
    lines: Iterable[Sequence[str]] = [COLUMNS, ["---"] * len(COLUMNS), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(outcome: Outcome, others: dict[str, Outcome]) -> list[str]:
    if not outcome.reports:
        reason = outcome.failures[0].splitlines()[0] if outcome.failures else "not run"
        return [f"failed: {reason}", *[""] * (len(COLUMNS) - 2)]
    ratios = [_ratio(outcome, others.get(name)) for name in ("c", "go", "naive")]
    spoken = any(report["playout"]["sent"] for report in outcome.reports)
    heard = any(report["capture"]["sent"] for report in outcome.reports)

    def times(*path: str, keys: Sequence[str] = ("p50", "p99", "p999")) -> list[str]:
        return [f"{outcome.middle(lambda report, key=key: _at(report, path)[key]):.2f}" for key in keys]  # type: ignore[misc]

    to_application = " / ".join(times("capture", "latency_ms")) if heard else "-"
    beyond = " / ".join(times("playout", "over_least_ms", keys=("p99", "p999")))
    to_call = f"{times('playout', 'latency_ms')[0]}, {beyond}" if spoken else "-"
    core = outcome.middle(lambda report: report["core_share"]) or 0.0
    generator = outcome.middle(lambda report: report["generator"]["core_share"]) or 0.0
    busy = f"{core:.0%}" + (" !" if core > SATURATED else "") + (" (generator full)" if generator > SATURATED else "")
    return [
        f"{outcome.cpu:.2f}",
        *ratios,
        to_application,
        to_call,
        " / ".join(times("interval_off_ms", keys=("p99", "max"))),
        f"{outcome.middle(lambda report: report['kb_per_call']):.0f}",
        busy,
        _faults(outcome),
    ]


def _at(report: dict[str, Any], path: Sequence[str]) -> dict[str, float]:
    value: Any = report
    for key in path:
        value = value[key]
    found: dict[str, float] = value
    return found


def _ratio(outcome: Outcome, other: Outcome | None) -> str:
    if other is None or not outcome.cpu or not other.cpu:
        return "-"
    return f"{outcome.cpu / other.cpu:.2f}"


def _faults(outcome: Outcome) -> str:
    total: dict[str, int] = {}
    for report in outcome.reports:
        for kind, count in faults(report).items():
            total[kind] = total.get(kind, 0) + count
    words = [f"{count} {kind}" for kind, count in total.items()]
    words += [f"{len(outcome.failures)} runs failed"] if outcome.failures else []
    return ", ".join(words) or "0"
