"""Noise that numbers its own samples, and ears that find every lost, repeated, damaged or foreign frame of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from bridge.testing.peer import ulaw_bytes, ulaw_samples
from tests.lab.exact import FRAME_SAMPLES, KEY_SAMPLES, QUIET, RATE, noise

FRAME_S = 0.02
PERIOD_FRAMES = 500
"""After 10 s the noise repeats: up to 5 s of it can be lost or repeated and are still counted."""

Encoding = str
"""``ulaw`` or ``slin``."""
SAMPLE_BYTES: Mapping[Encoding, int] = {"ulaw": 1, "slin": 2}


class Noise:
    """White noise of one party or application, the same in each encoding.

    Each sample survives G.711 mu-law unchanged.

    Args:
        seed: another noise for each.
    """

    def __init__(self, seed: int) -> None:
        samples = noise(PERIOD_FRAMES * FRAME_S, RATE, seed=seed)
        self.audio: Mapping[Encoding, bytes] = {"ulaw": ulaw_bytes(samples), "slin": samples.astype("<i2").tobytes()}

    def frames(self, encoding: Encoding, first: int, count: int = 1) -> bytes:
        """Return frames by their number, which may exceed the period."""
        size, audio = FRAME_SAMPLES * SAMPLE_BYTES[encoding], self.audio[encoding]
        numbers = (number % PERIOD_FRAMES for number in range(first, first + count))
        return b"".join(audio[number * size : (number + 1) * size] for number in numbers)


@dataclass(frozen=True)
class Fault:
    """What is wrong with received audio.

    Args:
        at: when it was received, in seconds of the clock.
        where: name of the ear.
        kind: ``lost``, ``repeated``, ``silent``, ``damaged`` or ``foreign``.
        frames: how many frames of 20 ms, rounded up.
    """

    at: float
    where: str
    kind: str
    frames: int


class Ear:
    """Judges what is received of one noise, frame by frame, while `judging`, from its first frame on.

    Args:
        name: names it in faults.
        noise: what should be received.
        encoding: of the received audio.
        through_snoop: the audio passes Asterisk's snoop, which has no reserve: where a frame of its party is late by
            any time, it sends one of silence, and has a reserve of 20 ms from then on. This first one is not a fault.
        others: all noises; what is received of another one is foreign.
        clock: the time in seconds.
        report: called with each fault.
    """

    def __init__(
        self,
        name: str,
        noise: Noise,
        encoding: Encoding,
        *,
        through_snoop: bool = False,
        others: Callable[[], list[Noise]],
        clock: Callable[[], float],
        report: Callable[[Fault], object],
    ) -> None:
        self.name = name
        self.frames = 0
        """Frames of time that have passed in what was received since the first one of the noise; lost ones count."""
        self.began: float | None = None
        """When that first one was received."""
        self.judging = False
        """Set while the call is up in all its parts."""
        self.totals: Counter[str] = Counter()
        self._noise = noise
        self._encoding = encoding
        self._reserve = not through_snoop
        """Whether a silent frame is a fault."""
        self._others = others
        self._clock = clock
        self._report = report
        self._size = FRAME_SAMPLES * SAMPLE_BYTES[encoding]
        self._key = KEY_SAMPLES * SAMPLE_BYTES[encoding]
        audio = noise.audio[encoding]
        self._period = len(audio)
        self._audio = audio + audio[: self._size]
        self._at = 0
        """Where in the noise the next frame should be, in bytes."""

    def take(self, audio: bytes) -> None:
        """Judge received audio: whole frames, as nobody cuts them."""
        if not self.judging:
            return
        for begin in range(0, len(audio), self._size):
            self._take(audio[begin : begin + self._size])

    @property
    def behind_s(self) -> float:
        """By how many seconds less audio has been received than the clock demands; negative: more."""
        return 0.0 if self.began is None else self._clock() - self.began - self.frames * FRAME_S

    def _take(self, frame: bytes) -> None:
        if self.began is None:
            self._at = self._find(frame, self._audio)
            if self._at < 0:
                return
            self.began = self._clock()
        self.frames += 1
        if self._audio[self._at : self._at + len(frame)] == frame:
            self._step()
            return
        if self._is_silent(frame):
            if self._reserve:
                self._fault("silent", 1)
            self._reserve = True
            return
        found = self._find(frame, self._audio)
        if found < 0:
            foreign = any(
                self._find(frame, other.audio[self._encoding]) >= 0
                for other in self._others()
                if other is not self._noise
            )
            self._fault("foreign" if foreign else "damaged", 1)
            self._step()  # it was sent in place of what is expected, or mixed with it
            return
        ahead = (found - self._at) % self._period
        if ahead <= self._period // 2:
            count = -(-ahead // self._size)
            self.frames += count
            self._fault("lost", count)
        else:
            count = -(-(self._period - ahead) // self._size)
            self.frames -= count
            self._fault("repeated", count)
        self._at = found
        self._step()

    def _step(self) -> None:
        self._at = (self._at + self._size) % self._period

    def _find(self, frame: bytes, audio: bytes) -> int:
        """Return where a frame is in a noise, in bytes; -1: nowhere."""
        sample = SAMPLE_BYTES[self._encoding]
        at = audio.find(frame[: self._key])
        return at % self._period if at >= 0 and at % sample == 0 and audio.startswith(frame, at) else -1

    def _is_silent(self, frame: bytes) -> bool:
        samples = ulaw_samples(frame) if self._encoding == "ulaw" else np.frombuffer(frame, "<i2")
        return bool((np.abs(samples.astype(np.int32)) <= QUIET).all())

    def _fault(self, kind: str, frames: int) -> None:
        self.totals[kind] += frames
        self._report(Fault(self._clock(), self.name, kind, frames))
