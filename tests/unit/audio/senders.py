"""Senders of audio in virtual time, and what a playout makes of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from bridge.audio.adaptive_lead import AdaptiveLead
from bridge.audio.format import FRAME_MS, slin
from bridge.audio.playout import Playout

FMT = slin(8000)
MS_BYTES = 16
Arrival = tuple[float, bytes]
"""When, in milliseconds, and what."""


def noise(ms: int, seed: int = 1) -> bytes:
    """Return loud noise."""
    return random.Random(seed).randbytes(ms * MS_BYTES)


def steady(audio: bytes, chunk_ms: int = FRAME_MS, late_ms: Callable[[], float] = lambda: 0.0) -> list[Arrival]:
    """Send audio in real time and in order.

    Args:
        audio: s16le at 8 kHz.
        chunk_ms: length of a message.
        late_ms: returns how much later than its time a message is sent; later ones wait for it.
    """
    size = chunk_ms * MS_BYTES
    arrivals: list[Arrival] = []
    last = 0.0
    for at in range(0, len(audio), size):
        last = max(last, at / MS_BYTES + late_ms())
        arrivals.append((last, audio[at : at + size]))
    return arrivals


def stalled(arrivals: Iterable[Arrival], from_ms: float, for_ms: float) -> list[Arrival]:
    """Hold back what arrives in a period until its end."""
    return [(from_ms + for_ms if from_ms <= at < from_ms + for_ms else at, pcm) for at, pcm in arrivals]


@dataclass
class Heard:
    """What was played.

    Args:
        lead: the playout's.
        frames: one for each tick; None is silence.
        holes_ms: when silence began while more was to come.
        delays_ms: for each played frame, time since the arrival of its first sample, minus the audio before it in the
            same message.
    """

    lead: AdaptiveLead
    frames: list[bytes | None] = field(default_factory=list)
    holes_ms: list[float] = field(default_factory=list)
    delays_ms: list[float] = field(default_factory=list)

    @property
    def audio(self) -> bytes:
        """Everything but silence."""
        return b"".join(frame for frame in self.frames if frame is not None)

    @property
    def p50_ms(self) -> float:
        """The median of the delays."""
        return median(self.delays_ms)


def listen(
    arrivals: Sequence[Arrival], phase_ms: float = 9.0, *, min_ms: int = 20, max_ms: int = 100, after_ms: float = 400
) -> Heard:
    """Play what arrives, one frame every 20 ms.

    Args:
        arrivals: in order.
        phase_ms: time of the first tick.
        min_ms: smallest lead.
        max_ms: largest lead.
        after_ms: how long to listen after the last arrival, in addition to what is queued then.
    """
    now = 0.0
    heard = Heard(AdaptiveLead(min_ms, max_ms, lambda: now / 1000))
    playout = Playout(FMT, 600_000, lead=heard.lead)
    pending = list(reversed(arrivals))
    starts: list[tuple[float, float]] = []  # of the messages: place in the audio and time of arrival
    queued = played = 0.0
    tick = phase_ms
    end = arrivals[-1][0] + after_ms
    while tick < end or playout.queued_ms:
        while pending and pending[-1][0] <= tick:
            now, pcm = pending.pop()
            starts.append((queued, now))
            queued += len(pcm) / MS_BYTES
            playout.play(pcm)
        now = tick
        before = playout.queued_ms
        frame = playout.take()
        if frame is None:
            if played and pending and heard.frames[-1] is not None:
                heard.holes_ms.append(tick)
        else:
            while len(starts) > 1 and starts[1][0] <= played:
                starts.pop(0)
            heard.delays_ms.append(tick - starts[0][1] - (played - starts[0][0]))
            played += before - playout.queued_ms
        heard.frames.append(frame)
        tick += FRAME_MS
    return heard


def speech(ms: int, pause_ms: int = 400, rate: int = FMT.rate) -> bytes:
    """Return a voice of 120 Hz, which pauses once a second."""
    times = np.arange(ms * rate // 1000) / rate
    voice = sum(3000 / each * np.sin(2 * np.pi * 120 * each * times) for each in range(1, 8))
    return np.where(times % 1 < 1 - pause_ms / 1000, voice, 0).astype("<i2").tobytes()
