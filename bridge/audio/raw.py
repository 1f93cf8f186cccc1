"""Audio without framing: samples in blocks of any size, or whole WAVE files."""

from __future__ import annotations

from collections.abc import Callable

from bridge.audio import g711, wav
from bridge.audio.format import AudioFormat, Encoding

Pcm = tuple[bytes, int]
"""s16le mono samples, and their rate in Hz."""


class WholeSamples:
    """Extracts whole 16-bit samples from blocks that may end in the middle of one.

    Attributes:
        half: the first byte of an incomplete sample, if there is one.
    """

    __slots__ = ("half",)

    def __init__(self) -> None:
        self.half = b""

    def push(self, data: bytes) -> bytes:
        """Return all complete samples; keep an incomplete one for the next call."""
        if self.half:
            data = self.half + data
            self.half = b""
        if len(data) & 1:
            self.half = data[-1:]
            return data[:-1]
        return data


class RawAudio:
    """Decodes blocks of bare audio: ``fmt``, unless they begin with a WAVE header.

    Applications send whole ``.wav`` files where bare samples belong. Played as samples, the header is a click and the
    rest may have the wrong speed. So a block that begins with a header is decoded as a file: its audio at its own rate,
    without the chunks after the audio. A file may span several blocks; later blocks are ``fmt`` again.

    Args:
        fmt: format of blocks without a header.
        refuse: called with each rejected block: files in an unsupported format, or damaged ones.

    Attributes:
        plain: the next block is whole slin samples if it has an even length and does not begin with a header.
    """

    __slots__ = ("_default", "_format", "_header", "_left", "_refuse", "_whole", "plain")

    def __init__(self, fmt: AudioFormat, refuse: Callable[[bytes], object] = lambda _: None) -> None:
        self._default = fmt
        self._format: AudioFormat | None = fmt  # None: inside a file in an unsupported format
        self._left: int | None = None  # bytes of a file's audio still to come; None: no file, or one of unknown length
        self._header = b""  # of a file, until its audio begins
        self._whole = WholeSamples()
        self.plain = fmt.encoding is Encoding.SLIN
        self._refuse = refuse

    def receive(self, data: bytes) -> list[Pcm]:
        """Return the samples in one block: an empty list or one piece."""
        pieces = self._receive(data)
        self.plain = (
            self._format is self._default
            and self._default.encoding is Encoding.SLIN
            and not self._header
            and self._left is None
            and not self._whole.half
        )
        return pieces

    def _receive(self, data: bytes) -> list[Pcm]:
        if self._header:
            data = self._header + data
            self._header = b""
        if wav.is_wav(data):
            try:
                header = wav.parse_header(data)
            except ValueError:
                self._refuse(data)
                return []
            if header is None:
                self._header = data
                return []
            self._format = header.format
            self._left = header.data_bytes
            self._whole = WholeSamples()
            data = data[header.data_at :]
        fmt = self._format
        if self._left is not None:
            if len(data) < self._left:
                self._left -= len(data)
            else:
                data = data[: self._left]
                self._left = None
                self._format = self._default
        if fmt is None:
            self._refuse(data)
            return []
        pcm = self._decode(fmt, data)
        return [(pcm, fmt.rate)] if pcm else []

    def _decode(self, fmt: AudioFormat, data: bytes) -> bytes:
        match fmt.encoding:
            case Encoding.SLIN:
                return self._whole.push(data)
            case Encoding.ULAW:
                return g711.ulaw_decode(data)
            case Encoding.ALAW:
                return g711.alaw_decode(data)
