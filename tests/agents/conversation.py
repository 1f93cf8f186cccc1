"""The conversation of the agents made with pipecat, in place of recognition, a language model and a voice.

It has a modem: it reads text out of the caller's audio and sends its answers as such audio: a test can detect whether
each arrived exactly. It repeats what it receives. DTMF digits: 1 makes it talk for a long time, # interrupts
it, * makes it say good-bye and hang up.
"""

from __future__ import annotations

import numpy as np
from pipecat.frames.frames import (
    EndWorkerFrame,
    Frame,
    InputAudioRawFrame,
    InputDTMFFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from bridge.testing import modem
from bridge.testing.judge import silence, tone
from tests.agents.ear import Ear

LONG_SPEECH_HZ = 700
LONG_SPEECH_S = 20


class Conversation(FrameProcessor):
    """Answers with the text that it receives.

    Args:
        rate: sampling rate in Hz of the pipeline.
    """

    def __init__(self, rate: int) -> None:
        super().__init__()
        self._rate = rate
        self._ear = Ear(rate)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Receive audio and DTMF digits; pass on everything else."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            text = self._ear.hear(np.frombuffer(frame.audio, "<i2"))
            if text:
                await self.say(f"You said: {text}")
        elif isinstance(frame, InputDTMFFrame):
            await self._key(frame.button.value)
        else:
            await self.push_frame(frame, direction)

    async def say(self, text: str) -> None:
        """Send text as audio."""
        await self._play(modem.modulate(text, self._rate))

    async def _key(self, key: str) -> None:
        if key == "1":
            await self._play(tone(LONG_SPEECH_HZ, LONG_SPEECH_S, self._rate))
        elif key == "#":
            await self.broadcast_interruption()
        elif key == "*":
            await self.say("Bye")
            # The request to hang up overtakes what is still on its way.
            await self._play(silence(0.3, self._rate))
            await self.end()

    async def end(self) -> None:
        """Hang up."""
        await self.push_frame(EndWorkerFrame())

    async def _play(self, samples: np.ndarray) -> None:
        await self.push_frame(TTSStartedFrame())
        await self.push_frame(TTSAudioRawFrame(samples.astype("<i2").tobytes(), self._rate, 1))
        await self.push_frame(TTSStoppedFrame())
