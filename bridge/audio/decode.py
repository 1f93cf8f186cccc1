"""Sound files as they come: WAV, FLAC, Ogg (Vorbis, Opus) and MP3, by the library ``soundfile``."""

from __future__ import annotations

from bridge.audio.sound import Sound


def decode(data: bytes) -> Sound:
    """The sound of a file; several channels are mixed into one.

    Raises:
        ValueError: it is none that can be read; the message says why.
    """
    raise NotImplementedError
