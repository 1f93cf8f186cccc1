"""A whole sound in memory: spoken, fetched or generated, before it is played into a call."""

from __future__ import annotations

from math import ceil, gcd

from msgspec import Struct


class Sound(Struct, frozen=True):
    """A sound.

    Args:
        pcm: signed 16-bit little-endian samples, mono.
        rate: samples per second, in Hz.
    """

    pcm: bytes
    rate: int

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.pcm) / 2 / self.rate

    def at(self, rate: int) -> Sound:
        """Return the same sound at another rate; costs well under 1 ms for each second of sound."""
        if rate == self.rate:
            return self
        from bridge.audio.resample import Resampler  # numpy is only for audio of another rate

        resampler = Resampler(self.rate, rate)
        # Silence in front makes the filter's delay an integral number of output samples, which can then be cut off.
        late = round(resampler.delay_ms * self.rate / 1000)
        before = -late % (self.rate // gcd(self.rate, rate))
        pcm = resampler.convert(bytes(2 * before) + self.pcm) + resampler.flush()
        first = (late + before) * rate // self.rate
        samples = ceil(len(self.pcm) // 2 * rate / self.rate)
        return Sound(pcm[2 * first : 2 * (first + samples)], rate)
