"""RIFF/WAVE files (Microsoft RIFF MCI, 1991; RFC 2361): headers in a byte stream, and whole files of samples."""

from __future__ import annotations

import struct
from typing import Final

from msgspec import Struct

from bridge.audio import g711
from bridge.audio.format import SLIN_RATES, AudioFormat, Encoding
from bridge.audio.sound import Sound

MAGIC: Final = b"RIFF"
"""The first bytes of a file."""
MAX_HEADER_BYTES: Final = 65536
"""Limit for all chunks before the audio; album art stays far below it."""

RATES: Final = frozenset((*SLIN_RATES, 11025, 22050))
"""Accepted sampling rates in Hz; arbitrary rates would let a file request filters of any size."""

_MAGIC_BYTES = 12
_CHUNK = struct.Struct("<4sI")
_FMT = struct.Struct("<HHIIHH")
_EXTENSIBLE = 0xFFFE
_SUBFORMAT_AT = 24
_ENCODINGS = {(1, 16): Encoding.SLIN, (6, 8): Encoding.ALAW, (7, 8): Encoding.ULAW}
_UNKNOWN_LENGTHS = (0, 0xFFFFFFFF, 0x7FFFFFFF)  # of writers that cannot seek back to fill the length in


class WavHeader(Struct, frozen=True):
    """The contents of a header.

    Args:
        format: of the audio; None if unsupported here (stereo, 8-bit linear, float...).
        data_at: offset of the first audio byte.
        data_bytes: length of the audio in bytes; None if the header does not give it.
    """

    format: AudioFormat | None
    data_at: int
    data_bytes: int | None


def is_wav(data: bytes) -> bool:
    """Return whether ``data`` begins like a RIFF/WAVE file."""
    return data.startswith(MAGIC) and data[8:_MAGIC_BYTES] == b"WAVE"


def parse_header(data: bytes) -> WavHeader | None:
    """Parse the chunks up to the audio.

    Returns:
        The header; None if the audio has not begun yet and more bytes are needed.

    Raises:
        ValueError: not a RIFF/WAVE file, audio before its format, or no audio within `MAX_HEADER_BYTES`.
    """
    if not is_wav(data):
        raise ValueError("not a RIFF/WAVE file")
    fmt: AudioFormat | None = None
    seen_fmt = False
    at = _MAGIC_BYTES
    while at + _CHUNK.size <= len(data):
        name, length = _CHUNK.unpack_from(data, at)
        at += _CHUNK.size
        if name == b"data":
            if not seen_fmt:
                raise ValueError("WAVE file with its data chunk before the format chunk")
            return WavHeader(fmt, at, None if length in _UNKNOWN_LENGTHS else length)
        if name == b"fmt " and length <= MAX_HEADER_BYTES:
            if at + length > len(data):
                break
            fmt = _format(data[at : at + length])
            seen_fmt = True
        at += length + (length & 1)
        if at > MAX_HEADER_BYTES:
            raise ValueError(f"WAVE file without audio in its first {MAX_HEADER_BYTES} bytes")
    return None


def read_sound(data: bytes) -> Sound | None:
    """Read a WAV file that holds one channel of 16-bit samples, A-law or mu-law; return None for every other file.

    Where the header gives no length, or too long a one, the audio ends with the file: programs that write to a pipe
    cannot seek back to fill it in.
    """
    try:
        header = parse_header(data[:MAX_HEADER_BYTES]) if is_wav(data) else None
    except ValueError:
        return None
    if header is None or header.format is None:
        return None
    end = len(data) if header.data_bytes is None else header.data_at + header.data_bytes
    audio = data[header.data_at : end]
    fmt = header.format
    if fmt.encoding is Encoding.SLIN:
        return Sound(audio[: len(audio) & ~1], fmt.rate)
    return Sound(g711.alaw_decode(audio) if fmt.encoding is Encoding.ALAW else g711.ulaw_decode(audio), fmt.rate)


def _format(chunk: bytes) -> AudioFormat | None:
    if len(chunk) < _FMT.size:
        raise ValueError("WAVE file with a truncated format chunk")
    tag, channels, rate, _, _, bits = _FMT.unpack_from(chunk)
    if tag == _EXTENSIBLE and len(chunk) >= _SUBFORMAT_AT + 2:
        tag = int.from_bytes(chunk[_SUBFORMAT_AT : _SUBFORMAT_AT + 2], "little")
    encoding = _ENCODINGS.get((tag, bits))
    if encoding is None or channels != 1 or rate not in RATES:
        return None
    return AudioFormat(encoding, rate)
