"""The 20 ms schedule: absolute deadlines, four phases, no drift."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.media.playout_clock import PHASES, SLOT_S, Schedule


def test_each_phase_is_due_every_20_ms() -> None:
    schedule = Schedule(10.0)
    seen: list[tuple[float, int]] = []
    for slot in range(12):
        now = 10.0 + slot * SLOT_S
        seen += [(round(now, 3), phase) for phase, count in schedule.due(now) if count == 1]
    assert [phase for _, phase in seen] == [0, 1, 2, 3] * 3
    assert [now for now, phase in seen if phase == 0] == [10.0, 10.02, 10.04]


def test_nothing_is_due_before_its_time_and_nothing_twice() -> None:
    schedule = Schedule(0.0)
    assert schedule.due(-0.001) == []
    assert schedule.due(0.0) == [(0, 1)]
    assert schedule.due(0.004) == []
    assert schedule.next_deadline == SLOT_S


def test_a_stall_is_told_per_phase() -> None:
    schedule = Schedule(0.0)
    assert dict(schedule.due(0.099)) == {0: 5, 1: 5, 2: 5, 3: 5}
    assert dict(schedule.due(0.102)) == {0: 1}


@given(st.lists(st.floats(min_value=0.0, max_value=0.5), max_size=60))
def test_however_late_the_timer_every_deadline_is_counted_once(waits: list[float]) -> None:
    schedule = Schedule(5.0)
    now = 5.0
    totals = [0] * PHASES
    for wait in waits:
        now += wait
        for phase, count in schedule.due(now):
            totals[phase] += count
    slots = int((now - 5.0) / SLOT_S + 1e-6) + 1 if waits else 0
    assert totals == [(slots - phase + PHASES - 1) // PHASES for phase in range(PHASES)]
