"""Announcements of the configuration as sounds: ``"tone"``, ``"sound:FILE"``, or a sentence."""

from __future__ import annotations

from bridge.audio import tones
from bridge.audio.sound import Sound
from bridge.config.privacy import SOUND, TONE
from bridge.speech.engine import Speech, Utterance
from bridge.speech.fetch import SoundFetcher


class Announcements:
    """Returns announcements as sounds.

    Args:
        speech: speaks sentences.
        sounds: reads files.
    """

    def __init__(self, speech: Speech, sounds: SoundFetcher) -> None:
        self._speech = speech
        self._sounds = sounds

    @property
    def speech_trouble(self) -> str | None:
        """Why sentences cannot be spoken; None if they can."""
        return self._speech.trouble

    async def sound(self, announcement: str, configured: bool = True) -> Sound:
        """Return an announcement.

        Args:
            announcement: ``"tone"``, ``"sound:FILE"`` or a sentence.
            configured: it is from the configuration; otherwise the policy decides about the host of a URL as its file.

        Raises:
            SoundUnavailable: the file cannot be read.
            SpeechFailed: the sentence cannot be spoken.
        """
        if announcement == TONE:
            return tones.beep()
        if announcement.startswith(SOUND):
            return await self._sounds.get(announcement.removeprefix(SOUND), configured=configured)
        return await self.sentence(announcement)

    async def sentence(self, text: str) -> Sound:
        """Return a sentence that is not from the configuration, as speech.

        Raises:
            SpeechFailed: it cannot be spoken.
        """
        return await self._speech.say(Utterance(text))
