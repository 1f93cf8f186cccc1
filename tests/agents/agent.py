"""A voice agent made with pipecat as it comes from PyPI; only what it "understands" and "says" is ours.

In place of recognition, a language model and a voice it has a modem: it reads text out of the caller's audio and says
its answers as such audio, so that a test can tell whether each of them arrived exactly.

    python -m tests.agents.agent PORT      environment: BRIDGE_URL, TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN

It greets the caller by number and repeats what it is told. Keys: 1 makes it talk for a long time, # interrupts it,
* makes it say good-bye and hang up.
"""

from __future__ import annotations

import os
import sys

import numpy as np
import uvicorn
from fastapi import FastAPI, WebSocket
from pipecat.frames.frames import (
    EndWorkerFrame,
    Frame,
    InputAudioRawFrame,
    InputDTMFFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.runner.utils import parse_telephony_websocket
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from pipecat.workers.runner import WorkerRunner

from bridge.testing import modem
from bridge.testing.judge import silence, tone
from tests.agents.ear import RATE, Ear

LONG_SPEECH_HZ = 700
LONG_SPEECH_S = 20

app = FastAPI()


class Conversation(FrameProcessor):
    """Stands where recognition, the language model and the voice stand in other agents."""

    def __init__(self) -> None:
        super().__init__()
        self._ear = Ear()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Hears, decides, speaks."""
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
        """Says a text."""
        await self._play(modem.modulate(text, RATE))

    async def _key(self, key: str) -> None:
        if key == "1":
            await self._play(tone(LONG_SPEECH_HZ, LONG_SPEECH_S, RATE))
        elif key == "#":
            await self.broadcast_interruption()
        elif key == "*":
            await self.say("Bye")
            # The request to hang up overtakes what is still on its way.
            await self._play(silence(0.3, RATE))
            await self.push_frame(EndWorkerFrame())

    async def _play(self, samples: np.ndarray) -> None:
        await self.push_frame(TTSStartedFrame())
        await self.push_frame(TTSAudioRawFrame(samples.astype("<i2").tobytes(), RATE, 1))
        await self.push_frame(TTSStoppedFrame())


# docs/howto/twilio-voice-agents.md shows this, from here ...
@app.websocket("/ws")
async def called(websocket: WebSocket) -> None:
    """One call."""
    await websocket.accept()
    _, call = await parse_telephony_websocket(websocket)
    serializer = TwilioFrameSerializer(
        stream_sid=call["stream_id"],
        call_sid=call["call_id"],
        account_sid=os.environ["TWILIO_ACCOUNT_SID"],
        auth_token=os.environ["TWILIO_AUTH_TOKEN"],
        base_url=os.environ["BRIDGE_URL"],  # the bridge instead of Twilio: where it hangs up
    )
    transport = FastAPIWebsocketTransport(
        websocket, FastAPIWebsocketParams(audio_in_enabled=True, audio_out_enabled=True, serializer=serializer)
    )
    conversation = Conversation()
    worker = PipelineWorker(
        Pipeline([transport.input(), conversation, transport.output()]),
        params=PipelineParams(audio_in_sample_rate=RATE, audio_out_sample_rate=RATE),
    )

    @transport.event_handler("on_client_connected")
    async def on_client_connected(*_: object) -> None:
        await conversation.say(f"{call.body.get('greeting', 'Hello')} {call.from_number}")

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(*_: object) -> None:
        await worker.cancel()  # the caller hung up

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()


# ... to here.
if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="info")
