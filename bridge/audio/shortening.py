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
"""Smallest factor between the two passages of a join: there is none in noise, and none at the onset of a sound."""
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
    offset, likeness = audioop.findfit(coarse[skipped:].tobytes(), coarse[: join // step].tobytes())
    if likeness < LEAST_LIKENESS:
        return pcm
    about = (skipped + offset) * step
    begin = max(about - step, first)
    offset, _ = audioop.findfit(pcm[2 * begin : 2 * min(about + step + join, end)], pcm[: 2 * join])
    cut = begin + offset
    return _faded(pcm[: 2 * join], pcm[2 * cut : 2 * (cut + join)]) + pcm[2 * (cut + join) :]


def _faded(one: bytes, other: bytes) -> bytes:
    """Return a linear transition between two passages of the same length."""
    before, after = array.array("h", one), array.array("h", other)
    size = len(before)
    for index, sample in enumerate(after):
        before[index] += (sample - before[index]) * index // size
    return before.tobytes()
