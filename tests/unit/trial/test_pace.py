"""How fast audio arrives, and what a trial concludes from it."""

from __future__ import annotations

import pytest

from bridge.trial import checks
from bridge.trial.pace import Pace, Talkspurt


def longest(message_ms: float, every_s: float, count: int = 200) -> Talkspurt | None:
    """Return the run of messages at an interval."""
    pace = Pace()
    for number in range(count):
        pace.add(message_ms, number * every_s)
    return pace.longest


@pytest.mark.parametrize(
    ("message_ms", "every_s", "outcome"),
    [
        (20, 0.02, "passed"),
        (100, 0.1, "passed"),
        (40, 0.02, "failed"),  # 16 kHz as 8 kHz, or s16le as G.711
        (60, 0.02, "failed"),  # 24 kHz as 8 kHz
        (10, 0.02, "failed"),  # 8 kHz as 16 kHz
        (13.333, 0.02, "failed"),  # 16 kHz as 24 kHz
        (16, 0.02, "failed"),  # no usual ratio, but too slow for the call
        (20, 0.002, "failed"),  # ten times as much as is played, without a pause
    ],
)
def test_the_ratio_of_continuous_audio_to_time_is_judged(message_ms: float, every_s: float, outcome: str) -> None:
    assert checks.rate(longest(message_ms, every_s, count=1000), every_s * 1000, 8000, "mu-law").outcome == outcome


@pytest.mark.parametrize(("message_ms", "outcome"), [(40, "not judged"), (200, "not judged"), (10, "failed")])
def test_an_answer_may_be_sent_ahead_of_time_but_not_too_slowly(message_ms: float, outcome: str) -> None:
    assert checks.rate(longest(message_ms, 0.02, count=100), 20.0, 8000, "mu-law").outcome == outcome


def test_pauses_do_not_count_as_slow_audio() -> None:
    pace = Pace()
    for second in (0.0, 10.0, 20.0):
        for number in range(100):
            pace.add(20, second + number * 0.02)
    run = pace.longest
    assert run is not None
    assert run.is_real_time
    assert run.seconds == pytest.approx(1.98)


@pytest.mark.parametrize(("message_ms", "every_s", "count"), [(20, 0.02, 40), (1000, 0.2, 6)])
def test_too_little_audio_is_not_judged(message_ms: float, every_s: float, count: int) -> None:
    assert longest(message_ms, every_s, count) is None
    assert checks.rate(None, 20.0, 8000, "mu-law").outcome == "not judged"


def test_the_longest_run_counts_while_it_lasts() -> None:
    pace = Pace()
    for number in range(60):
        pace.add(40, number * 0.02)
    for number in range(200):
        pace.add(20, 10 + number * 0.02)
    assert pace.longest is not None
    assert pace.longest.ratio == pytest.approx(1.0, abs=0.02)
