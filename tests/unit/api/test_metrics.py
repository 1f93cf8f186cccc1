"""Counters in the form that Prometheus reads."""

from __future__ import annotations

import re

from bridge.api.metrics import render
from bridge.media.counters import Counters

LINE = re.compile(r"(# TYPE [a-z_]+ (counter|gauge|histogram)|[a-z_]+(\{[a-z_]+=\"[^\"]*\"\})? [0-9]+(\.[0-9]+)?)")


def test_every_line_is_well_formed_and_ends() -> None:
    text = render(Counters(frames_to_asterisk=12), {"calls": 3})
    assert text.endswith("\n")
    for line in text.splitlines():
        assert LINE.fullmatch(line), line


def test_values() -> None:
    lines = render(Counters(frames_to_asterisk=12, dropped_to_application_ms=1520.0), {"calls": 3}).splitlines()
    assert "asterisk_bridge_frames_to_asterisk_total 12" in lines
    assert "asterisk_bridge_dropped_to_application_seconds_total 1.520" in lines
    assert "asterisk_bridge_calls 3" in lines
    assert "# TYPE asterisk_bridge_frames_to_asterisk_total counter" in lines


def test_no_counter_is_forgotten() -> None:
    text = render(Counters(), {})
    for name in Counters.__slots__:
        assert f"asterisk_bridge_{name.removesuffix('_ms')}" in text
