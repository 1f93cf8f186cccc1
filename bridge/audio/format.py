"""Audio formats as values that travel with the audio, in place of bare numbers such as 320.

Inside the product, audio is always signed 16-bit little-endian mono (``slin``) at the rate of the media leg. Companded
encodings exist on the wire only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cache, cached_property

FRAME_MS = 20
"""Length of one frame in milliseconds: the ptime of all audio sent to Asterisk."""

SLIN_RATES = (8000, 12000, 16000, 24000, 32000, 44100, 48000, 96000, 192000)
"""Sampling rates in Hz that AudioSocket can carry (Asterisk 22.10, res_audiosocket.c)."""


class Encoding(StrEnum):
    """The encoding of one sample."""

    SLIN = "slin"
    """Signed 16-bit little-endian."""
    ULAW = "ulaw"
    """G.711 mu-law, one byte per sample."""
    ALAW = "alaw"
    """G.711 A-law, one byte per sample."""


_SILENT_BYTE = {Encoding.SLIN: b"\x00", Encoding.ULAW: b"\xff", Encoding.ALAW: b"\xd5"}


@dataclass(frozen=True)
class AudioFormat:
    """One mono audio format.

    Args:
        encoding: encoding of a sample.
        rate: sampling rate in Hz.
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
        """Return the duration of ``size`` bytes in milliseconds."""
        return size * 1000 / (self.rate * self.sample_bytes)

    def bytes_of(self, ms: float) -> int:
        """Return the number of bytes in ``ms`` milliseconds, rounded down to whole samples."""
        return int(self.rate * ms / 1000) * self.sample_bytes

    def silence(self, size: int) -> bytes:
        """Return ``size`` bytes of silence."""
        return _SILENT_BYTE[self.encoding] * size

    @property
    def asterisk_name(self) -> str:
        """Asterisk's name of the format, as ``externalMedia`` takes it: ``slin``, ``slin16``, ``ulaw``..."""
        if self.encoding is not Encoding.SLIN:
            return self.encoding.value
        return "slin" if self.rate == 8000 else f"slin{self.rate // 1000}"


@cache
def slin(rate: int) -> AudioFormat:
    """Return signed linear at ``rate`` Hz, the format inside the product.

    Cached: all calls share one object and its numbers, which leaves less memory to fetch for every frame.
    """
    return AudioFormat(Encoding.SLIN, rate)
