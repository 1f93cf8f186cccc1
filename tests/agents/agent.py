"""A voice agent made with pipecat as it comes from PyPI; only the conversation is the project's.

    python -m tests.agents.agent PORT      environment: BRIDGE_URL, TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN

Its path is the name of its dialect. `tests.agents.carriers` adds those of other dialects.
"""

from __future__ import annotations

import os
import sys

import uvicorn
from fastapi import FastAPI, WebSocket
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.runner.utils import parse_telephony_websocket
from pipecat.serializers.base_serializer import FrameSerializer
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from pipecat.workers.runner import WorkerRunner

from tests.agents.conversation import Conversation

app = FastAPI()


# docs/howto/twilio-voice-agents.md shows this, from here ...
async def converse(websocket: WebSocket, serializer: FrameSerializer, greeting: str, rate: int = 8000) -> None:
    """Hold a conversation until either side hangs up.

    Args:
        websocket: the call.
        serializer: pipecat's for the dialect.
        greeting: the first words of the agent.
        rate: sampling rate in Hz of the pipeline.
    """
    transport = FastAPIWebsocketTransport(
        websocket, FastAPIWebsocketParams(audio_in_enabled=True, audio_out_enabled=True, serializer=serializer)
    )
    conversation = Conversation(rate)
    worker = PipelineWorker(
        Pipeline([transport.input(), conversation, transport.output()]),
        params=PipelineParams(audio_in_sample_rate=rate, audio_out_sample_rate=rate),
    )

    @transport.event_handler("on_client_connected")
    async def on_client_connected(*_: object) -> None:
        await conversation.say(greeting)

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(*_: object) -> None:
        await worker.cancel()  # the caller hung up

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()


@app.websocket("/twilio")
async def twilio(websocket: WebSocket) -> None:
    """Answer a call."""
    await websocket.accept()
    _, call = await parse_telephony_websocket(websocket)
    serializer = TwilioFrameSerializer(
        stream_sid=call["stream_id"],
        call_sid=call["call_id"],
        account_sid=os.environ["TWILIO_ACCOUNT_SID"],
        auth_token=os.environ["TWILIO_AUTH_TOKEN"],
        base_url=os.environ["BRIDGE_URL"],  # asterisk-bridge instead of Twilio: receives the request to hang up
    )
    await converse(websocket, serializer, f"{call.body.get('greeting', 'Hello')} {call.from_number}")


# ... to here.
if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="info")
