"""Overload is detected by lateness that lasts, and ends with it; what may start meanwhile."""

from __future__ import annotations

from itertools import pairwise, repeat

import pytest

from bridge.errors import Overloaded
from bridge.media.call_admission import CALM_S, LATE_OF_MEASURED, CallAdmission
from bridge.media.counters import Counters

EVERY_S = 0.1
GOOD_S = 0.002
LATE_S = 0.06


class Process:
    """A process whose timers are measured ten times a second."""

    def __init__(self, *, carries: int = 1000, up: int = 20, max_streams: int = 1000) -> None:
        self.now, self.carries, self.up = 1000.0, carries, up
        self.most = up
        self.counters, self.freed = Counters(), 0
        self.admission = CallAdmission(max_streams, late_ms=40, late_from=10, counters=self.counters)
        self.admission.load = lambda: self.up
        self.admission.on_free = self._free

    def measure(self, *lateness_s: float, busy: float = 0.1) -> None:
        """Measure these."""
        for late_s in lateness_s:
            self.now += EVERY_S + late_s
            self.admission.measured(late_s, busy, self.now)

    def run(self, seconds: float, *, arrivals_per_s: int = 0, ended_per_s: int = 0) -> None:
        """Let calls arrive and end while the load decides how late timers are."""
        for turn in range(round(seconds / EVERY_S)):
            self.up = max(self.up - (ended_per_s // 10 + (turn % 10 < ended_per_s % 10)), 0)
            for _ in range(arrivals_per_s // 10):
                if self.admission.may_start():
                    self.up += 1
            self.most = max(self.most, self.up)
            self.measure(LATE_S if self.up > self.carries else GOOD_S)

    def _free(self) -> None:
        self.freed += 1


def test_lateness_that_lasts_refuses_what_is_new_and_says_when_to_try_again() -> None:
    process = Process()
    process.measure(*repeat(LATE_S, LATE_OF_MEASURED))
    assert not process.admission.may_start()
    with pytest.raises(Overloaded, match="cannot carry more than the current 20 calls and streams") as refused:
        process.admission.check()
    assert refused.value.retry_after_s == 5
    assert (process.counters.overloads, process.counters.starts_refused) == (1, 1)


@pytest.mark.parametrize("stall_s", [0.1, 1.0, 30.0])
def test_one_stall_of_any_length_refuses_nothing(stall_s: float) -> None:
    process = Process()
    process.measure(*repeat(GOOD_S, 30), stall_s, *repeat(GOOD_S, 30))
    assert process.admission.may_start()
    assert process.counters.overloads == 0


def test_a_stall_every_second_refuses_nothing() -> None:
    process = Process()
    for _ in range(60):
        process.measure(0.5, *repeat(GOOD_S, 9))
    assert process.counters.overloads == 0


def test_few_calls_are_never_refused_however_late_the_machine_is() -> None:
    process = Process(up=9)
    process.measure(*repeat(0.5, 100))
    assert process.admission.may_start()
    process.up = 10
    process.measure(0.5)
    assert not process.admission.may_start()
    process.up = 9
    assert process.admission.may_start()


def test_a_busy_loop_refuses_before_audio_is_late() -> None:
    process = Process()
    process.measure(*repeat(GOOD_S, 5), busy=0.7)
    assert process.admission.may_start()
    process.measure(*repeat(GOOD_S, 6), busy=0.8)
    with pytest.raises(Overloaded, match="overloaded"):
        process.admission.check()
    process.measure(*repeat(GOOD_S, 100), busy=0.7)  # not yet 10 % less
    assert not process.admission.may_start()
    process.up = 15
    process.measure(*repeat(GOOD_S, 36), busy=0.6)
    assert process.admission.may_start()


def test_a_stall_that_fills_seconds_is_one_busy_measurement() -> None:
    process = Process()
    process.measure(*repeat(GOOD_S, 10), busy=0.1)
    process.measure(3.0, busy=1.0)
    process.measure(*repeat(GOOD_S, 4), busy=1.0)
    assert process.admission.may_start()


@pytest.mark.parametrize(
    ("up", "busy", "accepted"),
    [
        (0, 0.0, 30),  # three times what is never refused
        (4, 0.9, 30),  # so few calls are not the cause
        (20, 0.1, 30),
        (100, 0.3, 100),  # as many again
        (100, 0.5, 50),  # in proportion to what is left of the limit
        (100, 0.75, 0),
    ],
)
def test_a_crowd_is_let_in_step_by_step(up: int, busy: float, accepted: int) -> None:
    process = Process(up=up)
    process.measure(*repeat(GOOD_S, 20), busy=busy)
    while process.admission.may_start():
        process.up += 1
    assert process.up - up == accepted
    if accepted and busy < 0.5:
        with pytest.raises(Overloaded, match="started within a second"):
            process.admission.check()
        process.measure(*repeat(GOOD_S, 10), busy=busy / 2)
        assert process.admission.may_start(), "a second later they are known"


def test_what_belongs_to_an_admitted_call_is_not_refused_because_of_lateness() -> None:
    process = Process()
    process.measure(*repeat(LATE_S, LATE_OF_MEASURED))
    process.admission.check(admitted=True)
    process.admission.closing = True
    with pytest.raises(Overloaded, match="shutting down"):
        process.admission.check(admitted=True)


def test_limit_of_streams_does_not_refuse_calls_without_one() -> None:
    process = Process(max_streams=3)
    process.admission.open = 3
    assert process.admission.may_start(0)
    with pytest.raises(Overloaded, match=r"media\.max_streams"):
        process.admission.check()
    with pytest.raises(Overloaded, match=r"media\.max_streams"):
        process.admission.check(admitted=True)


def test_nothing_starts_until_audio_has_been_in_time_for_a_while() -> None:
    process = Process()
    process.measure(*repeat(LATE_S, 20), *repeat(GOOD_S, 16))  # four of the last twenty are late
    late_until = process.now
    while not process.admission.overload.active or process.now - late_until < CALM_S - 2 * EVERY_S:
        assert not process.admission.may_start()
        process.measure(GOOD_S)
    process.up = 15  # some have ended
    process.measure(*repeat(GOOD_S, 5))
    assert process.admission.may_start()


def test_lateness_between_half_the_limit_and_the_limit_keeps_the_state() -> None:
    process = Process()
    process.measure(*repeat(0.03, 200))
    assert process.admission.may_start()
    process.measure(*repeat(LATE_S, 20), *repeat(0.03, 200))
    assert not process.admission.may_start()


def test_overload_does_not_come_back_again_and_again_while_clients_keep_trying() -> None:
    """A machine that carries 40 is offered 10 new calls a second, of which 4 end each second, for five minutes."""
    process = Process(carries=40, up=4)
    process.run(20, arrivals_per_s=10, ended_per_s=0)
    assert process.most <= 50, "all that was offered within the first second of lateness was accepted"
    first = process.counters.overloads
    process.most = 0
    process.run(300, arrivals_per_s=10, ended_per_s=4)
    assert process.most <= 46
    assert process.counters.overloads - first <= 8, "the state flaps"
    assert process.up >= 28, "what the machine carries is used"


def test_capacity_that_returns_is_found_again() -> None:
    process = Process(carries=40, up=4)
    process.run(20, arrivals_per_s=10)
    process.carries, process.up = 200, 30
    process.run(200, arrivals_per_s=10)
    assert process.up > 150


def test_who_was_refused_is_considered_again_when_there_is_room() -> None:
    process = Process()
    process.measure(*repeat(LATE_S, 10))
    with pytest.raises(Overloaded):
        process.admission.check()
    process.up = 12
    process.measure(*repeat(GOOD_S, 20))
    assert process.freed == 0
    process.measure(*repeat(GOOD_S, 40))
    assert process.freed == 1


def test_zero_switches_it_off() -> None:
    admission = CallAdmission(1000, late_ms=0)
    for turn in range(100):
        admission.measured(5.0, 1.0, float(turn))
    assert admission.may_start()


def seconds_until_accepted(process: Process) -> float:
    since = process.now
    while not process.admission.may_start():
        process.measure(GOOD_S)
        assert process.now - since < 600
    return process.now - since


def test_a_hiccup_of_the_machine_costs_seconds_and_each_that_follows_soon_twice_as_many() -> None:
    process = Process()
    waited = []
    for _ in range(5):
        process.measure(*repeat(LATE_S, 20))
        waited.append(seconds_until_accepted(process))
    assert waited[0] < 15
    assert all(1.5 < later / before < 2.5 for before, later in pairwise(waited[:4]))
    assert waited[4] < 110
    process.measure(*repeat(GOOD_S, 3000))  # it did not come back
    process.measure(*repeat(LATE_S, 20))
    assert seconds_until_accepted(process) < 15
