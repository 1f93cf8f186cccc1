"""Voice agents made with pipecat for the dialects other than Twilio's, beside that of `tests.agents.agent`.

    python -m tests.agents.carriers PORT      environment: as of tests.agents.agent

Each has the path of its dialect's name.
"""

from __future__ import annotations

import json
import sys

import uvicorn
from fastapi import WebSocket
from pipecat.serializers.vonage import VonageFrameSerializer

from tests.agents.agent import app, converse


@app.websocket("/vonage")
async def vonage(websocket: WebSocket) -> None:
    """Answer a call; its first message has the rate, who calls, and what the route adds."""
    await websocket.accept()
    first = json.loads(await websocket.receive_text())
    rate = int(first["content-type"].removeprefix("audio/l16;rate="))
    serializer = VonageFrameSerializer(VonageFrameSerializer.InputParams(vonage_sample_rate=rate))
    await converse(websocket, serializer, f"{first['greeting']} {first['from_number']}", rate)


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="info")
