"""A voice agent made with Plivo's own SDK, which validates every message that it receives with its types.

    python -m tests.agents.plivo_sdk PORT

It greets, and talks when the greeting has been played. Keys: # clears its audio, * makes it close the WebSocket.
"""

from __future__ import annotations

import sys

import numpy as np
import uvicorn
from fastapi import FastAPI, WebSocket
from plivo_stream.fastapi import PlivoFastAPIStreamingHandler
from plivo_stream.types import ClearedAudioEvent, DtmfEvent, MediaEvent, PlayedStreamEvent, StartEvent

from bridge.audio import g711
from bridge.testing import modem
from bridge.testing.judge import silence, tone
from tests.agents.conversation import LONG_SPEECH_HZ, LONG_SPEECH_S

RATE = 8000

app = FastAPI()


@app.websocket("/plivo")
async def called(websocket: WebSocket) -> None:
    """Answer a call."""
    handler = PlivoFastAPIStreamingHandler(websocket)
    received = 0

    @handler.on_start
    async def started(event: StartEvent) -> None:
        print(f"started {event.start.media_format.encoding} {event.extra_headers}", flush=True)
        await handler.send_media(g711.ulaw_encode(modem.modulate("Hello", RATE).astype("<i2").tobytes()))
        await handler.send_checkpoint("greeting")

    @handler.on_media
    async def heard(event: MediaEvent) -> None:
        nonlocal received
        received += 1
        assert event.media.chunk == received, event.media.chunk

    @handler.on_played_stream
    async def played(event: PlayedStreamEvent) -> None:
        print(f"played {event.name}", flush=True)
        if event.name == "greeting":
            speech = np.concatenate([silence(0.5, 2 * RATE), tone(LONG_SPEECH_HZ, LONG_SPEECH_S, 2 * RATE)])
            await handler.send_media(speech.astype("<i2").tobytes(), "audio/x-l16", 2 * RATE)
            await handler.send_checkpoint("speech")

    @handler.on_dtmf
    async def pressed(event: DtmfEvent) -> None:
        print(f"pressed {event.dtmf.digit}", flush=True)
        if event.dtmf.digit == "#":
            await handler.send_clear_audio()
        elif event.dtmf.digit == "*":
            await handler.stop()

    @handler.on_cleared_audio
    async def cleared(_: ClearedAudioEvent) -> None:
        print("cleared", flush=True)

    @handler.on_error
    async def failed(error: Exception) -> None:
        print(f"invalid message: {error}", flush=True)

    await handler.start()
    print(f"finished after {received} messages with audio", flush=True)


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="info")
