"""The ear of the agents: it detects when the caller speaks, and decodes the message."""

from __future__ import annotations

import numpy as np

from bridge.testing import modem
from bridge.testing.judge import Samples, rms

RATE = 8000
_SILENT_BELOW = 300
_PAUSE_BLOCKS = 20  # of 20 ms: as long a pause ends the caller's message


class Ear:
    """Finds where the caller begins and stops to speak.

    Args:
        rate: sampling rate in Hz of the audio.
    """

    def __init__(self, rate: int = RATE) -> None:
        self._rate = rate
        self._heard: list[Samples] = []
        self._quiet_blocks = 0
        self.speaking = False
        """Whether the caller speaks now; a short pause counts."""

    def hear(self, block: Samples) -> str | None:
        """Take the next audio, and return the text of the message that has just ended."""
        loud = rms(block) >= _SILENT_BELOW
        self._quiet_blocks = 0 if loud else self._quiet_blocks + 1
        self.speaking = self.speaking or loud
        self._heard.append(block)
        if not self.speaking:
            del self._heard[:-2]  # what begins within a block is not cut off
        elif self._quiet_blocks >= _PAUSE_BLOCKS:
            text = modem.demodulate(np.concatenate(self._heard), self._rate)
            self._heard, self.speaking = [], False
            return text
        return None
