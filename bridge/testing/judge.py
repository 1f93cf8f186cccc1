"""Measurements of audio: tones and their levels, beginning, dropouts, delay.

All functions take 16-bit mono samples (`int16` arrays). Levels are amplitudes: a full-scale sine has 32767.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.int16]

BLOCK_S = 0.01  # resolution of `onset` and `dropouts`
DTMF_ROWS_HZ = (697, 770, 852, 941)
DTMF_COLUMNS_HZ = (1209, 1336, 1477, 1633)
DTMF_KEYS = ("123A", "456B", "789C", "*0#D")


def tone(freq: float, seconds: float, rate: int, level: int = 8000) -> Samples:
    """Return a sine tone."""
    times = np.arange(round(seconds * rate)) / rate
    return np.round(level * np.sin(2 * np.pi * freq * times)).astype(np.int16)


def silence(seconds: float, rate: int) -> Samples:
    """Return silence: samples of value 0."""
    return np.zeros(round(seconds * rate), np.int16)


def sweep(seconds: float, rate: int, level: int = 8000, from_hz: float = 300, to_hz: float = 3000) -> Samples:
    """Return a tone of rising frequency, which identifies each point in time, as `delay` needs."""
    times = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * (from_hz * times + (to_hz - from_hz) * times**2 / (2 * seconds))
    return np.round(level * np.sin(phase)).astype(np.int16)


def level_of(samples: Samples, freq: float, rate: int) -> float:
    """Return the amplitude of one frequency in a passage; in 0.2 s, tones 20 Hz apart are distinguished."""
    if not len(samples):
        return 0.0
    window = np.hanning(len(samples) + 2)[1:-1]
    turned = samples * window * np.exp(-2j * np.pi * freq / rate * np.arange(len(samples)))
    return float(2 * np.abs(turned.sum()) / window.sum())


def rms(samples: Samples) -> float:
    """Return the root of the mean square; a full-scale sine has 23170."""
    return float(np.sqrt(np.mean(samples.astype(np.float64) ** 2))) if len(samples) else 0.0


def loudest(samples: Samples, rate: int, above_hz: float = 100) -> float:
    """Return the strongest frequency of a passage, in Hz."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    frequencies = np.fft.rfftfreq(len(samples), 1 / rate)
    spectrum[frequencies < above_hz] = 0
    return float(frequencies[int(np.argmax(spectrum))])


