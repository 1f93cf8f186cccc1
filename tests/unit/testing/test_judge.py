"""Judgements about audio say what is true of made-up audio."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from bridge.testing import judge
from bridge.testing.peer import ulaw_bytes, ulaw_samples

RATE = 8000


def test_level_of_is_the_amplitude_of_that_tone_alone() -> None:
    samples = judge.tone(1000, 1, RATE, 6000) + judge.tone(440, 1, RATE, 9000)
    assert judge.level_of(samples, 1000, RATE) == pytest.approx(6000, rel=0.01)
    assert judge.level_of(samples, 440, RATE) == pytest.approx(9000, rel=0.01)
    assert judge.level_of(samples, 700, RATE) < 20


def test_level_of_nothing_is_zero() -> None:
    assert judge.level_of(judge.silence(0, RATE), 1000, RATE) == 0
    assert judge.level_of(judge.silence(1, RATE), 1000, RATE) == 0
    assert judge.rms(judge.silence(0, RATE)) == 0


@pytest.mark.parametrize("freq", [300, 1004, 3400])
def test_loudest(freq: float) -> None:
    assert judge.loudest(judge.tone(freq, 0.5, RATE), RATE) == pytest.approx(freq, abs=2)


def test_rms_of_full_scale() -> None:
    assert judge.rms(judge.tone(1000, 1, RATE, 32767)) == pytest.approx(23170, rel=0.001)


def test_onset() -> None:
    samples = np.concatenate([judge.silence(0.73, RATE), judge.tone(1000, 1, RATE)])
    assert judge.onset(samples, RATE) == pytest.approx(0.73, abs=0.011)
    assert judge.onset(samples, RATE, 1000) == pytest.approx(0.73, abs=0.011)
    assert judge.onset(samples, RATE, 2000) is None
    assert judge.onset(judge.silence(1, RATE), RATE) is None


def test_a_steady_tone_has_no_dropouts_and_silence_around_it_is_none() -> None:
    samples = np.concatenate([judge.silence(0.5, RATE), judge.tone(1004, 3, RATE), judge.silence(0.5, RATE)])
    assert judge.dropouts(samples, RATE) == []
    assert judge.dropouts(samples, RATE, 1004) == []
    assert judge.dropouts(judge.silence(1, RATE), RATE) == []
    assert judge.dropouts(judge.silence(0, RATE), RATE) == []


def test_dropouts_are_found_where_they_are() -> None:
    samples = judge.tone(1000, 3, RATE)
    samples[8000:8160] = 0
    samples[16000:16800] = 0
    first, second = judge.dropouts(samples, RATE, 1000)
    assert [first.begins_s, first.seconds] == pytest.approx([1.0, 0.02], abs=0.011)
    assert [second.begins_s, second.seconds] == pytest.approx([2.0, 0.1], abs=0.011)


@pytest.mark.parametrize("late", [0, 1, 160, 4321])
@pytest.mark.parametrize("gain", [0.1, 1.0, -0.5])
def test_delay(late: int, gain: float) -> None:
    sent = judge.sweep(1, RATE)
    noise = np.random.default_rng(late).normal(0, 50, late + len(sent) + 800)
    heard = noise.copy()
    heard[late : late + len(sent)] += gain * sent
    found = judge.delay(sent, heard.astype(np.int16), RATE)
    assert found.seconds == pytest.approx(late / RATE, abs=1 / RATE)
    assert found.likeness > 0.95


def test_delay_can_be_negative() -> None:
    sent = np.concatenate([judge.silence(0.5, RATE), judge.sweep(1, RATE)])
    assert judge.delay(sent, judge.sweep(1, RATE), RATE).seconds == pytest.approx(-0.5, abs=1 / RATE)


def test_unlike_audio_has_little_likeness() -> None:
    noise = [np.random.default_rng(seed).normal(0, 3000, RATE).astype(np.int16) for seed in (1, 2)]
    assert judge.delay(noise[0], noise[1], RATE).likeness < 0.2
    assert judge.delay(judge.silence(1, RATE), noise[0], RATE).likeness == 0


def key(name: str, seconds: float = 0.08) -> judge.Samples:
    row = next(index for index, keys in enumerate(judge.DTMF_KEYS) if name in keys)
    column = judge.DTMF_KEYS[row].index(name)
    return judge.tone(judge.DTMF_ROWS_HZ[row], seconds, RATE, 6000) + judge.tone(
        judge.DTMF_COLUMNS_HZ[column], seconds, RATE, 6000
    )


def test_dtmf_reads_every_key() -> None:
    keys = "".join(judge.DTMF_KEYS)
    audio = [part for name in keys for part in (key(name), judge.silence(0.06, RATE))]
    assert judge.dtmf(np.concatenate(audio), RATE) == keys


def test_dtmf_tells_a_held_key_from_one_pressed_twice() -> None:
    assert judge.dtmf(key("5", 0.5), RATE) == "5"
    assert judge.dtmf(np.concatenate([key("5"), judge.silence(0.06, RATE), key("5")]), RATE) == "55"


def test_dtmf_is_not_heard_in_speech_like_audio() -> None:
    assert judge.dtmf(judge.sweep(2, RATE), RATE) == ""
    assert judge.dtmf(judge.tone(697, 1, RATE), RATE) == ""
    assert judge.dtmf(np.random.default_rng(1).normal(0, 3000, RATE * 2).astype(np.int16), RATE) == ""


def babble(seed: int, seconds: float = 3.0) -> judge.Samples:
    """Return a sound that resembles speech: harmonics of a changing pitch, syllables, formants that move."""
    random = np.random.default_rng(seed)
    count = round(seconds * RATE)
    at = np.arange(count) / count

    def course(low: float, high: float) -> NDArray[np.float64]:
        points = round(seconds * 6)
        return np.interp(at, np.linspace(0, 1, points), random.uniform(low, high, points))

    phase = 2 * np.pi * np.cumsum(course(90, 160)) / RATE
    formants = [course(300, 900), course(900, 2300)]
    frequency = np.gradient(phase) * RATE / 2 / np.pi
    total = np.zeros(count)
    for harmonic in range(1, 25):
        level = sum(np.exp(-(((harmonic * frequency - formant) / 150) ** 2)) for formant in formants)
        total += level * np.sin(harmonic * phase)
    total *= np.maximum(0, course(-0.5, 1))
    return np.asarray(np.round(12000 * total / np.abs(total).max()), np.int16)


def heard_of(sound: judge.Samples, before_s: float, gain: float, seed: int) -> judge.Samples:
    """Return a sound as in a recording: later, at another volume, through G.711, with some noise."""
    recording = np.concatenate([judge.silence(before_s, RATE), sound * gain, judge.silence(1, RATE)])
    noise = np.random.default_rng(seed).normal(0, 20, len(recording))
    return ulaw_samples(ulaw_bytes((recording + noise).astype(np.int16)))


@pytest.mark.parametrize("gain", [0.1, 0.9, -0.5])
@pytest.mark.parametrize("before_s", [0.0, 0.004, 1.2345])
def test_a_known_sound_is_found_where_it_begins(gain: float, before_s: float) -> None:
    (found,) = judge.find(babble(1), heard_of(babble(1), before_s, gain, 2), RATE)
    assert found.offset_s == pytest.approx(before_s, abs=0.001)
    assert found.likeness > 0.9


def test_a_recording_may_begin_a_little_after_the_sound() -> None:
    (found,) = judge.find(babble(1), babble(1)[round(0.04 * RATE) :], RATE)
    assert found.offset_s == pytest.approx(-0.04, abs=0.001)
    assert judge.find(babble(1), babble(1)[round(0.3 * RATE) :], RATE) == []


def test_another_sound_by_the_same_voice_is_not_found() -> None:
    for seed in range(2, 12):
        assert judge.find(babble(1), heard_of(babble(seed), 0.5, 0.9, seed), RATE, least=0.4) == []


def test_a_lost_frame_is_forgiven_a_lost_half_is_not() -> None:
    sound = babble(1)
    for at in (4000, 12000, 20000):
        heard = heard_of(np.concatenate([sound[:at], sound[at + 160 :]]), 0.5, 0.9, at)
        (found,) = judge.find(sound, heard, RATE)
        assert found.likeness < 0.97
    half = heard_of(sound[: len(sound) // 2], 0.5, 0.9, 1)
    assert judge.find(sound, half, RATE) == []
    assert 0.5 < judge.find(sound, half, RATE, least=0.5)[0].likeness < 0.8


def test_it_is_found_as_often_as_it_is_there() -> None:
    one, two, pause = babble(1), babble(2), judge.silence(0.3, RATE)
    heard = np.concatenate([one, two, pause, one, one])
    assert [found.offset_s for found in judge.find(one, heard, RATE)] == pytest.approx([0, 6.3, 9.3], abs=0.001)
    assert [found.offset_s for found in judge.find(two, heard, RATE)] == pytest.approx([3.0], abs=0.001)


def test_nothing_is_found_in_nothing() -> None:
    noise = np.random.default_rng(1).normal(0, 3000, RATE * 5).astype(np.int16)
    assert judge.find(babble(1), noise, RATE, least=0.3) == []
    assert judge.find(babble(1), judge.silence(5, RATE), RATE, least=0.1) == []
    assert judge.find(judge.silence(2, RATE), noise, RATE, least=0.1) == []
    assert judge.find(babble(1), judge.silence(0, RATE), RATE) == []
    assert judge.find(babble(1)[:1000], babble(1), RATE) == []


def test_a_recording_that_ends_too_early_does_not_hold_the_sound() -> None:
    assert judge.find(babble(1), babble(1)[: 2 * RATE], RATE) == []
