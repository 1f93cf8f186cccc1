"""Sample-exact comparison: which passages of a recording are what was sent, where something is inserted or missing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bridge.testing.peer import Samples, ulaw_bytes, ulaw_samples

RATE = 8000
KEY_SAMPLES = 80
"""This many samples in a row identify their place in a noise."""
FRAME_SAMPLES = 160
"""20 ms at 8 kHz: a machine that stalls loses or inserts whole frames, and only these."""
QUIET = 8
"""Samples up to this level are silence."""
MOST_STALLED = 0.1
"""What a busy machine may lose, as a share."""


@dataclass(frozen=True)
class Run:
    """A passage of a recording that holds what was sent, sample for sample.

    Args:
        at: its first sample in the recording.
        samples: how many there are.
        offset: its place in what was sent, minus ``at``.
    """

    at: int
    samples: int
    offset: int


def noise(seconds: float, rate: int, *, level: int = 3000, seed: int = 1) -> Samples:
    """Return white noise, in which every passage is unique and every sample survives G.711 mu-law as it is."""
    drawn = np.random.default_rng(seed).uniform(-level, level, round(seconds * rate)).astype(np.int16)
    values = ulaw_samples(ulaw_bytes(drawn)).copy()
    values[values == 0] = 8  # 0 has two codes, and phones decode one of them as 2
    return values


def runs(sent: Samples, heard: Samples) -> list[Run]:
    """Return the passages of a recording that are what was sent, in order.

    Args:
        sent: s16 samples, from `noise`.
        heard: s16 samples, at the same rate.
    """
    haystack = sent.astype("<i2").tobytes()
    found: list[Run] = []
    at = 0
    while at + KEY_SAMPLES <= len(heard):
        place = haystack.find(heard[at : at + KEY_SAMPLES].astype("<i2").tobytes())
        if place < 0 or place % 2 or not heard[at : at + KEY_SAMPLES].any():
            at += 1
            continue
        length = min(len(heard) - at, len(sent) - place // 2)
        differs = np.flatnonzero(heard[at : at + length] != sent[place // 2 : place // 2 + length])
        size = int(differs[0]) if len(differs) else length
        found.append(Run(at, size, place // 2 - at))
        at += size
    return found


def assert_exact(sent: Samples, heard: Samples, seconds: float) -> None:
    """Check that a recording holds what was sent, sample for sample, but for the frames that a busy machine loses.

    Audio that is resampled matches nowhere, and audio that is shifted by a part of a frame is found off the grid.

    Args:
        sent: s16 samples at 8 kHz, from `noise`.
        heard: s16 samples at 8 kHz, silent where nothing was sent.
        seconds: how much of it must be received at least, before what may be lost.

    Raises:
        AssertionError: there is too little, there is other audio, or a passage is shifted by a part of a frame.
    """
    found = runs(sent, heard)
    exact = sum(run.samples for run in found)
    assert exact >= (1 - MOST_STALLED) * seconds * RATE, found
    assert all((run.offset - found[0].offset) % FRAME_SAMPLES == 0 for run in found), found
    other = np.abs(heard.astype(np.int32)) > QUIET
    for run in found:
        other[run.at : run.at + run.samples] = False
    assert other.sum() < FRAME_SAMPLES, (int(other.sum()), found)


def copies(sent: Samples, heard: Samples) -> list[int]:
    """Return how many samples there are of each copy of what was sent, where it is heard repeatedly."""
    sizes: list[int] = []
    end = len(sent)
    for run in runs(sent, heard):
        place = run.at + run.offset
        if place < end:
            sizes.append(0)
        sizes[-1] += run.samples
        end = place + run.samples
    return sizes