def block_levels(
    samples: Samples, rate: int, freq: float | None = None, block_s: float = BLOCK_S
) -> NDArray[np.float64]:
    """Return the level of every block: of one frequency, or of everything (root of twice the mean square)."""
    size = round(block_s * rate)
    blocks = samples[: len(samples) // size * size].reshape(-1, size).astype(np.float64)
    if freq is None:
        everything: NDArray[np.float64] = np.sqrt(2 * np.mean(blocks**2, axis=1))
        return everything
    turn = np.exp(-2j * np.pi * freq / rate * np.arange(size))
    levels: NDArray[np.float64] = 2 * np.abs(blocks @ turn) / size
    return levels


def onset(samples: Samples, rate: int, freq: float | None = None, threshold: float = 1000) -> float | None:
    """Return when sound, or a tone, first reaches a level, in seconds; None if never."""
    loud = np.flatnonzero(block_levels(samples, rate, freq) >= threshold)
    return float(loud[0]) * BLOCK_S if len(loud) else None


@dataclass(frozen=True)
class Dropout:
    """An interruption of a steady sound."""

    begins_s: float
    seconds: float


def dropouts(samples: Samples, rate: int, freq: float | None = None, floor: float = 0.5) -> list[Dropout]:
    """Return the dropouts of a steady sound: passages below a share of its median level."""
    levels = block_levels(samples, rate, freq)
    if not len(levels) or levels.max() == 0:
        return []
    sounding = np.flatnonzero(levels > floor * levels.max())
    inside = levels[sounding[0] : sounding[-1] + 1]
    quiet = np.concatenate([[False], inside < floor * np.median(inside), [False]])
    begins, ends = (np.flatnonzero(np.diff(quiet.astype(np.int8)) == step) for step in (1, -1))
    return [
        Dropout(float(sounding[0] + begin) * BLOCK_S, float(end - begin) * BLOCK_S)
        for begin, end in zip(begins, ends, strict=True)
    ]


@dataclass(frozen=True)
class Delay:
    """The delay between two recordings of the same audio.

    Args:
        seconds: the delay; negative if the received audio is earlier.
        likeness: 0 to 1; 1 is the same sound at any volume. Below 0.5 the delay is unreliable.
    """

    seconds: float
    likeness: float


def delay(sent: Samples, heard: Samples, rate: int) -> Delay:
    """Find the sent audio in the received audio, by cross-correlation; does not work for steady tones."""
    if not sent.any() or not heard.any():
        return Delay(0.0, 0.0)
    a, b = sent.astype(np.float64), heard.astype(np.float64)
    size = 1 << (len(a) + len(b) - 1).bit_length()
    products = np.fft.irfft(np.fft.rfft(b, size) * np.conj(np.fft.rfft(a, size)), size)
    lags = np.concatenate([products[: len(b)], products[size - len(a) + 1 :]])
    best = int(np.argmax(np.abs(lags)))
    shift = best if best < len(b) else best - len(lags)
    overlap_a = a[max(0, -shift) : len(b) - shift]
    overlap_b = b[max(0, shift) : max(0, shift) + len(overlap_a)]
    overlap_a = overlap_a[: len(overlap_b)]
    strength = float(np.linalg.norm(overlap_a) * np.linalg.norm(overlap_b))
    return Delay(shift / rate, float(abs(lags[best])) / strength if strength else 0.0)


def dtmf(samples: Samples, rate: int) -> str:
    """Return the DTMF digits whose tones are in the audio (ITU-T Q.23), one for each passage of at least 30 ms."""
    rows = np.array([block_levels(samples, rate, f, 0.015) for f in DTMF_ROWS_HZ])
    columns = np.array([block_levels(samples, rate, f, 0.015) for f in DTMF_COLUMNS_HZ])
    total = block_levels(samples, rate, None, 0.015)
    keys: list[str] = []
    previous = ""
    run = 0
    for block in range(rows.shape[1]):
        row, column = int(np.argmax(rows[:, block])), int(np.argmax(columns[:, block]))
        power = np.hypot(rows[row, block], columns[column, block])
        pure = total[block] > 500 and power > 0.8 * total[block]
        balanced = pure and 0.3 < rows[row, block] / max(columns[column, block], 1e-9) < 3.3
        key = DTMF_KEYS[row][column] if balanced else ""
        run = run + 1 if key and key == previous else 1
        if key and run == 2:
            keys.append(key)
        previous = key
    return "".join(keys)


@dataclass(frozen=True)
class Found:
    """A known sound in a recording.

    Args:
        offset_s: where it begins; a jitter buffer may have moved later parts a little. Negative, by at most `MISSED_S`,
            if the recording begins within the sound.
        likeness: 0 to 1; 1 is the same sound at another volume. After G.711 and another sampling rate 0.95 and more,
            with a frame lost 0.9. Of another sentence by the same voice below 0.4, of a single other word up to 0.5;
            where half of it is the same, because it was cut off or the sentences share words, up to 0.75.
    """

    offset_s: float
    likeness: float


MISSED_S = 0.2
"""How much later than a sound its recording may begin."""
SLIP_S = 0.1
"""How far a jitter buffer may have moved a part of a sound against its beginning."""
_PIECE_S = 0.6
_HOP_S = 0.01
_WINDOW_S = 0.032
_BAND_EDGES_HZ = (200, 300, 400, 500, 620, 760, 920, 1100, 1300, 1530, 1800, 2100, 2450, 2850, 3300)
_DYNAMICS = 1e-4  # quieter than this part of the loudest power is silence: the noise of G.711 must not count
_QUIET = 30.0  # root of the mean square below which a passage counts as silence


def find(reference: Samples, recording: Samples, rate: int, *, least: float = 0.8) -> list[Found]:
    """Find every occurrence of a known sound, for example a synthesized sentence, in a recording, in order.

    Two properties must match: the short-time spectrum of the whole sound (the same words at the same pace), and the
    waveform piece by piece, which another sentence by the same voice does not have. Volume, G.711, resampling and the
    adjustments of a jitter buffer change little of either.

    Args:
        reference: the sound, as it was sent, at `rate`; at least 0.2 s, not a steady tone (use `level_of`).
        recording: the received audio, at `rate`.
        rate: sampling rate in Hz.
        least: the smallest accepted likeness. The default requires the whole sound.
    """
    if len(reference) < 0.2 * rate or not reference.any() or not recording.any():
        return []
    recording = np.concatenate([silence(MISSED_S, rate), recording])
    spectral = _spectral_likeness(reference, recording, rate)
    hop = round(_HOP_S * rate)
    found: list[Found] = []
    left = spectral.copy()
    while left.size and left.max() >= least**2:  # the waveform's likeness is at most 1
        at = int(np.argmax(left))
        offset, waveform = _waveform_likeness(reference, recording, at * hop, rate)
        likeness = float(np.sqrt(spectral[at] * waveform))
        if likeness >= least:
            found.append(Found(offset / rate - MISSED_S, likeness))
        # The same match must not be found again; a mismatch excludes only its neighborhood.
        reach = len(reference) // hop // 2 if likeness >= least else round(0.05 / _HOP_S)
        left[max(0, at - reach) : at + reach + 1] = 0
    return sorted(found, key=lambda one: one.offset_s)


def _bands(samples: Samples, rate: int) -> NDArray[np.float64]:
    """Return the logarithm of the power in each band, one row for each 10 ms."""
    size = round(_WINDOW_S * rate)
    padded = np.concatenate([samples.astype(np.float64), np.zeros(size)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, size)[:: round(_HOP_S * rate)]
    power = np.abs(np.fft.rfft(windows * np.hanning(size), axis=1)) ** 2
    frequencies = np.fft.rfftfreq(size, 1 / rate)
    edges = pairwise(_BAND_EDGES_HZ)
    bands = np.stack([power[:, (frequencies >= low) & (frequencies < high)].sum(axis=1) for low, high in edges], axis=1)
    levels: NDArray[np.float64] = np.log10(np.maximum(bands, max(float(bands.max()) * _DYNAMICS, 1.0)))
    return levels


def _spectral_likeness(reference: Samples, recording: Samples, rate: int) -> NDArray[np.float64]:
    """Correlate the two spectrograms, each band without its mean, for each 10 ms at which the sound may begin."""
    sought, heard = _bands(reference, rate), _bands(recording, rate)
    rows = len(sought)
    places = len(heard)
    sought = sought - sought.mean(axis=0)
    heard = np.concatenate([heard, np.repeat(heard.min(axis=0)[None], rows, axis=0)])
    size = 1 << (len(heard) + rows).bit_length()
    spectra = np.fft.rfft(heard, size, axis=0) * np.conj(np.fft.rfft(sought, size, axis=0))
    products = np.fft.irfft(spectra, size, axis=0).sum(axis=1)[:places]

    def sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
        running = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
        result: NDArray[np.float64] = running[rows : rows + places] - running[:places]
        return result

    variance = (sums(heard**2) - sums(heard) ** 2 / rows).sum(axis=1)
    strength = np.linalg.norm(sought) * np.sqrt(np.maximum(variance, 1e-3 * rows))
    likeness: NDArray[np.float64] = np.clip(products / np.maximum(strength, 1e-9), 0, 1)
    return likeness


def _waveform_likeness(reference: Samples, recording: Samples, at: int, rate: int) -> tuple[int, float]:
    """Return where the sound begins near a place, and the likeness of the waveforms, weighted by energy."""
    slip = round(SLIP_S * rate)
    padded = np.concatenate([np.zeros(slip), recording, np.zeros(len(reference) + 2 * slip)])
    pieces = max(1, round(len(reference) / (_PIECE_S * rate)))
    edges = np.linspace(0, len(reference), pieces + 1).astype(int)
    begins: int | None = None
    likeness = weights = 0.0
    for first, last in pairwise(edges):
        piece = reference[first:last].astype(np.float64)
        energy = float(piece @ piece)
        if energy < len(piece) * _QUIET**2:
            continue
        heard = padded[at + first : at + last + 2 * slip]
        size = 1 << (len(heard) + len(piece)).bit_length()
        products = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(piece, size)), size)[: 2 * slip + 1]
        running = np.concatenate([[0.0], np.cumsum(heard**2)])
        energies = running[len(piece) : len(piece) + 2 * slip + 1] - running[: 2 * slip + 1]
        likenesses = np.abs(products) / np.sqrt(energy * np.maximum(energies, len(piece) * _QUIET**2))
        best = int(np.argmax(likenesses))
        begins = at + best - slip if begins is None else begins
        likeness += energy * float(likenesses[best])
        weights += energy
    return max(0, at if begins is None else begins), likeness / weights if weights else 0.0
