"""The verdict on a soak: what it fails for, what it excuses, and what it does not judge."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.load.soak.__main__ import exit_code, in_words, write
from tests.load.soak.ears import Fault
from tests.load.soak.graph import nice_step, panels
from tests.load.soak.samples import Sample
from tests.load.soak.verdict import (
    FAILED,
    NOT_JUDGED,
    PASSED,
    Check,
    Limits,
    Record,
    growth,
    quiet_share,
    unexcused,
    verdict,
)
from tests.machine import Shortage

SECONDS = 60
EAR = "agent 0 to party"


def sample(at: int, **values: Any) -> Sample:
    usual: dict[str, Any] = {
        "at": float(at),
        "resident_mb": 85.0,
        "private_mb": 58.0,
        "blocks": 360_000,
        "descriptors": 30 + at % 5,
        "tasks": 50 + at % 7,
        "timers": 40,
        "threads": 6,
        "calls": 8,
        "streams": 9,
        "channels": 20,
        "bridges": 6,
        "counted": {"ticks_skipped": 0, "messages_dropped": 0},
        "late": {"0.02": 0, "0.1": 0},
        "stolen_s": 0.0,
        "short_s": 0.0,
        "load": 0.5,
        "behind_ms": {EAR: 10.0},
    }
    return Sample(**usual | values)


def record(values: Callable[[int], dict[str, Any]] = lambda _: {}, seconds: int = SECONDS, **more: Any) -> Record:
    samples = [sample(at, **values(at)) for at in range(seconds)]
    return replace(Record(samples, [], [], [], [], long_calls=5, short_calls=90), **more)


def outcomes(found: Record, limits: Limits | None = None) -> dict[str, str]:
    return {check.name: check.outcome for check in verdict(found, limits or Limits())}


def failed(found: Record, limits: Limits | None = None) -> set[str]:
    return {name for name, outcome in outcomes(found, limits).items() if outcome == FAILED}


def test_a_faultless_soak_passes_every_check() -> None:
    assert set(outcomes(record()).values()) == {PASSED}


# Growth


def test_growth_compares_the_two_ends_of_what_follows_the_first_third() -> None:
    assert growth([900, 900, 900, 900, 1, 1, 5, 5, 5, 5, 2, 2]) == (1, 2)


def test_memory_that_grows_fails_and_memory_that_has_grown_does_not() -> None:
    leaking = record(lambda at: {"resident_mb": 85 + at * 0.05})
    assert failed(leaking) == {"memory"}
    assert not failed(leaking, Limits(memory=0.05))
    assert not failed(record(lambda at: {"resident_mb": min(80 + at, 95.0)}))


def test_steps_of_memory_count_and_a_peak_does_not() -> None:
    assert failed(record(lambda at: {"resident_mb": 85 + 2 * (at > 40)})) == {"memory"}
    assert not failed(record(lambda at: {"resident_mb": 85 + 30 * (at == 50)}))


@pytest.mark.parametrize("name", ["descriptors", "tasks"])
def test_descriptors_and_tasks_that_grow_fail(name: str) -> None:
    assert failed(record(lambda at: {name: 30 + at})) == {name}
    assert not failed(record(lambda at: {name: 33 + 7 * (at > 40)}))  # more connections to ARI while the PBX is busy


def test_few_samples_are_not_judged_for_growth() -> None:
    found = outcomes(record(seconds=12))
    assert {found["memory"], found["descriptors"], found["tasks"]} == {NOT_JUDGED}


# Audio


def test_a_lost_frame_fails_unless_the_machine_was_short_of_processors_before() -> None:
    lost = [Fault(30.0, EAR, "lost", 1)]
    assert failed(record(faults=lost)) == {"audio"}
    assert failed(record(faults=lost, shortages=[Shortage(50.0, 0.1, "python")])) == {"audio"}
    assert not failed(record(faults=lost, shortages=[Shortage(29.0, 0.1, "python")]))
    assert not failed(record(faults=lost, shortages=[Shortage(30.3, 0.1, "python")]))


def test_the_end_of_a_stream_is_never_excused() -> None:
    ended = [Fault(30.0, EAR, "ended", 0)]
    found = record(faults=ended, shortages=[Shortage(29.5, 0.4, "python")])
    assert unexcused(found) == ended
    assert failed(found) == {"audio"}


def test_on_a_machine_that_is_always_short_audio_is_not_judged() -> None:
    found = record(
        faults=[Fault(30.0, EAR, "lost", 1)], shortages=[Shortage(float(at), 0.1, "python") for at in range(SECONDS)]
    )
    assert quiet_share(found) == 0
    assert outcomes(found)["audio"] == NOT_JUDGED
    assert exit_code(verdict(found, Limits())) == 3


def test_the_quiet_share_counts_overlapping_shortages_once() -> None:
    found = record(seconds=61, shortages=[Shortage(at, 0.1, "python") for at in (10.5, 11.0, 40.5)])
    assert quiet_share(found) == pytest.approx(1 - (3.0 + 2.5) / 60)


# Clocks


def test_a_clock_that_drifts_fails_by_what_the_machine_does_not_explain() -> None:
    drifting = record(lambda at: {"behind_ms": {EAR: 3.0 * at}})
    assert failed(drifting) == {"drift"}
    assert not failed(replace(drifting, shortages=[Shortage(25.0, 0.1, "python")]))
    assert failed(record(lambda at: {"behind_ms": {EAR: -3.0 * at}})) == {"drift"}
    assert outcomes(record(lambda _: {"behind_ms": {}}))["drift"] == NOT_JUDGED


@pytest.mark.parametrize("counted", [{"ticks_skipped": 2}, {"messages_dropped": 1}])
def test_what_the_process_counts_fails_unless_the_machine_explains_it(counted: dict[str, int]) -> None:
    found = record(lambda at: {"counted": counted} if at == 30 else {})
    assert failed(found) == {"ticks"}
    assert not failed(replace(found, shortages=[Shortage(29.8, 0.2, "python")]))
    assert failed(replace(found, shortages=[Shortage(20.0, 0.2, "python")])) == {"ticks"}


def test_a_late_event_loop_fails() -> None:
    assert failed(record(lambda at: {"late": {"0.02": 1, "0.1": 1}} if at == 30 else {})) == {"ticks"}
    assert not failed(record(lambda _: {"late": {"0.02": 1, "0.1": 0}}))


# The end, and the files


def test_what_is_left_and_problems_fail() -> None:
    assert failed(record(left=["1 channels"])) == {"nothing left"}
    assert failed(record(problems=["POST /v1.0/calls: 503"])) == {"no problems"}


def test_one_silent_frame_in_a_minute_is_not_a_fault() -> None:
    sparse = [Fault(10.0, EAR, "silent", 1), Fault(75.0, EAR, "silent", 1), Fault(76.0, "another", "silent", 1)]
    assert failed(record(faults=sparse)) == set()
    assert failed(record(faults=[*sparse, Fault(80.0, EAR, "silent", 1)])) == {"audio"}
    assert failed(record(faults=[Fault(10.0, EAR, "silent", 2)])) == {"audio"}


@pytest.mark.parametrize(
    ("found", "code"), [((PASSED, PASSED), 0), ((PASSED, FAILED, NOT_JUDGED), 1), ((PASSED, NOT_JUDGED), 3)]
)
def test_the_exit_code_is_that_of_the_worst_outcome(found: Sequence[str], code: int) -> None:
    assert exit_code([Check("check", outcome, "") for outcome in found]) == code


def test_graph_and_figures_are_written_and_the_graph_has_every_panel(tmp_path: Path) -> None:
    faults = [Fault(30.0, EAR, "lost", 4), Fault(45.5, EAR, "silent", 2), Fault(99.0, EAR, "ended", 0)]
    found = record(faults=faults, shortages=[Shortage(45.0, 0.2, "python")], left=["1 <channel>"])
    checks = verdict(found, Limits())
    write(tmp_path / "soak", "title & more", found, checks)
    root = ElementTree.parse(tmp_path / "soak.svg").getroot()
    texts = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {panel.title for panel in panels(found)} < set(texts)
    assert "nothing left: FAILED: 1 <channel>" in texts
    assert '"frames": 4' in (tmp_path / "soak.json").read_text()
    assert "audio         FAILED" in in_words("title", found, checks)
    excused, others = panels(found)[-1].lines
    assert (excused.values[46], others.values[30], others.values[-1]) == (2, 4, 1)


@pytest.mark.parametrize(("least", "step"), [(0.03, 0.05), (1.0, 1.0), (3.0, 5.0), (11.0, 20.0), (0.25, 0.5)])
def test_steps_of_axes_are_round(least: float, step: float) -> None:
    assert nice_step(least) == pytest.approx(step)
