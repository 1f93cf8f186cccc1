"""The verdict itself, on evidence that is made up: what it must see, and what it must excuse."""

from __future__ import annotations

import dataclasses

import pytest

from tests.attack.observer import DAMAGED, SILENCE, frame_of, number_of
from tests.attack.verdict import Evidence, Interval, Probe, judge

BEGAN, SECONDS, FRAME_S, SAMPLE_S = 100.0, 2.0, 0.02, 0.01
TIMES = [BEGAN + number * FRAME_S for number in range(1, int(SECONDS / FRAME_S))]
SAMPLES = [BEGAN + number * SAMPLE_S for number in range(int(SECONDS / SAMPLE_S) + 1)]
MB = 1 << 20


def evidence(
    *, stalls: tuple[Interval, ...] = (), withheld: tuple[Interval, ...] = (), late: tuple[Interval, ...] = ()
) -> Evidence:
    """Two seconds of a good call.

    Args:
        stalls: from when to when nothing comes, in seconds since the beginning; it comes afterwards, in one burst.
        withheld: when the bridge waits for a processor.
        late: when the observer does not run.
    """

    def delayed(at: float) -> float:
        return max([at, *(BEGAN + end for begin, end in stalls if BEGAN + begin < at < BEGAN + end)])

    def waited(at: float) -> float:
        return sum(max(0.0, min(at - BEGAN, end) - begin) for begin, end in withheld)

    return Evidence(
        began=BEGAN,
        ended=BEGAN + SECONDS,
        call={
            "sent": [(at, number) for number, at in enumerate(TIMES, 1)],
            "received": [(delayed(at), number) for number, at in enumerate(TIMES, 1)],
            "late": [(BEGAN + begin, BEGAN + end) for begin, end in late],
            "ended": False,
        },
        witness={"process": [(at, 0.0, waited(at)) for at in SAMPLES], "memory": [(BEGAN, 100 * MB)], "late": []},
        probes=[Probe(BEGAN, 0.01, 200)],
        memory_before=100 * MB,
        memory_after=100 * MB,
    )


def test_a_good_call_has_no_faults() -> None:
    verdict = judge(evidence())
    assert not verdict.faults
    assert verdict.conclusive
    assert verdict.gap_ms == pytest.approx(20)


@pytest.mark.parametrize(("seconds", "bad"), [(0.09, False), (0.13, True), (1.0, True)])
def test_a_stall_of_the_bridge_is_a_fault(seconds: float, bad: bool) -> None:
    verdict = judge(evidence(stalls=((0.5, 0.5 + seconds),)))
    assert bool(verdict.faults) == bad
    assert verdict.conclusive


def test_time_without_a_processor_is_taken_off() -> None:
    assert not judge(evidence(stalls=((0.5, 0.7),), withheld=((0.52, 0.68),))).faults
    assert judge(evidence(stalls=((0.5, 0.7),), withheld=((0.52, 0.57),))).faults
    assert judge(evidence(stalls=((0.5, 0.7),), withheld=((1.0, 1.2),))).faults, "another time excuses nothing"


def test_time_in_which_the_observer_is_late_is_taken_off() -> None:
    assert not judge(evidence(stalls=((0.5, 0.7),), late=((0.5, 0.7),))).faults
    assert judge(evidence(stalls=((0.5, 0.7),), late=((0.2, 0.4),))).faults


def test_the_same_time_is_not_taken_off_twice() -> None:
    assert judge(evidence(stalls=((0.5, 0.85),), withheld=((0.5, 0.62),), late=((0.5, 0.62),))).faults


def test_a_late_machine_makes_a_verdict_inconclusive() -> None:
    much = tuple((begin / 10, begin / 10 + 0.09) for begin in range(4, 19))
    assert judge(evidence(withheld=much)).conclusive, "no gap had to be excused"
    assert not judge(evidence(stalls=((0.4, 0.55),), withheld=((0.4, 0.54), *much[2:]))).conclusive
    some = much[:4]
    assert judge(evidence(withheld=some)).conclusive
    assert not judge(evidence(stalls=((1.5, 1.8),), withheld=some)).conclusive, "a fault needs a quieter machine"


def test_silence_in_the_place_of_audio_is_a_fault() -> None:
    silent = evidence()
    received = silent.call["received"]
    silent.call["received"] = [(at, SILENCE if 30 <= number < 42 else number) for at, number in received]
    assert "no audio for" in judge(silent).faults[0]


def test_audio_that_is_missing_here_and_there_is_a_fault() -> None:
    choppy = evidence()
    choppy.call["received"] = [(at, number if number % 4 else SILENCE) for at, number in choppy.call["received"]]
    assert "are missing" in judge(choppy).faults[0]


@pytest.mark.parametrize("number", [DAMAGED, 3])
def test_wrong_audio_is_a_fault(number: int) -> None:
    wrong = evidence()
    wrong.call["received"][50] = (wrong.call["received"][50][0], number)
    assert judge(wrong).faults


def test_frames_are_told_apart() -> None:
    assert [number_of(frame_of(number)) for number in (1, 77_777)] == [1, 77_777]
    assert number_of(bytes(320)) == SILENCE
    assert number_of(frame_of(5)[:-2] + frame_of(6)[-2:]) == DAMAGED
    assert number_of(frame_of(5)[:160] + frame_of(6)[160:]) == DAMAGED
    assert number_of(frame_of(5)[:80]) == DAMAGED


@pytest.mark.parametrize(
    "change",
    [
        {"memory_after": 141 * MB},
        {"probes": [Probe(BEGAN, 1.2, 200)]},
        {"probes": [Probe(BEGAN, 0.1, 503)]},
        {"probes": [Probe(BEGAN, 5.0, 0)]},
        {"faults": ["the attack did 0 things"]},
    ],
)
def test_each_criterion_counts(change: dict[str, object]) -> None:
    assert judge(dataclasses.replace(evidence(), **change)).faults  # type: ignore[arg-type]


def test_a_peak_of_memory_counts() -> None:
    grown = evidence()
    grown.witness["memory"].append((BEGAN + 1, 151 * MB))
    assert "memory grew by 51 MB" in judge(grown).faults[0]


def test_the_end_of_the_call_is_a_fault() -> None:
    ended = evidence()
    ended.call["ended"] = True
    assert "the call was ended" in judge(ended).faults
