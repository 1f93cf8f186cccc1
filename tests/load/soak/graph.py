"""A soak as one SVG file: a panel for each group of figures, above one axis of time. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from tests.load.soak.verdict import FAILED, Check, Record, excused

WIDTH, LEFT, RIGHT = 960, 70, 20
PANEL, GAP, TOP = 130, 34, 60
COLORS = ("#1f6fb4", "#c8501e", "#3b8a3e", "#7d4fa0")
GRID, INK = "#dddddd", "#333333"
STEPS = (1, 2, 5)


@dataclass(frozen=True)
class Line:
    """One line of a panel: a value for each sample."""

    name: str
    values: Sequence[float]


@dataclass(frozen=True)
class Panel:
    """Lines with a common axis.

    Args:
        title: with the unit.
        lines: at most as many as there are colors.
        from_zero: whether the axis begins at 0; otherwise at the least value.
    """

    title: str
    lines: Sequence[Line]
    from_zero: bool = True


def panels(record: Record) -> list[Panel]:
    """Return what is shown of a soak."""
    samples = record.samples

    def faults(wanted: bool) -> list[float]:
        frames = [0.0] * len(samples)
        for fault in record.faults:
            if excused(fault.at, record.shortages) == wanted:
                frames[_interval(samples, fault.at, record)] += max(fault.frames, 1)
        return frames

    return [
        Panel(
            "memory, MB",
            [
                Line("resident", [sample.resident_mb for sample in samples]),
                Line("private", [sample.private_mb for sample in samples]),
            ],
            from_zero=False,
        ),
        Panel(
            "asterisk-bridge",
            [
                Line("descriptors", [sample.descriptors for sample in samples]),
                Line("tasks", [sample.tasks for sample in samples]),
                Line("timers", [sample.timers for sample in samples]),
            ],
        ),
        Panel(
            "up",
            [
                Line("calls", [sample.calls for sample in samples]),
                Line("streams", [sample.streams for sample in samples]),
                Line("Asterisk's channels", [sample.channels for sample in samples]),
                Line("its bridges", [sample.bridges for sample in samples]),
            ],
        ),
        Panel(
            "ticks in each interval",
            [
                Line("timers later than 20 ms", [sample.late.get("0.02", 0) for sample in samples]),
                Line("later than 100 ms", [sample.late.get("0.1", 0) for sample in samples]),
                Line("ticks skipped", [sample.counted.get("ticks_skipped", 0) for sample in samples]),
            ],
        ),
        Panel(
            "processor time in each interval, s",
            [
                Line("withheld from the soak", [sample.short_s for sample in samples]),
                Line("stolen by a hypervisor", [sample.stolen_s for sample in samples]),
            ],
        ),
        Panel("load of the machine", [Line("processes over a minute", [sample.load for sample in samples])]),
        Panel(
            "audio faults, frames",
            [Line("while the machine was short of processors", faults(True)), Line("at other times", faults(False))],
        ),
    ]


def svg(title: str, record: Record, checks: Sequence[Check]) -> str:
    """Return the whole file."""
    shown = panels(record)
    begin = record.samples[0].at
    minutes = [(sample.at - begin) / 60 for sample in record.samples]
    bottom = TOP + len(shown) * (PANEL + GAP)
    height = bottom + 20 + 16 * len(checks)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        f'font-size="11" fill="{INK}">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="24" font-size="15">{escape(title)}</text>',
    ]
    for number, panel in enumerate(shown):
        parts += _panel(panel, minutes, TOP + number * (PANEL + GAP))
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{bottom - 6}" text-anchor="end">minutes</text>')
    for number, check in enumerate(checks):
        color = COLORS[1] if check.outcome == FAILED else INK
        text = escape(f"{check.name}: {check.outcome}: {check.text}"[:170])
        parts.append(f'<text x="{LEFT}" y="{bottom + 16 + 16 * number}" fill="{color}">{text}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Panel, minutes: Sequence[float], top: int) -> list[str]:
    every = [value for line in panel.lines for value in line.values]
    low = 0.0 if panel.from_zero else min(every)
    step = nice_step((max(every) - low) / 4 or 0.25)
    low = low // step * step
    high = max(low + 4 * step, -(-max(every) // step) * step)
    bottom, width, span = top + PANEL, WIDTH - LEFT - RIGHT, minutes[-1] or 1.0

    def x(minute: float) -> float:
        return LEFT + width * minute / span

    def y(value: float) -> float:
        return bottom - PANEL * (value - low) / (high - low)

    parts = [f'<text x="{LEFT}" y="{top - 8}" font-weight="bold">{escape(panel.title)}</text>']
    for count in range(round((high - low) / step) + 1):
        value = low + count * step
        across = f"M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}"
        parts.append(f'<path d="{across}" stroke="{GRID}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
    minute_step = nice_step(span / 10)
    for count in range(int(span / minute_step) + 1):
        at = x(count * minute_step)
        parts.append(f'<text x="{at:.1f}" y="{bottom + 14}" text-anchor="middle">{count * minute_step:g}</text>')
    legend = WIDTH - RIGHT
    for line, color in reversed(list(zip(panel.lines, COLORS, strict=False))):
        parts.append(f'<text x="{legend}" y="{top - 8}" text-anchor="end" fill="{color}">{escape(line.name)}</text>')
        legend -= 7 * len(line.name) + 14
    for line, color in zip(panel.lines, COLORS, strict=False):
        points = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in zip(minutes, line.values, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.2"/>')
    return parts


def nice_step(least: float) -> float:
    """Return the smallest of 1, 2, 5, 10 ... (and 0.5, 0.2 ...) that is not below a value above 0."""
    power = 1.0
    while power > least:
        power /= 10
    while True:
        for step in STEPS:
            if step * power >= least:
                return step * power
        power *= 10


def _interval(samples: Sequence[object], at: float, record: Record) -> int:
    """Return the index of the first sample at or after a time."""
    for index, sample in enumerate(record.samples):
        if sample.at >= at:
            return index
    return len(samples) - 1
