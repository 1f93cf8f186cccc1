"""Audio without any framing of its own: samples in blocks of any size, or whole WAVE files."""

from __future__ import annotations

from collections.abc import Callable

from bridge.audio import g711, wav
from bridge.audio.format import AudioFormat, Encoding

Pcm = tuple[bytes, int]
"""s16le mono samples, and their rate in Hz."""


class WholeSamples:
    """Cuts 16-bit samples out of blocks that may end in the middle of one.

    Attributes:
        half: the lone byte that waits, if there is one.
    """

    __slots__ = ("half",)

    def __init__(self) -> None:
        self.half = b""

    def push(self, data: bytes) -> bytes:
        """The whole samples there are; a lone byte waits for its other half."""
        if self.half:
            data = self.half + data
            self.half = b""
        if len(data) & 1:
            self.half = data[-1:]
            return data[:-1]
        return data


class RawAudio:
    """Blocks of bare audio, taken as ``fmt`` unless they begin with a WAVE header.

    People send whole ``.wav`` files where bare samples belong. Played as samples, the header is a click and the rest
    may have the wrong speed, so a block that begins with one is read for what it is: its audio at its own rate, what
    comes after the audio left out. A file may go on over several blocks. Then blocks count as ``fmt`` again.

    Args:
        fmt: what a block holds that does not say.
        refuse: called with each block that is left out: files of a kind that cannot be played, or broken ones.

    Attributes:
        plain: the next block is samples, whole ones, if it does not begin with a header and has an even length.
    """

    __slots__ = ("_default", "_format", "_header", "_left", "_refuse", "_whole", "plain")

    def __init__(self, fmt: AudioFormat, refuse: Callable[[bytes], object] = lambda _: None) -> None:
        self._default = fmt
        self._format: AudioFormat | None = fmt  # None: inside a file that cannot be played
        self._left: int | None = None  # bytes of a file's audio still to come; None: no file, or one without an end
        self._header = b""  # of a file whose audio has not begun yet
        self._whole = WholeSamples()
        self.plain = fmt.encoding is Encoding.SLIN
        self._refuse = refuse

    def receive(self, data: bytes) -> list[Pcm]:
        """The samples in one block; none or one piece."""
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
