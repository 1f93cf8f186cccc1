"""Which senders are found to send audio of another format, and which are not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bridge.audio.arrival import CALM_S, FULL_S, SLOW_S, Arrival, Sample, another_format

STEP_S = 0.02
SECONDS = 40


def finding(
    arriving_ms: Callable[[float], float], rate: int = 16000, max_queued_ms: float = 600_000
) -> tuple[str, float]:
    """Play what arrives, and return what is found about it and when.

    Args:
        arriving_ms: returns the audio that arrives at a time in seconds, in milliseconds; called every 20 ms.
        rate: the agreed sampling rate in Hz.
        max_queued_ms: limit of the queue, in milliseconds.
    """
    arrival = Arrival(rate)
    arrived = refused = queued = 0.0
    due = 0.0
    for step in range(round(SECONDS / STEP_S)):
        now = step * STEP_S
        piece = arriving_ms(now)
        arrived += piece
        if queued < max_queued_ms:
            queued += piece
        else:
            refused += piece
        queued = max(queued - 1000 * STEP_S, 0.0)
        if now >= due:
            found = arrival.add(Sample(now, arrived, refused, queued))
            if found:
                return found, now
            due = now + arrival.wait_s
    return "", SECONDS


def steady(speed: float, block_ms: float = 20) -> Callable[[float], float]:
    """Return a sender without pauses, whose blocks have this length for itself."""
    every = round(block_ms / 20)
    return lambda now: block_ms * speed if round(now / STEP_S) % every == 0 else 0.0


@pytest.mark.parametrize("block_ms", [20, 60, 100, 180])
@pytest.mark.parametrize(
    ("rate", "speed", "like"),
    [
        (16000, 1 / 2, "audio at 8000 Hz"),
        (16000, 1 / 4, "G.711"),
        (24000, 2 / 3, "audio at 16000 Hz"),
        (24000, 1 / 3, "audio at 8000 Hz"),
        (8000, 1 / 2, "G.711"),
        (48000, 1 / 2, "audio at 24000 Hz"),
        (16000, 0.48, "audio at 8000 Hz"),  # its timer is late
    ],
)
def test_a_sender_that_is_steadily_too_slow_is_found(rate: int, speed: float, like: str, block_ms: float) -> None:
    found, after_s = finding(steady(speed, block_ms), rate)
    assert found.endswith(f"times real time, as {like} would")
    assert float(found.split()[0]) == pytest.approx(speed, rel=0.05)
    assert after_s <= SLOW_S + 3 * CALM_S


@pytest.mark.parametrize(
    ("rate", "speed", "like"),
    [
        (8000, 2, "audio at 16000 Hz"),
        (8000, 3, "audio at 24000 Hz"),
        (16000, 1.5, "audio at 24000 Hz"),
        (16000, 44.1 / 16, "audio at 44100 Hz"),
        (16000, 3, "audio at 48000 Hz"),
        (8000, 4, "s16le at 16000 Hz"),
    ],
)
def test_a_sender_that_overflows_the_queue_again_and_again_is_found(rate: int, speed: float, like: str) -> None:
    found, after_s = finding(steady(speed), rate, max_queued_ms=5000)
    assert found == f"{speed:.2f} times real time, as {like} would"
    assert after_s >= FULL_S


@pytest.mark.parametrize("speed", [1.5, 2.0, 3.0])
def test_a_sender_ahead_of_time_is_legitimate_while_its_audio_fits(speed: float) -> None:
    assert finding(steady(speed))[0] == ""
    answers = finding(lambda now: 20 * speed if now % 10 < 9 / speed else 0.0, max_queued_ms=5000)
    assert answers[0] == "", "answers of 9 s, which overflow the queue for a moment"


@pytest.mark.parametrize("speed", [0.95, 0.85, 0.8, 0.6, 0.1])
def test_another_speed_is_not_reported(speed: float) -> None:
    assert finding(steady(speed))[0] == ""


@pytest.mark.parametrize(
    ("on_s", "of_s"), [(0.5, 1.0), (0.24, 0.5), (1.0, 2.0), (2.0, 6.0), (0.4, 0.6), (0.5, 2.0), (5.0, 10.0)]
)
def test_pauses_are_not_slow_audio(on_s: float, of_s: float) -> None:
    assert finding(lambda now: 20.0 if now % of_s < on_s else 0.0)[0] == ""


@pytest.mark.parametrize("every_s", [0.5, 1.0, 3.0])
def test_bursts_are_not_judged(every_s: float) -> None:
    """Pieces of half of what is played, as of a synthesizer that is too slow."""
    assert finding(lambda now: 500 * every_s if round(now / STEP_S) % round(every_s / STEP_S) == 0 else 0.0)[0] == ""


def test_one_file_that_does_not_fit_is_not_judged() -> None:
    assert finding(lambda now: 60_000 if now < 1 else 0.0, max_queued_ms=5000)[0] == ""


def test_a_sender_whose_speed_changes_is_not_judged() -> None:
    assert finding(lambda now: 20 * (0.25, 0.75)[int(now / 2) % 2])[0] == ""


def test_a_queue_that_is_replaced_begins_a_new_run() -> None:
    arrival = Arrival(16000)
    for second in range(20):
        total = 500.0 * (second % 3)  # another track speaks now, its queue counts from 0
        assert arrival.add(Sample(float(second), total, 0.0, 0.0)) == ""


def test_real_time_is_the_speed_of_no_other_format() -> None:
    assert another_format(44.1 / 48, 48000) == ""
    assert another_format(48 / 44.1, 44100) == ""
    assert another_format(1.0, 8000) == ""
