"""Text survives the modem, and damage shows."""

from __future__ import annotations

import random
import string

import numpy as np
import pytest

from bridge.testing import modem, peer

RATE = 8000


def text_of(count: int, seed: int = 1) -> str:
    return "".join(random.Random(seed).choices(string.printable, k=count))


def through_ulaw(samples: modem.Samples) -> modem.Samples:
    return peer.ulaw_samples(peer.ulaw_bytes(samples))


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_thirty_seconds_of_text_survive_ulaw(rate: int) -> None:
    text = text_of(900)
    decoded = modem.decode(through_ulaw(modem.modulate(text, rate)), rate)
    assert decoded.text == text
    assert decoded.framing_errors == 0
    assert decoded.ends_s - decoded.begins_s == pytest.approx(30.0, abs=0.01)


def test_every_byte_value_survives() -> None:
    text = bytes(range(256)).decode("latin-1")
    assert modem.demodulate(modem.modulate(text, RATE), RATE) == text


@pytest.mark.parametrize("gain", [0.05, 0.5, 1.5])
@pytest.mark.parametrize("lead", [0, 1, 7, 13, 801])
def test_unknown_start_and_gain(gain: float, lead: int) -> None:
    text = text_of(60, seed=lead)
    signal = np.concatenate([np.zeros(lead, np.int16), modem.modulate(text, RATE), np.zeros(4000, np.int16)])
    assert modem.demodulate(through_ulaw((signal * gain).astype(np.int16)), RATE) == text


def test_noise_before_after_and_below() -> None:
    text = text_of(200)
    signal = np.concatenate([np.zeros(8000), modem.modulate(text, RATE), np.zeros(8000)])
    noisy = signal + np.random.default_rng(1).normal(0, 300, len(signal))
    assert modem.demodulate(noisy.astype(np.int16), RATE) == text


@pytest.mark.parametrize("phase", range(0, 267, 20))
def test_a_lost_frame_is_seen(phase: int) -> None:
    text = text_of(100)
    signal = modem.modulate(text, RATE)
    at = 8000 + phase
    assert modem.demodulate(np.delete(signal, slice(at, at + 160)), RATE) != text


@pytest.mark.parametrize("phase", range(0, 267, 20))
def test_a_silenced_frame_is_seen_and_the_rest_is_read(phase: int) -> None:
    text = text_of(100)
    signal = modem.modulate(text, RATE)
    signal[8000 + phase : 8160 + phase] = 0
    decoded = modem.decode(signal, RATE)
    assert decoded.text != text
    assert decoded.framing_errors >= 1
    assert decoded.text.endswith(text[-40:])


def test_a_doubled_frame_is_seen() -> None:
    text = text_of(100)
    signal = modem.modulate(text, RATE)
    assert modem.demodulate(np.insert(signal, 8160, signal[8000:8160]), RATE) != text


def test_nothing_is_read_from_silence_noise_or_a_scrap() -> None:
    assert modem.demodulate(np.zeros(8000, np.int16), RATE) == ""
    assert modem.demodulate(np.zeros(3, np.int16), RATE) == ""
