"""When the doctor finds that this machine is late."""

from __future__ import annotations

import io

import pytest

from bridge.doctor import machine
from bridge.doctor.report import Report


@pytest.mark.parametrize(
    ("lateness", "verdict"),
    [([0.2] * 100, "ok"), ([0.2] * 50 + [12.0] * 50, "warn"), ([0.2] * 99 + [200.0], "warn")],
)
async def test_a_late_machine_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, lateness: list[float], verdict: str
) -> None:
    async def measured(_: int) -> list[float]:
        return lateness

    monkeypatch.setattr(machine, "tick_lateness_ms", measured)
    report = Report(io.StringIO())
    await machine.check_timer(report)
    assert [(finding.name, finding.verdict) for finding in report.findings] == [("tick", verdict)]
