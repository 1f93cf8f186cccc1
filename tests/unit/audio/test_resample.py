"""The resampler by ear, so to speak: what it lets through, what it does not, and how long everything takes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.audio.format import SLIN_RATES
from bridge.audio.resample import Resampler

PAIRS = [(a, b) for a in (8000, 16000, 24000, 44100, 48000) for b in (8000, 16000, 24000, 44100, 48000) if a != b]


def tone(frequency: float, rate: int, seconds: float, level: float = 10_000) -> bytes:
    return (
        np.rint(level * np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate)).astype("<i2").tobytes()
    )


def in_frames(converter: Resampler, pcm: bytes, ms: int = 20) -> list[bytes]:
    size = converter.rate_in * ms // 1000 * 2
    return [converter.convert(pcm[start : start + size]) for start in range(0, len(pcm), size)]


def samples(parts: list[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(parts), "<i2").astype(float)


def split(heard: np.ndarray, frequency: float, rate: int) -> tuple[float, float]:
    """RMS of the tone in ``heard``, and of everything else."""
    steps = 2 * np.pi * frequency * np.arange(len(heard)) / rate
    basis = np.stack((np.sin(steps), np.cos(steps)), axis=1)
    fit = basis @ np.linalg.lstsq(basis, heard, rcond=None)[0]
    return float(np.sqrt(np.mean(fit**2))), float(np.sqrt(np.mean((heard - fit) ** 2)))


@pytest.mark.parametrize("pair", PAIRS)
def test_a_frame_in_is_a_frame_out_at_once(pair: tuple[int, int]) -> None:
    rate_in, rate_out = pair
    parts = in_frames(Resampler(rate_in, rate_out), tone(440, rate_in, 1.0))
    assert {len(part) for part in parts} == {rate_out // 50 * 2}


@pytest.mark.parametrize("rate_in", [*SLIN_RATES, 11025, 22050])
@pytest.mark.parametrize("rate_out", SLIN_RATES)
def test_every_pair_keeps_speech_and_adds_nothing(rate_in: int, rate_out: int) -> None:
    converter = Resampler(rate_in, rate_out)
    heard = samples([converter.convert(tone(1000, rate_in, 0.4))])
    level, rest = split(heard[rate_out // 20 :], 1000, rate_out)
    assert level == pytest.approx(10_000 / np.sqrt(2), rel=0.002)
    assert rest < 2  # 70 dB below: images, clicks at borders, hum


@pytest.mark.parametrize("ms", [10, 20, 30, 60])
@pytest.mark.parametrize("pair", PAIRS)
def test_no_click_at_the_borders_of_blocks(pair: tuple[int, int], ms: int) -> None:
    pcm = tone(700, pair[0], 0.6)
    whole = samples([Resampler(*pair).convert(pcm)])
    pieces = samples(in_frames(Resampler(*pair), pcm, ms))
    assert len(whole) == len(pieces)
    assert np.abs(whole - pieces).max() <= 1  # one step of rounding


@pytest.mark.parametrize("pair", [*PAIRS, (11025, 8000)])
def test_an_empty_block_gives_none(pair: tuple[int, int]) -> None:
    assert Resampler(*pair).convert(b"") == b""


@pytest.mark.slow
@settings(max_examples=50)
@given(st.sampled_from([*PAIRS, (11025, 8000), (12000, 44100)]), st.lists(st.integers(0, 3000), max_size=12))
def test_duration_is_exact_whatever_the_blocks(pair: tuple[int, int], sizes: list[int]) -> None:
    converter = Resampler(*pair)
    total_in = total_out = 0
    for size in sizes:
        total_in += size
        total_out += len(converter.convert(bytes(2 * size))) // 2
        assert total_out == -(-total_in * pair[1] // pair[0])


@settings(max_examples=25)
@given(st.sampled_from(PAIRS), st.data())
def test_cutting_into_blocks_changes_nothing(pair: tuple[int, int], data: st.DataObject) -> None:
    pcm = np.random.default_rng(1).integers(-9000, 9000, 3000).astype("<i2").tobytes()
    cuts = sorted(data.draw(st.sets(st.integers(0, 3000), max_size=8)))
    converter = Resampler(*pair)
    pieces = [converter.convert(pcm[2 * a : 2 * b]) for a, b in zip([0, *cuts], [*cuts, 3000], strict=True)]
    assert np.abs(samples(pieces) - samples([Resampler(*pair).convert(pcm)])).max() <= 1


@pytest.mark.parametrize("pair", PAIRS)
def test_frames_after_an_odd_beginning(pair: tuple[int, int]) -> None:
    pcm = tone(700, pair[0], 0.3)
    converter = Resampler(*pair)
    pieces = [converter.convert(pcm[:14]), *in_frames(converter, pcm[14:])]
    assert np.abs(samples(pieces) - samples([Resampler(*pair).convert(pcm)])).max() <= 1


@pytest.mark.parametrize("pair", PAIRS)
def test_a_constant_stays_constant(pair: tuple[int, int]) -> None:
    """Were the filter's phases not alike loud, there would be a hum."""
    heard = samples([Resampler(*pair).convert(np.full(pair[0] // 5, 30_000, "<i2").tobytes())])
    assert set(heard[pair[1] // 50 :]) == {30_000}


def test_an_alias_is_not_heard() -> None:
    """6 kHz does not exist at 8 kHz. audioop.ratecv would turn it into a tone of 2 kHz, as loud as it was."""
    heard = samples(in_frames(Resampler(16000, 8000), tone(6000, 16000, 1.0)))
    assert np.abs(heard[400:]).max() <= 1


def test_an_image_is_not_heard() -> None:
    """3 kHz at 8 kHz has its mirror at 5 kHz."""
    heard = samples(in_frames(Resampler(8000, 16000), tone(3000, 8000, 1.0)))
    level, rest = split(heard[800:], 3000, 16000)
    assert 20 * np.log10(rest / level) < -75


@pytest.mark.parametrize(("frequency", "within_db"), [(300, 0.02), (1000, 0.02), (3000, 0.02), (3400, 0.5)])
@pytest.mark.parametrize("pair", [(8000, 16000), (16000, 8000), (44100, 8000), (24000, 8000)])
def test_the_telephone_band_is_flat(pair: tuple[int, int], frequency: int, within_db: float) -> None:
    heard = samples(in_frames(Resampler(*pair), tone(frequency, pair[0], 1.0)))
    level, _ = split(heard[pair[1] // 10 :], frequency, pair[1])
    assert abs(20 * np.log10(level * np.sqrt(2) / 10_000)) < within_db


@pytest.mark.parametrize("pair", PAIRS)
def test_delay_is_what_it_says_and_small(pair: tuple[int, int]) -> None:
    rate_in, rate_out = pair
    converter = Resampler(rate_in, rate_out)
    assert converter.delay_ms < 2.6
    click = np.zeros(rate_in // 10, "<i2")
    click[rate_in // 20] = 20_000
    heard = np.abs(samples([converter.convert(click.tobytes())]))
    found_ms = int(heard.argmax()) * 1000 / rate_out - 50
    assert found_ms == pytest.approx(converter.delay_ms, abs=1000 / min(pair))


def test_flush_gives_the_end() -> None:
    converter = Resampler(8000, 16000)
    click = np.zeros(160, "<i2")
    click[-1] = 20_000
    assert np.abs(samples([converter.convert(click.tobytes())])).max() < 20_000 * 0.3
    assert np.abs(samples([converter.flush()])).max() > 15_000


def test_loud_is_clipped_and_not_wrapped() -> None:
    square = np.where(np.arange(1600) // 20 % 2, 32767, -32768).astype("<i2").tobytes()
    heard = samples([Resampler(8000, 16000).convert(square)])
    assert heard.max() == 32767
    assert heard.min() == -32768
    assert np.mean(heard[200:] > 30_000) == pytest.approx(0.5, abs=0.1)


def test_nothing_in_nothing_out() -> None:
    assert Resampler(8000, 16000).convert(b"") == b""
    with pytest.raises(ValueError, match="multiple"):
        Resampler(8000, 16000).convert(b"abc")
