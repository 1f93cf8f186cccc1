"""Text becomes sound: a program is given the text on standard input and writes a sound file to standard output."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.audio.sound import Sound
from bridge.config.speech import SpeechConfig
from bridge.errors import BridgeError


class SpeechFailed(BridgeError):
    """Something could not be said; the message says why."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """Something to say.

    Args:
        text: plain text.
        language: as the flow has it, for example ``en-US``; "": the configured one.
        voice: as the flow has it; "": the configured one.
    """

    text: str
    language: str = ""
    voice: str = ""


class Speech:
    """Says things by the configured program."""

    def __init__(self, config: SpeechConfig) -> None:
        self.trouble: str | None = None

    async def say(self, utterance: Utterance) -> Sound:
        """The sound of an utterance.

        Raises:
            SpeechFailed: the program is missing, failed, or took too long.
        """
        raise NotImplementedError
