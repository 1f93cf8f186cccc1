"""Sound files become sounds; what is none, or too much, is refused in words."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from bridge.audio import decode as module
from bridge.audio.decode import decode
from bridge.audio.sound import Sound
from bridge.testing import judge


def file_of(samples: object, rate: int, kind: str, subtype: str | None = None) -> bytes:
    """Return a sound file, written by the library that reads it here: errors show in the sound."""
    output = io.BytesIO()
    soundfile.write(output, samples, rate, format=kind, subtype=subtype)
    return output.getvalue()


def heard(sound: Sound) -> judge.Samples:
    return np.frombuffer(sound.pcm, "<i2")


@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "FLAC"])
def test_samples_come_out_as_they_went_in(kind: str) -> None:
    samples = np.random.default_rng(1).integers(-32768, 32768, 200_000).astype(np.int16)
    sound = decode(file_of(samples, 16000, kind, "PCM_16"))
    assert sound.rate == 16000
    assert np.array_equal(heard(sound), samples)


@pytest.mark.parametrize(
    ("kind", "subtype", "rate"),
    [
        ("OGG", "VORBIS", 22050),
        ("OGG", "OPUS", 48000),
        ("MP3", "MPEG_LAYER_III", 44100),
        ("WAV", "FLOAT", 8000),
        ("WAV", "PCM_U8", 8000),
        ("WAV", "PCM_24", 11025),
        ("WAV", "ULAW", 8000),
        ("WAV", "ALAW", 8000),
    ],
)
def test_every_kind_of_file_sounds_right(kind: str, subtype: str, rate: int) -> None:
    sound = decode(file_of(judge.tone(1000, 1.0, rate) / 32768, rate, kind, subtype))
    assert sound.rate == rate
    assert sound.seconds == pytest.approx(1.0, abs=0.1)
    assert judge.level_of(heard(sound)[rate // 4 : rate // 2], 1000, rate) == pytest.approx(8000, rel=0.05)


def test_an_mp3_file_is_known_with_and_without_a_tag() -> None:
    data = file_of(judge.tone(1000, 1.0, 44100), 44100, "MP3")
    assert data[0] == 0xFF
    assert decode(data).seconds == pytest.approx(1.0, abs=0.1)
    title = b"TIT2\x00\x00\x00\x06\x00\x00\x00Title"
    tag = b"ID3\x03\x00\x00" + bytes([0, 0, 1, 0]) + title + bytes(128 - len(title))
    assert decode(tag + data).seconds == pytest.approx(1.0, abs=0.1)


def test_channels_are_mixed() -> None:
    left, right = judge.tone(500, 0.5, 8000), judge.tone(1500, 0.5, 8000)
    sound = decode(file_of(np.stack([left, right], axis=1), 8000, "WAV"))
    assert sound.seconds == 0.5
    for hz in (500, 1500):
        assert judge.level_of(heard(sound), hz, 8000) == pytest.approx(4000, rel=0.02)


@pytest.mark.parametrize("length", [0x7FFFF000, 0xFFFFFFFF, 0x7FFFFFFF, 10**6])
def test_a_wav_file_from_a_pipe_holds_what_is_there(length: int) -> None:
    """espeak-ng writes 0x7ffff000 as the length of what it has not made yet."""
    samples = judge.sweep(1, 22050)
    data = bytearray(file_of(samples, 22050, "WAV"))
    at = data.index(b"data") + 4
    data[4:8] = (length + 36 & 0xFFFFFFFF).to_bytes(4, "little")
    data[at : at + 4] = length.to_bytes(4, "little")
    assert np.array_equal(heard(decode(bytes(data))), samples)


def test_a_file_without_audio_is_an_empty_sound() -> None:
    assert decode(file_of(np.zeros(0, np.int16), 8000, "WAV")) == Sound(b"", 8000)


@pytest.mark.parametrize("data", [b"", b"R", b"<html>", b"RIFF\x00\x00\x00\x00AVI ", b".snd\x00\x00\x00\x18", b"\xff"])
def test_what_is_no_sound_file_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(ValueError, match="is not a WAV, FLAC, Ogg or MP3 file"):
        decode(data)


@pytest.mark.parametrize(("kind", "keep"), [("WAV", 20), ("FLAC", 2000), ("OGG", 40)])
def test_a_damaged_file_is_said_to_be_damaged(kind: str, keep: int) -> None:
    data = file_of(judge.tone(1000, 1.0, 44100), 44100, kind)
    with pytest.raises(ValueError, match="cannot be decoded: "):
        decode(data[:keep])


def test_other_rates_and_too_many_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="sampling rate of 12345 Hz"):
        decode(file_of(np.zeros(100, np.int16), 12345, "WAV"))
    with pytest.raises(ValueError, match="has 9 channels"):
        decode(file_of(np.zeros((100, 9), np.int16), 8000, "WAV"))


def test_a_small_file_that_holds_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PCM_BYTES", 1_000_000)
    data = file_of(np.zeros(600_000, np.int16), 8000, "FLAC")
    assert len(data) < 20_000
    with pytest.raises(ValueError, match="is longer than 62 s"):
        decode(data)


@pytest.mark.parametrize("rates", [(22050, 8000), (8000, 16000), (16000, 8000), (44100, 8000), (8000, 8000)])
def test_a_sound_at_another_rate_begins_at_once_and_lasts_as_long(rates: tuple[int, int]) -> None:
    have, want = rates
    sound = Sound(judge.sweep(1.0, have).tobytes(), have)
    other = sound.at(want)
    assert other.rate == want
    assert other.seconds == pytest.approx(1.0, abs=1 / want)
    found = judge.delay(judge.sweep(1.0, want), heard(other), want)
    assert abs(found.seconds) <= 1 / want
    assert found.likeness > 0.99
