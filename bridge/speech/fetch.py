"""Sounds to play: from an ``http(s)`` address, or a file of the configured folder."""

from __future__ import annotations

from bridge.audio.sound import Sound
from bridge.config.speech import SpeechConfig
from bridge.errors import BridgeError


class SoundUnavailable(BridgeError):
    """A sound could not be fetched or read; the message says why."""


class SoundFetcher:
    """Fetches sounds and keeps the last ones."""

    def __init__(self, config: SpeechConfig) -> None:
        self._config = config

    async def get(self, url: str) -> Sound:
        """The sound at an address.

        Args:
            url: ``http://`` or ``https://`` address, or the name of a file below ``speech.sounds_dir``.

        Raises:
            SoundUnavailable: it cannot be had.
        """
        raise NotImplementedError

    async def close(self) -> None:
        """Ends its connections."""
        raise NotImplementedError
