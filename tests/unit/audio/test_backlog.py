"""The backlog of a live sender is recovered, in pauses first, and nobody else's audio is touched."""

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from statistics import median

import numpy as np
import pytest

from bridge.audio.adaptive_lead import AdaptiveLead
from bridge.audio.cut_budget import MAX_CUTS, CutBudget
from bridge.audio.format import SLIN_RATES, slin
from bridge.audio.playout import Playout
from bridge.audio.shortening import MAX_CUT_MS, MIN_CUT_MS, is_quiet, shorten
from tests.unit.audio.senders import FMT, MS_BYTES, Heard, listen, noise, speech, stalled, steady

STALL_MS = 10_000
AFTER = (STALL_MS + 1000) // 20
"""The tick at which audio comes again."""


def after_stall(heard: Heard, ms: int) -> float:
    """Return the median delay within half a second, this long after the end of the stall."""
    played = [0.0]
    for frame in heard.frames:
        played.append(played[-1] + (frame is not None))
    first = int(played[AFTER + ms // 20])
    return median(heard.delays_ms[first : first + 25])


@pytest.mark.parametrize("pause_ms", [0, 300, 500])
def test_after_a_stall_the_delay_is_normal_within_5_s(pause_ms: int) -> None:
    arrivals = steady(speech(30_000, pause_ms))
    usual = listen(arrivals).p50_ms
    heard = listen(stalled(arrivals, STALL_MS, 1000))
    assert len(heard.holes_ms) == 1
    assert max(heard.delays_ms) > usual + 500
    assert after_stall(heard, 5000) < usual + 100
    assert after_stall(heard, 15_000) < usual + 60


def test_speech_is_shortened_without_clicks_and_at_its_pitch() -> None:
    audio = speech(30_000, 0)
    heard = listen(stalled(steady(audio), STALL_MS, 1000))
    samples = np.frombuffer(heard.audio, "<i2").astype(int)
    original = np.frombuffer(audio, "<i2").astype(int)
    assert len(original) - len(samples) > 0.9 * 8000
    assert np.abs(np.diff(samples)).max() <= 1.05 * np.abs(np.diff(original)).max()
    spectrum = np.abs(np.fft.rfft(samples[12 * 8000 : 14 * 8000]))
    assert int(spectrum.argmax()) / 2 == pytest.approx(120, abs=2)


def test_half_of_a_pause_remains() -> None:
    heard = listen(stalled(steady(speech(30_000, 500)), STALL_MS, 1000))
    quiet = [is_quiet(frame) for frame in heard.frames[AFTER + 50 : AFTER + 250] if frame]
    changes = [index for index, (before, now) in enumerate(pairwise(quiet)) if before != now]
    pauses = [end - begin for begin, end in pairwise(changes) if quiet[begin + 1]]
    assert min(pauses) >= 11


def test_noise_and_other_audio_that_does_not_repeat_itself_is_left_alone() -> None:
    audio = noise(20_000)
    assert listen(stalled(steady(audio), STALL_MS, 1000)).audio == audio


@pytest.mark.parametrize("speed", [1.1, 2.0, 50.0])
def test_a_sender_that_sends_ahead_stays_exact_when_it_stalls(speed: float) -> None:
    audio = speech(60_000)
    for stall_ms in (500, 1000, 2500):
        arrivals = stalled([(at / speed, pcm) for at, pcm in steady(audio)], 5_000 / speed, stall_ms)
        assert listen(arrivals).audio[: len(audio)] == audio


def test_utterances_sent_ahead_stay_exact() -> None:
    audio = speech(60_000)
    arrivals = [(at // 3000 * 3700 + at % 3000 / 3, pcm) for at, pcm in steady(audio)]
    assert listen(arrivals).audio[: len(audio)] == audio


@pytest.mark.parametrize("ahead_ms", [400, 600, 1000])
@pytest.mark.parametrize("gap_ms", [600, 1000, 1600])
def test_utterances_that_begin_ahead_stay_exact_after_a_short_one(ahead_ms: int, gap_ms: int) -> None:
    """The pause before the first long utterance looks like a stall that the sender makes up for."""
    audio = speech(17_200)
    arrivals = [(0.0, audio[: 200 * MS_BYTES])]
    for begin in (200, 8700):
        utterance = steady(audio[begin * MS_BYTES : (begin + 8500) * MS_BYTES], 100)
        start = arrivals[0][0] + begin + gap_ms * (1 if begin == 200 else 2)
        arrivals += [(start + max(at - ahead_ms, 0), pcm) for at, pcm in utterance]
    assert listen(arrivals).audio[: len(audio)] == audio


class CountedCuts(CutBudget):
    """A budget that counts what it allows, and what it refuses, at each time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.allowed, self.refused = Counter[float](), Counter[float]()

    def spend(self) -> bool:
        allowed = super().spend()
        (self.allowed if allowed else self.refused)[self._clock()] += 1
        return allowed


def recovered_together(audio: bytes, streams: int) -> tuple[CountedCuts, list[float]]:
    """Play audio that stalls for 400 ms in several streams at the same time.

    Returns:
        The budget that they share, and what each has queued in the end, in milliseconds.
    """
    now = 0.0
    cuts = CountedCuts(lambda: now)
    playouts = [Playout(FMT, 60_000, lead=AdaptiveLead(20, 100, lambda: now, cuts)) for _ in range(streams)]
    pending = list(reversed(stalled(steady(audio), 5_000, 400)))
    while pending:
        now += 0.02
        while pending and pending[-1][0] <= now * 1000:
            pcm = pending.pop()[1]
            for playout in playouts:
                playout.play(pcm)
        for playout in playouts:
            playout.take()
    return cuts, [playout.queued_ms for playout in playouts]


def test_many_streams_that_recover_at_the_same_time_share_a_limit() -> None:
    cuts, queued_ms = recovered_together(speech(25_000, 0), 50)
    assert max(cuts.allowed.values()) == MAX_CUTS
    assert max(cuts.refused.values()) > MAX_CUTS
    assert max(queued_ms) < 120


def test_audio_that_does_not_repeat_itself_costs_no_more_attempts_than_a_voice() -> None:
    cuts, (queued_ms,) = recovered_together(noise(15_000), 1)
    assert queued_ms > 300
    times = sorted(cuts.allowed)
    assert len(times) > 100
    assert min(later - earlier for earlier, later in pairwise(times)) > 0.03


def test_marks_are_reached_with_what_is_cut_out() -> None:
    arrivals = stalled(steady(speech(20_000)), STALL_MS, 1000)
    now = 0.0
    playout = Playout(slin(8000), 60_000, lead=AdaptiveLead(20, 100, lambda: now))
    pending, reached, sent = list(reversed(arrivals)), list[str](), 0
    while pending or playout.queued_ms:
        now += 0.02
        while pending and pending[-1][0] <= now * 1000:
            playout.play(pending.pop()[1])
            sent += 1
            playout.mark(str(sent))
        playout.take()
        reached += playout.reached()
    assert reached == [str(each) for each in range(1, len(arrivals) + 1)]


@pytest.mark.parametrize("rate", sorted(SLIN_RATES))
@pytest.mark.parametrize("before", [0, 100, 300])
def test_the_onset_of_a_sound_stays_exact(before: int, rate: int) -> None:
    """The louder sound does not resemble the quiet noise or the silence before it, whatever its level."""
    random = np.random.default_rng(1)
    quiet, loud = rate * 12 // 1000, rate * 40 // 1000
    for _ in range(50):
        onset = [random.normal(0, before, quiet), random.normal(0, 4000, loud - quiet)]
        passage = np.concatenate(onset).astype("<i2").tobytes()
        assert shorten(passage, rate) == passage


@pytest.mark.parametrize("rate", sorted(SLIN_RATES))
def test_a_voice_loses_whole_periods(rate: int) -> None:
    passage = speech(40, 0, rate)
    shorter = shorten(passage, rate)
    cut_ms = (len(passage) - len(shorter)) / 2 / rate * 1000
    assert MIN_CUT_MS <= cut_ms <= MAX_CUT_MS
    assert cut_ms == pytest.approx(1000 / 120, abs=0.3)
