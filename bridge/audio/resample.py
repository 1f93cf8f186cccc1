"""Sampling rate conversion: band-limited, one frame out for each frame in, exact in duration.

A polyphase FIR filter, a windowed sinc. The decision against a library, with measured aliasing, delay and cost of this
and five other implementations: ``docs/decisions/resampling.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import ceil, gcd
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

ZERO_CROSSINGS: Final = 20
"""Half length of the filter in samples of the lower rate. Steepness, delay and cost grow with it."""
KAISER_BETA: Final = 7.0
"""Shape of the window: 70 dB of stop-band attenuation."""
CUTOFF: Final = 0.92
"""The -6 dB point, as a fraction of the lower rate's band."""

_FRAMES_PER_SECOND = 50
_PIECE_SAMPLES = 1 << 16  # samples converted in one step: bounds memory, does not change the result

FloatSamples = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _Filter:
    """Coefficients that all converters between two rates share."""

    up: int
    down: int
    phases: FloatSamples
    """Coefficients, one row for each of the ``up`` positions of an output sample between two input samples."""
    step: int
    """Input samples that one multiplication with ``matrix`` advances; a multiple of ``down``, as phases must repeat."""
    matrix: FloatSamples
    """Turns ``step + taps - 1`` input samples (rows) into ``step * up // down`` output samples (columns)."""

    @property
    def taps(self) -> int:
        return int(self.phases.shape[1])


class Resampler:
    """Converts one direction of one stream; keeps the end of each block for the next one.

    After ``n`` input samples, ``n * rate_out / rate_in`` samples are out, rounded up: each 20 ms in yields 20 ms out
    immediately, without drift. The signal itself is delayed by ``delay_ms``.

    Args:
        rate_in: input rate in Hz.
        rate_out: output rate in Hz.
    """

    def __init__(self, rate_in: int, rate_out: int) -> None:
        self.rate_in = rate_in
        self.rate_out = rate_out
        self._filter = design = _design(rate_in, rate_out)
        kept = design.taps - 1
        self._history: FloatSamples = np.zeros(kept, np.float32)
        self._phase = 0  # input samples so far, modulo down
        # Buffers for the usual block are allocated once: creating views and arrays costs more than the arithmetic.
        frame = rate_in // _FRAMES_PER_SECOND if rate_in % _FRAMES_PER_SECOND == 0 else 0
        self._frame_samples = frame if frame % design.step == 0 else 0
        if self._frame_samples:
            rows, columns = frame // design.step, design.matrix.shape[1]
            self._data = np.zeros(kept + frame, np.float32)
            self._tail = self._data[frame:]
            self._windows = _windows(self._data, rows, design)
            self._rows = np.empty(self._windows.shape, np.float32)
            self._out = np.empty((rows, columns), np.float32)

    @property
    def delay_ms(self) -> float:
        """Delay of the signal, in milliseconds."""
        return (self._filter.taps // 2) * 1000 / self.rate_in

    def convert(self, pcm: bytes) -> bytes:
        """Convert samples; s16le in and out.

        Returns:
            The output samples for all input so far that were not returned before.

        Raises:
            ValueError: ``pcm`` ends in half a sample.
        """
        block = np.frombuffer(pcm, "<i2")
        if not pcm:
            return b""
        if len(block) != self._frame_samples or self._phase:
            return _to_pcm(self._convert(block))
        data = self._data
        kept = len(self._history)
        data[:kept] = self._history
        data[kept:] = block
        self._history = self._tail
        np.copyto(self._rows, self._windows)
        return _to_pcm(np.matmul(self._rows, self._filter.matrix, self._out))

    def flush(self) -> bytes:
        """Return the samples still inside the filter, pushed out by ``delay_ms`` of silence."""
        return self.convert(bytes(2 * (self._filter.taps // 2)))

    def _convert(self, block: NDArray[np.int16]) -> FloatSamples:
        """Convert any block: single samples up to the next phase 0, then by matrix, then the remaining ones."""
        design = self._filter
        kept = design.taps - 1
        data: FloatSamples = np.concatenate((self._history, block), dtype=np.float32)
        self._history = data[len(data) - kept :].copy()
        parts = []
        at, end = 0, len(block)
        while at < end:
            if self._phase or end - at < design.step:
                size = min(design.down - self._phase, end - at) if self._phase else end - at
                parts.append(self._one_by_one(data[at : at + kept + size], size))
                self._phase = (self._phase + size) % design.down
            else:
                rows = min(end - at, max(_PIECE_SAMPLES, design.step)) // design.step
                size = rows * design.step
                windows = _windows(data[at : at + kept + size], rows, design)
                parts.append((np.ascontiguousarray(windows) @ design.matrix).ravel())
            at += size
        return np.concatenate(parts)

    def _one_by_one(self, data: FloatSamples, size: int) -> FloatSamples:
        """Return the output for ``size`` input samples, each computed with the coefficients of its own phase."""
        design = self._filter
        first = ceil(self._phase * design.up / design.down) * design.down - self._phase * design.up
        times = np.arange(first, size * design.up, design.down)  # in 1/up of an input sample
        windows = np.lib.stride_tricks.sliding_window_view(data, design.taps)[times // design.up]
        out: FloatSamples = np.einsum("ij,ij->i", windows, design.phases[times % design.up])
        return out


def _to_pcm(samples: FloatSamples) -> bytes:
    np.rint(samples, out=samples)
    np.maximum(samples, -32768, out=samples)
    np.minimum(samples, 32767, out=samples)
    return samples.astype("<i2").tobytes()


def _windows(data: FloatSamples, rows: int, design: _Filter) -> FloatSamples:
    """Return a view of the rows that the matrix multiplies, each ``step`` samples after the one before."""
    size = data.itemsize
    return as_strided(data, (rows, design.matrix.shape[0]), (design.step * size, size), writeable=False)


@cache
def _design(rate_in: int, rate_out: int) -> _Filter:
    divisor = gcd(rate_in, rate_out)
    up, down = rate_out // divisor, rate_in // divisor
    lower = min(rate_in, rate_out)
    half = ceil(ZERO_CROSSINGS * rate_in / lower)
    taps = 2 * half
    time = (np.arange(taps * up) / up - half) * lower / rate_in  # in samples of the lower rate, from the middle
    ideal = np.sinc(CUTOFF * time) * np.kaiser(taps * up + 1, KAISER_BETA)[:-1]
    phases = ideal.reshape(taps, up).T
    phases = phases / phases.sum(axis=1, keepdims=True)  # equal gain in all phases; otherwise a hum at the phase rate
    coefficients: FloatSamples = phases[:, ::-1].astype(np.float32)  # in the order of samples in memory

    step = _step(taps, down, rate_in)
    columns = step * up // down
    matrix = np.zeros((step + taps - 1, columns), np.float32)
    for column in range(columns):
        at, phase = divmod(column * down, up)
        matrix[at : at + taps, column] = coefficients[phase]
    return _Filter(up, down, coefficients, step, matrix)


def _step(taps: int, down: int, rate_in: int) -> int:
    """Return a number of input samples for one matrix: whole periods, preferably a divisor of the 20 ms frame.

    About as long as the filter: shorter steps copy samples into more windows, longer ones multiply more zeros.
    """
    frame = rate_in // _FRAMES_PER_SECOND
    fitting = [step for step in range(down, frame + 1, down) if frame % step == 0]
    return min(fitting, key=lambda step: abs(step - taps), default=down)
