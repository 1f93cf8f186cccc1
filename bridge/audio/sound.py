"""A whole sound in memory: what is spoken, fetched or made, before it is played into a call."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, gcd


@dataclass(frozen=True, slots=True)
class Sound:
    """A sound.

    Args:
        pcm: signed 16-bit little-endian samples, mono.
        rate: samples per second, in Hz.
    """

    pcm: bytes
    rate: int

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.pcm) / 2 / self.rate

    def at(self, rate: int) -> Sound:
        """The same sound at another rate; that takes well under a millisecond for each second of sound."""
        if rate == self.rate:
            return self
        from bridge.audio.resample import Resampler  # numpy is only for audio of another rate

        resampler = Resampler(self.rate, rate)
        # What comes out late by whole samples can be cut to begin at once: silence before it makes the delay such.
        late = round(resampler.delay_ms * self.rate / 1000)
        before = -late % (self.rate // gcd(self.rate, rate))
        pcm = resampler.convert(bytes(2 * before) + self.pcm) + resampler.flush()
        first = (late + before) * rate // self.rate
        samples = ceil(len(self.pcm) // 2 * rate / self.rate)
        return Sound(pcm[2 * first : 2 * (first + samples)], rate)
