"""Shortening of speech without a change of its pitch: a few milliseconds are cut out where the audio repeats itself."""

from __future__ import annotations

import array
import warnings

with warnings.catch_warnings():
    # As in g711.py: Python 3.11 and 3.12 warn of the removal, which audioop-lts solves.
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop

MIN_CUT_MS = 5
MAX_CUT_MS = 15
JOIN_MS = 10
"""Duration of the passage that is compared, and over which the audio fades from before the cut to after it."""
NEEDED_MS = MAX_CUT_MS + JOIN_MS
"""Least duration of audio that can be shortened."""
LEAST_LIKENESS = 0.75
"""Smallest correlation of the two passages of a join, at most 1; it is smaller in noise and at the onset of a sound."""
COARSE_RATE = 4000
"""Rate in Hz of the first comparison."""
QUIET = 100
"""Level (root of the mean square, of 32767) below which audio is a pause: -50 dB."""


def is_quiet(pcm: bytes) -> bool:
    """Return whether s16le samples are a pause."""
    return audioop.rms(pcm, 2) < QUIET


def shorten(pcm: bytes, rate: int) -> bytes:
    """Cut 5 to 15 ms out of the beginning of a passage.

    Args:
        pcm: s16le samples, `NEEDED_MS` or more.
        rate: in Hz.

    Returns:
        The shorter passage, or ``pcm`` where it does not resemble itself.
    """
    first, join, end = (rate * ms // 1000 for ms in (MIN_CUT_MS, JOIN_MS, NEEDED_MS))
    samples = memoryview(pcm).cast("h")
    # First roughly, on a few of the samples, then exactly around the best place.
    step = max(rate // COARSE_RATE, 1)
    coarse = array.array("h", samples[:end:step])
    skipped = -(-first // step)
    before, after = coarse[: join // step].tobytes(), coarse[skipped:].tobytes()
    offset, factor = audioop.findfit(after, before)
    if _correlation(factor, before, after[2 * offset : 2 * offset + len(before)]) < LEAST_LIKENESS:
        return pcm
    about = (skipped + offset) * step
    begin = max(about - step, first)
    offset, _ = audioop.findfit(pcm[2 * begin : 2 * min(about + step + join, end)], pcm[: 2 * join])
    cut = begin + offset
    return _faded(pcm[: 2 * join], pcm[2 * cut : 2 * (cut + join)]) + pcm[2 * (cut + join) :]


def _correlation(factor: float, one: bytes, other: bytes) -> float:
    """Return the correlation of two passages, from the factor by which the first fits the second best; 0 for silence.

    The factor alone also contains the ratio of the levels: it is large where a louder sound begins.
    """
    level, other_level = audioop.rms(one, 2), audioop.rms(other, 2)
    return factor * level / other_level if level and other_level else 0.0


def _faded(one: bytes, other: bytes) -> bytes:
    """Return a linear transition between two passages of the same length."""
    before, after = array.array("h", one), array.array("h", other)
    size = len(before)
    for index, sample in enumerate(after):
        before[index] += (sample - before[index]) * index // size
    return before.tobytes()
