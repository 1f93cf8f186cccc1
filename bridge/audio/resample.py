"""Sampling rate conversion: band-limited, a frame out for every frame in, exact in duration.

A polyphase FIR, a windowed sinc. Why no library does it, and the measured alias, delay and cost of this one and of
five others: ``docs/decisions/resampling.md``.
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
"""Reach of the filter to each side, in samples of the lower rate. Steepness, delay and cost grow with it."""
KAISER_BETA: Final = 7.0
"""Shape of the window: 70 dB down where the filter stops."""
CUTOFF: Final = 0.92
"""Where the filter is half way down, as a part of the lower rate's band."""

_FRAMES_PER_SECOND = 50
_PIECE_SAMPLES = 1 << 16  # how much of a long block is worked on at once: it bounds the memory, not the result

Samples = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _Filter:
    """What all converters between two rates share."""

    up: int
    down: int
    phases: Samples
    """Coefficients, one row for each of the ``up`` places where a sample out can lie between two samples in."""
    step: int
    """Samples in that one multiplication with ``matrix`` moves on; a multiple of ``down``, so phases repeat."""
    matrix: Samples
    """``step + taps - 1`` samples in (rows) give ``step * up // down`` samples out (columns)."""

    @property
    def taps(self) -> int:
        return int(self.phases.shape[1])


class Resampler:
    """Converts one direction of one stream; it remembers the end of one block for the beginning of the next.

    ``n`` samples in since the beginning have given ``n * rate_out / rate_in`` samples out, rounded up: every 20 ms are
    answered with 20 ms at once, and there is no drift. The sound itself comes ``delay_ms`` later.

    Args:
        rate_in: rate of what goes in, in Hz.
        rate_out: rate of what comes out, in Hz.
    """

    def __init__(self, rate_in: int, rate_out: int) -> None:
        self.rate_in = rate_in
        self.rate_out = rate_out
        self._filter = design = _design(rate_in, rate_out)
        kept = design.taps - 1
        self._history: Samples = np.zeros(kept, np.float32)
        self._phase = 0  # samples in so far, modulo down
        # The usual block has its buffers ready: making views and arrays costs more than the arithmetic.
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
        """How much later than it went in the sound comes out, in milliseconds."""
        return (self._filter.taps // 2) * 1000 / self.rate_in

    def convert(self, pcm: bytes) -> bytes:
        """The samples out for the samples in ``pcm``; s16le both.

        Raises:
            ValueError: ``pcm`` ends in half a sample.
        """
        block = np.frombuffer(pcm, "<i2")
        if len(block) != self._frame_samples or self._phase:
            return _to_pcm(self._convert(block)) if len(block) else b""
        data = self._data
        kept = len(self._history)
        data[:kept] = self._history
        data[kept:] = block
        self._history = self._tail
        np.copyto(self._rows, self._windows)
        return _to_pcm(np.matmul(self._rows, self._filter.matrix, self._out))

    def flush(self) -> bytes:
        """What is still inside, pushed out by ``delay_ms`` of silence."""
        return self.convert(bytes(2 * (self._filter.taps // 2)))

    def _convert(self, block: NDArray[np.int16]) -> Samples:
        """Any block: one at a time up to where the phases begin anew, then by matrix, then the rest one at a time."""
        design = self._filter
        kept = design.taps - 1
        data: Samples = np.concatenate((self._history, block), dtype=np.float32)
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

    def _one_by_one(self, data: Samples, size: int) -> Samples:
        """Samples out for ``size`` samples in, each with the coefficients of its own phase."""
        design = self._filter
        first = ceil(self._phase * design.up / design.down) * design.down - self._phase * design.up
        times = np.arange(first, size * design.up, design.down)  # in 1/up of a sample in
        windows = np.lib.stride_tricks.sliding_window_view(data, design.taps)[times // design.up]
        out: Samples = np.einsum("ij,ij->i", windows, design.phases[times % design.up])
        return out


def _to_pcm(samples: Samples) -> bytes:
    np.rint(samples, out=samples)
    np.maximum(samples, -32768, out=samples)
    np.minimum(samples, 32767, out=samples)
    return samples.astype("<i2").tobytes()


def _windows(data: Samples, rows: int, design: _Filter) -> Samples:
    """What the matrix is multiplied with: row after row, each ``step`` samples further on. A view."""
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
    phases = phases / phases.sum(axis=1, keepdims=True)  # all phases alike loud: else a hum at the rate of the phases
    coefficients: Samples = phases[:, ::-1].astype(np.float32)  # in the order in which samples lie in memory

    step = _step(taps, down, rate_in)
    columns = step * up // down
    matrix = np.zeros((step + taps - 1, columns), np.float32)
    for column in range(columns):
        at, phase = divmod(column * down, up)
        matrix[at : at + taps, column] = coefficients[phase]
    return _Filter(up, down, coefficients, step, matrix)


def _step(taps: int, down: int, rate_in: int) -> int:
    """Whole periods, a divisor of the 20 ms frame where it can be, about as long as the filter.

    Shorter ones copy every sample more often into windows, longer ones multiply with more of the matrix's zeros.
    """
    frame = rate_in // _FRAMES_PER_SECOND
    fitting = [step for step in range(down, frame + 1, down) if frame % step == 0]
    return min(fitting, key=lambda step: abs(step - taps), default=down)
