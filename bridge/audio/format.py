"""Audio formats as values: they travel with the audio, so that nobody needs to know a bare 320.

Inside the bridge audio is always signed 16-bit little-endian mono (``slin``) at the rate of the media leg.
Companded encodings exist at the edges only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cache, cached_property

FRAME_MS = 20
"""Length of one frame in milliseconds: the ptime of everything that the bridge sends to Asterisk."""

SLIN_RATES = (8000, 12000, 16000, 24000, 32000, 44100, 48000, 96000, 192000)
"""Sampling rates in Hz that AudioSocket can carry (Asterisk 22.10, res_audiosocket.c)."""


class Encoding(StrEnum):
    """How one sample is written."""

    SLIN = "slin"
    """Signed 16-bit little-endian."""
    ULAW = "ulaw"
    """G.711 mu-law, one byte a sample."""
    ALAW = "alaw"
    """G.711 A-law, one byte a sample."""


_SILENT_BYTE = {Encoding.SLIN: b"\x00", Encoding.ULAW: b"\xff", Encoding.ALAW: b"\xd5"}


@dataclass(frozen=True)
class AudioFormat:
    """One mono audio format.

    Args:
        encoding: how a sample is written.
        rate: samples per second, in Hz.
    """

    encoding: Encoding
    rate: int

    @cached_property
    def sample_bytes(self) -> int:
        """Bytes of one sample."""
        return 2 if self.encoding is Encoding.SLIN else 1

    @cached_property
    def frame_samples(self) -> int:
        """Samples of one 20 ms frame."""
        return self.rate * FRAME_MS // 1000

    @cached_property
    def frame_bytes(self) -> int:
        """Bytes of one 20 ms frame."""
        return self.frame_samples * self.sample_bytes

    def duration_ms(self, size: int) -> float:
        """How long ``size`` bytes last, in milliseconds."""
        return size * 1000 / (self.rate * self.sample_bytes)

    def bytes_of(self, ms: float) -> int:
        """Bytes of ``ms`` milliseconds, cut down to whole samples."""
        return int(self.rate * ms / 1000) * self.sample_bytes

    def silence(self, size: int) -> bytes:
        """``size`` bytes that sound like nothing."""
        return _SILENT_BYTE[self.encoding] * size

    @property
    def asterisk_name(self) -> str:
        """Asterisk's name of the format, as ``externalMedia`` takes it: ``slin``, ``slin16``, ``ulaw``..."""
        if self.encoding is not Encoding.SLIN:
            return self.encoding.value
        return "slin" if self.rate == 8000 else f"slin{self.rate // 1000}"


@cache
def slin(rate: int) -> AudioFormat:
    """Signed linear at ``rate`` Hz: what the bridge uses inside. One object for all, numbers included: a number of its
    own for every call would be one more line of memory to fetch for each of its frames."""
    return AudioFormat(Encoding.SLIN, rate)
