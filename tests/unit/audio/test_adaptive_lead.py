"""The adaptive lead: little delay for punctual senders, more for uneven ones, none for those that send ahead."""

import random
from statistics import median

import pytest

from bridge.audio.adaptive_lead import AdaptiveLead
from bridge.audio.playout import Playout
from tests.unit.audio.senders import FMT, MS_BYTES, listen, noise, stalled, steady

PHASES_MS = [0.5 + 2 * each for each in range(10)]


def test_a_punctual_sender_has_little_delay_and_no_hole() -> None:
    draw = random.Random(1)
    runs = [listen(steady(noise(600_000), 20, lambda: abs(draw.gauss(0, 1))), phase) for phase in PHASES_MS]
    assert [heard.holes_ms for heard in runs] == [[]] * len(PHASES_MS)
    assert median(heard.p50_ms for heard in runs) <= 15
    assert max(heard.p50_ms for heard in runs) < 25


@pytest.mark.parametrize("chunk_ms", [40, 60, 100])
def test_chunks_have_no_hole(chunk_ms: int) -> None:
    draw = random.Random(2)
    for phase in PHASES_MS:
        heard = listen(steady(noise(60_000), chunk_ms, lambda: abs(draw.gauss(0, 1))), phase)
        assert heard.holes_ms == []
        assert heard.p50_ms < 25


def test_an_uneven_sender_has_few_holes() -> None:
    draw = random.Random(3)
    heard = listen(steady(noise(600_000), 20, lambda: abs(draw.gauss(0, 25))))
    assert len(heard.holes_ms) < 10
    assert heard.lead.live


def test_the_lead_grows_with_a_hole_and_shrinks_when_it_is_not_needed() -> None:
    arrivals = steady(noise(120_000))
    late = stalled(arrivals, 10_000, 60)
    grown = listen(late[:1000])
    assert len(grown.holes_ms) == 1
    assert grown.lead.frames > 1
    assert listen(late).lead.frames == 1


def test_the_lead_has_a_limit() -> None:
    draw = random.Random(4)
    heard = listen(steady(noise(120_000), 20, lambda: draw.choice([0.0, 0.0, 0.0, 200.0])), max_ms=60)
    assert heard.lead.frames <= 3
    assert heard.lead.most < 50


def test_a_pause_is_no_reason_for_a_longer_lead() -> None:
    """A sender that sends nothing between words does not make up for the silence."""
    arrivals = [(at + 300 * (at // 2000), pcm) for at, pcm in steady(noise(60_000))]
    heard = listen(arrivals)
    assert len(heard.holes_ms) == 29
    assert heard.lead.frames == 1
    assert heard.p50_ms < 25


def test_a_sender_that_sends_ahead_is_not_live_and_not_delayed() -> None:
    audio = noise(20_000)
    for arrivals in (
        [(0.0, audio)],  # a file
        steady(audio, 20, lambda: -float("inf")),  # a burst of short messages
        [(at / 1.1, pcm) for at, pcm in steady(audio)],  # 10 % too fast
    ):
        heard = listen(arrivals)
        assert heard.lead.sends_ahead
        assert not heard.lead.live
        assert not heard.lead.watching
        assert heard.holes_ms == []
        assert heard.audio == audio


def test_speech_sent_ahead_after_pauses_stays_exact() -> None:
    """Also if the pauses are as long as what follows them."""
    audio = noise(30_000)
    arrivals, at, place = [], 0.0, 0
    for ms in (200, 2000, 100, 3000, 5000, 1000, 2500, 4000):
        arrivals.append((at, audio[place : place + ms * MS_BYTES]))
        place += ms * MS_BYTES
        at += ms + 2000
    heard = listen(arrivals)
    assert heard.lead.sends_ahead
    assert heard.audio == audio[:place]


def test_what_a_live_sender_sends_is_exact_without_a_stall() -> None:
    audio = noise(60_000)
    draw = random.Random(5)
    heard = listen(steady(audio, 20, lambda: draw.uniform(0, 15)), 18)
    assert heard.lead.live
    assert heard.audio == audio


def test_after_clear_silence_is_no_hole() -> None:
    lead = AdaptiveLead(20, 100, lambda: 0.0)
    playout = Playout(FMT, 10_000, lead=lead)
    for _ in range(100):
        playout.play(noise(40))
        playout.take()
        playout.clear()
        for _ in range(3):
            assert playout.take() is None
    assert lead.frames == 1


def test_a_sender_that_has_stalled_stays_live() -> None:
    heard = listen(stalled(steady(noise(30_000)), 10_000, 1000))
    assert len(heard.holes_ms) == 1
    assert not heard.lead.sends_ahead
    assert heard.lead.frames == 1
