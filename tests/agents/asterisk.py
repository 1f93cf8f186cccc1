"""A voice agent made with pipecat-asterisk as it comes from PyPI, for the dialect ``chan_websocket``.

python -m tests.agents.asterisk PORT
"""

from __future__ import annotations

import asyncio
import sys

import uvicorn
from fastapi import FastAPI, WebSocket
from pipecat.frames.frames import EndWorkerFrame, Frame, InputTransportMessageFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams
from pipecat.workers.runner import WorkerRunner
from pipecat_asterisk import AsteriskFrameSerializer, AsteriskWebsocketTransport
from pipecat_asterisk.frames import AsteriskCommandFrame

from tests.agents.conversation import Conversation

RATE = 16000

app = FastAPI()


class AsteriskConversation(Conversation):
    """Greets when the media starts, with the channel variables, and hangs up when its queue has run dry."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Greet the caller, or hang up."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InputTransportMessageFrame) and frame.message["event"] == "MEDIA_START":
            variables = frame.message["channel_variables"]
            await self.say(f"{variables['greeting']} {variables['from_number']}")
        elif isinstance(frame, InputTransportMessageFrame) and frame.message["event"] == "QUEUE_DRAINED":
            await self.push_frame(EndWorkerFrame())

    async def end(self) -> None:
        """Request the event, once the transport has sent what it holds back."""
        await asyncio.sleep(0.2)
        await self.push_frame(AsteriskCommandFrame("REPORT_QUEUE_DRAINED"))


@app.websocket("/chan_websocket")
async def called(websocket: WebSocket) -> None:
    """Answer a call that offers the subprotocol."""
    assert websocket.scope["subprotocols"] == ["media"]
    await websocket.accept(subprotocol="media")
    transport = AsteriskWebsocketTransport(
        websocket,
        FastAPIWebsocketParams(audio_in_enabled=True, audio_out_enabled=True, serializer=AsteriskFrameSerializer()),
    )
    worker = PipelineWorker(
        Pipeline([transport.input(), AsteriskConversation(RATE), transport.output()]),
        params=PipelineParams(audio_in_sample_rate=RATE, audio_out_sample_rate=RATE),
    )

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(*_: object) -> None:
        await worker.cancel()  # the caller hung up

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="info")
