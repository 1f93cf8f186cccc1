"""Sound files: WAV, FLAC, Ogg (Vorbis, Opus) and MP3, decoded by libsndfile (package ``soundfile``).

Other formats are rejected: libsndfile also reads two dozen rare ones, which only an attacker would send. libsndfile
parses untrusted files in C, so `main` runs in a child process (`bridge.speech.decoder`).
"""

from __future__ import annotations

import io
import struct
import sys
from typing import TYPE_CHECKING, Final

from bridge.audio.sound import Sound
from bridge.audio.wav import RATES, is_wav

if TYPE_CHECKING:
    import soundfile

MAX_PCM_BYTES: Final = 64 << 20
"""Limit of one decoded sound: 70 minutes at 8 kHz, 11 at 48 kHz. A small file may claim to hold days."""
MAX_CHANNELS: Final = 8

REFUSED: Final = 3
"""Exit status of `main` for a file that cannot be decoded; the reason is on standard error."""
RATE: Final = struct.Struct("<I")
"""Header of `main`'s output, before the samples: the rate in Hz."""

_BLOCK_FRAMES = 1 << 16
_MPEG_SYNC = (
    0xE0  # the eleven bits that every MPEG audio frame begins with (ISO 11172-3, 2.4.2.3), as of the second byte
)


def decode(data: bytes) -> Sound:
    """Decode a file; several channels are mixed into one.

    A WAV file whose header promises more audio than follows is decoded to its end: programs that write to a pipe do not
    know the length when they write the header.

    Returns:
        The sound at the file's rate; empty if the file holds no audio.

    Raises:
        ValueError: the file cannot be decoded; the message is the reason.
    """
    if not _is_known(data):
        raise ValueError("is not a WAV, FLAC, Ogg or MP3 file")
    import soundfile  # only the child process loads it

    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            return _read(file)
    except soundfile.LibsndfileError as problem:
        raise ValueError(f"cannot be decoded: {problem.error_string.rstrip('.') or 'damaged'}") from None


def _is_known(data: bytes) -> bool:
    if is_wav(data) or data.startswith((b"fLaC", b"OggS", b"ID3")):
        return True
    return len(data) > 1 and data[0] == 0xFF and data[1] & _MPEG_SYNC == _MPEG_SYNC


def _read(file: soundfile.SoundFile) -> Sound:
    import numpy as np

    if file.samplerate not in RATES:
        raise ValueError(f"has a sampling rate of {file.samplerate} Hz; expected {', '.join(map(str, sorted(RATES)))}")
    if file.channels > MAX_CHANNELS:
        raise ValueError(f"has {file.channels} channels; at most {MAX_CHANNELS} can be mixed")
    pcm = bytearray()
    while len(block := file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
        # libsndfile's own scale: 16-bit samples are unchanged.
        samples = np.clip(np.rint(block.mean(axis=1) * 32768), -32768, 32767)
        pcm += samples.astype("<i2").tobytes()
        if len(pcm) > MAX_PCM_BYTES:
            raise ValueError(f"is longer than {MAX_PCM_BYTES // 2 // file.samplerate} s, the limit at its rate")
    return Sound(bytes(pcm), file.samplerate)


def main() -> int:
    """Decode the file on standard input to standard output: `RATE`, then the samples of `Sound.pcm`."""
    try:
        sound = decode(sys.stdin.buffer.read())
    except ValueError as problem:
        print(problem, file=sys.stderr)
        return REFUSED
    sys.stdout.buffer.write(RATE.pack(sound.rate) + sound.pcm)
    return 0
