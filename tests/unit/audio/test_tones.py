"""Tones sound as they should, end softly, and keys are read as they were written."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.audio import tones
from bridge.audio.sound import Sound
from bridge.testing import judge


def samples(sound: Sound) -> judge.Samples:
    return np.frombuffer(sound.pcm, "<i2")


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_a_tone_has_its_frequency_level_and_length(rate: int) -> None:
    sound = tones.tone(440, 0.5, rate=rate, level=6000)
    assert (sound.rate, sound.seconds) == (rate, 0.5)
    assert judge.loudest(samples(sound), rate) == pytest.approx(440, abs=2)
    assert judge.level_of(samples(sound)[rate // 10 : -rate // 10], 440, rate) == pytest.approx(6000, rel=0.01)


def test_edges_are_soft() -> None:
    for sound in (tones.beep(), tones.tone(697, 0.05), tones.dtmf("5", between_ms=0), tones.ringback(2)):
        heard = samples(sound).astype(int)
        assert abs(heard[0]) < 100
        assert abs(heard[-1]) < 400
        loudest = np.abs(heard).max()
        assert np.abs(heard[:8]).max() < 0.3 * loudest  # the first millisecond


def test_a_beep_is_short_and_at_1000_hz() -> None:
    beep = tones.beep()
    assert 0.2 < beep.seconds < 0.5
    assert judge.loudest(samples(beep), 8000) == pytest.approx(1000, abs=5)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_keys_are_read_as_they_were_written(rate: int) -> None:
    keys = "0123456789*#ABCD"
    sound = tones.dtmf(keys, rate=rate)
    assert judge.dtmf(samples(sound), rate) == keys
    assert sound.seconds == pytest.approx(len(keys) * 0.2, abs=0.001)
    assert judge.dtmf(samples(tones.dtmf("55", duration_ms=60, between_ms=60)), 8000) == "55"
    assert judge.dtmf(samples(tones.dtmf("a")), 8000) == "A"


def test_keys_and_pauses() -> None:
    sound = tones.dtmf("1w2W", duration_ms=100, between_ms=50)
    assert sound.seconds == pytest.approx(0.15 + 0.5 + 0.15 + 1.0)
    assert judge.rms(samples(sound)[1200:5200]) == 0
    assert tones.dtmf("").pcm == b""


@pytest.mark.parametrize("digits", ["12x", "1 2", "E", "é"])
def test_what_is_no_key_is_named(digits: str) -> None:
    with pytest.raises(ValueError, match="is not a DTMF digit"):
        tones.dtmf(digits)


def test_ringing_is_two_seconds_of_six() -> None:
    heard = samples(tones.ringback(13))
    assert len(heard) == 13 * 8000
    levels = judge.block_levels(heard, 8000, block_s=0.5)
    assert list(levels > 1000) == ([True] * 4 + [False] * 8) * 2 + [True] * 2
    for hz in (440, 480):
        assert judge.level_of(heard[:16000], hz, 8000) > 6000


def test_silence() -> None:
    assert tones.silence(0.25, rate=16000) == Sound(bytes(8000), 16000)
