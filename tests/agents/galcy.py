"""A voice agent made with galcymedia as it comes from PyPI, for the dialect ``chan_websocket``.

    python -m tests.agents.galcy PORT      environment, for a client of one call instead of a server: STREAM_URL

It repeats what it receives. DTMF digits: 1 makes it talk for a long time, # interrupts it, * makes it say good-bye and
hang up.
"""

from __future__ import annotations

import asyncio
import os
import sys

import numpy as np
from galcymedia import FrameAligner, connect, serve
from galcymedia.session import Session

from bridge.testing import modem
from bridge.testing.judge import tone
from tests.agents.conversation import LONG_SPEECH_HZ, LONG_SPEECH_S
from tests.agents.ear import Ear

_MESSAGE_BYTES = 32_000


class Repeater:
    """A provider of galcymedia that answers with the text that it receives."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._rate = 0
        self._ear = Ear()
        self._speech: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Greet the caller."""
        media = self._session.media
        assert media is not None
        self._rate = media.sample_rate
        self._ear = Ear(self._rate)
        variables = media.channel_variables
        await self._say(f"{variables.get('greeting', 'Hello')} {variables.get('from_number', 'you')}")

    async def send_audio(self, chunk: bytes) -> None:
        """Receive the caller's audio."""
        if text := self._ear.hear(np.frombuffer(chunk, "<i2")):
            await self._say(f"You said: {text}")

    async def on_dtmf(self, digit: str) -> None:
        """Receive a DTMF digit."""
        print(f"pressed {digit}", flush=True)
        if digit == "1":
            self._speech = asyncio.create_task(self._play(tone(LONG_SPEECH_HZ, LONG_SPEECH_S, self._rate)))
        elif digit == "#":
            if self._speech is not None:
                self._speech.cancel()
            await self._session.flush()
        elif digit == "*":
            await self._say("Bye")
            played = await self._session.mark()
            await asyncio.wait_for(played.wait(), 5)
            print("played", flush=True)
            await self._session.hangup()

    async def close(self) -> None:
        """End the speech."""
        if self._speech is not None:
            self._speech.cancel()
        print("finished running", flush=True)

    async def _say(self, text: str) -> None:
        await self._play(modem.modulate(text, self._rate))

    async def _play(self, samples: np.ndarray) -> None:
        media = self._session.media
        assert media is not None
        aligner = FrameAligner(media.optimal_frame_size, media.silence_byte)
        for frame in (*aligner.push(samples.astype("<i2").tobytes()), aligner.flush()):
            while frame and not await self._session.send_audio(frame):  # not while MEDIA_XOFF holds
                await asyncio.sleep(0.02)


async def main() -> None:
    """Serve calls, or one."""
    if url := os.environ.get("STREAM_URL"):
        await connect(url, Repeater, forward_dtmf=True)
    else:
        await serve(Repeater, host="127.0.0.1", port=int(sys.argv[1]), forward_dtmf=True)


if __name__ == "__main__":
    asyncio.run(main())
