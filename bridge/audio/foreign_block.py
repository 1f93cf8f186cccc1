"""Audio of another rate in a playout, converted as it is played."""

from __future__ import annotations

from bridge.audio.format import FRAME_MS


class Converter:
    """Converts one rate to the queue's rate; computes the output length before it converts."""

    __slots__ = ("_rate_in", "_rate_out", "_samples_in", "piece_bytes", "resampler")

    def __init__(self, rate_in: int, rate_out: int) -> None:
        from bridge.audio.resample import Resampler  # numpy is only for audio of another rate

        self.resampler = Resampler(rate_in, rate_out)
        self.piece_bytes = rate_in * FRAME_MS // 1000 * 2
        self._rate_in = rate_in
        self._rate_out = rate_out
        self._samples_in = 0  # accepted so far, converted or not

    def accept(self, samples: int) -> int:
        """Count input samples; return the number of output samples that they add."""
        before = self._samples_out(self._samples_in)
        self._samples_in += samples
        return self._samples_out(self._samples_in) - before

    def _samples_out(self, samples_in: int) -> int:
        return -(-samples_in * self._rate_out // self._rate_in)  # as Resampler guarantees, rounded up


class ForeignBlock:
    """A block at another rate, converted in steps of 20 ms as it is played.

    Converting 16 MiB in one step would interrupt the audio of every call, and take many times the memory.
    """

    __slots__ = ("_at", "_pcm", "converter")

    def __init__(self, pcm: bytes, converter: Converter) -> None:
        self.converter = converter
        self._pcm = pcm
        self._at = 0

    def join(self, pcm: bytes) -> bool:
        """Append ``pcm``; return False if the block is long enough already."""
        if len(self._pcm) >= self.converter.piece_bytes:
            return False
        self._pcm += pcm
        return True

    def next(self) -> bytes:
        """Return the next piece, converted; it may be empty."""
        end = self._at + self.converter.piece_bytes
        piece = self._pcm[self._at : end]
        self._at = end
        return self.converter.resampler.convert(piece)

    @property
    def done(self) -> bool:
        """Whether no audio is left."""
        return self._at >= len(self._pcm)
