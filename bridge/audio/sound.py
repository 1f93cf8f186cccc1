"""A whole sound in memory: what is spoken, fetched or made, before it is played into a call."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.audio.resample import Resampler


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
        """The same sound at another rate; computing that takes about 0.3 ms for each second of sound."""
        if rate == self.rate:
            return self
        resampler = Resampler(self.rate, rate)
        late = round(resampler.delay_ms * rate / 1000)
        pcm = resampler.convert(self.pcm) + resampler.flush()
        samples = -(-len(self.pcm) // 2 * rate // self.rate)
        return Sound(pcm[2 * late : 2 * (late + samples)], rate)
