"""Counters as Prometheus reads them (text exposition format 0.0.4).

Written by hand rather than with prometheus_client: the frame path counts in plain integers of its own, so a metrics
library would add a dependency and a second set of numbers to save these few lines.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

from bridge import __version__
from bridge.media.counters import Counters, Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "asterisk_bridge_"
NOTHING: Mapping[str, float] = MappingProxyType({})


def render(counters: Counters, gauges: Mapping[str, float], totals: Mapping[str, float] = NOTHING) -> str:
    """Return the body of ``GET /metrics``.

    Args:
        counters: totals since the process started; durations become seconds, Prometheus's base unit.
        gauges: current values, by name without the prefix.
        totals: further counts since the process started, by name without the prefix.
    """
    lines = [f"# TYPE {PREFIX}build_info gauge", f'{PREFIX}build_info{{version="{__version__}"}} 1']
    for name, gauge in gauges.items():
        lines += _metric(name, "gauge", gauge)
    for name, total in totals.items():
        lines += _metric(name + "_total", "counter", total)
    for field in dataclasses.fields(counters):
        value = getattr(counters, field.name)
        if isinstance(value, Histogram):
            lines += _histogram(field.name + "_seconds", value)
        elif field.name.endswith("_ms"):
            lines += _metric(field.name.removesuffix("_ms") + "_seconds_total", "counter", value / 1000)
        else:
            lines += _metric(field.name + "_total", "counter", value)
    return "\n".join(lines) + "\n"


def _histogram(name: str, histogram: Histogram) -> list[str]:
    lines, counted = [f"# TYPE {PREFIX}{name} histogram"], 0
    for limit, count in zip((*map(str, histogram.limits), "+Inf"), histogram.counts, strict=True):
        counted += count
        lines.append(f'{PREFIX}{name}_bucket{{le="{limit}"}} {counted}')
    return [*lines, f"{PREFIX}{name}_sum {histogram.total:.6f}", f"{PREFIX}{name}_count {counted}"]


def _metric(name: str, kind: str, value: float) -> list[str]:
    text = str(int(value)) if value == int(value) else f"{value:.3f}"
    return [f"# TYPE {PREFIX}{name} {kind}", f"{PREFIX}{name} {text}"]
