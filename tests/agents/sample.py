"""A voice agent in the shape of OpenAI's sample for Twilio: FastAPI, no framework, its own account of what was heard.

    python -m tests.agents.sample PORT

As the sample does, it sends an answer as fast as it has it, with a mark named ``responsePart`` behind each part, and
takes the marks that come back for parts that were heard. When the caller speaks while parts are left it sends ``clear``
and works out from ``media.timestamp`` how much of the answer was heard, to report it to the model.
"""

from __future__ import annotations

import base64
import json
import sys

import numpy as np
import uvicorn
from fastapi import FastAPI, WebSocket

from bridge.audio import g711
from bridge.testing import modem
from tests.agents.ear import RATE, Ear

PART_SAMPLES = 2000
REPEATED = 4  # its answers are long enough to be interrupted

app = FastAPI()


@app.websocket("/twilio")
async def called(websocket: WebSocket) -> None:
    """Serve one call; it ends when an answer was heard to its end."""
    await websocket.accept()
    ear = Ear()
    stream_sid = ""
    latest_ms = 0
    answer_began_ms: int | None = None
    marks: list[str] = []
    async for text in websocket.iter_text():
        message = json.loads(text)
        if message["event"] == "start":
            stream_sid = message["start"]["streamSid"]
        elif message["event"] == "media":
            latest_ms = int(message["media"]["timestamp"])
            block = np.frombuffer(g711.ulaw_decode(base64.b64decode(message["media"]["payload"])), "<i2")
            heard = ear.hear(block)
            if ear.speaking and marks and answer_began_ms is not None:
                print(f"interrupted after {latest_ms - answer_began_ms} ms", flush=True)
                await websocket.send_json({"event": "clear", "streamSid": stream_sid})
                marks.clear()
                answer_began_ms = None
            if heard:
                answer = modem.modulate(heard * REPEATED, RATE)
                for part in np.split(answer, range(PART_SAMPLES, len(answer), PART_SAMPLES)):
                    payload = base64.b64encode(g711.ulaw_encode(part.astype("<i2").tobytes())).decode()
                    await websocket.send_json(
                        {"event": "media", "streamSid": stream_sid, "media": {"payload": payload}}
                    )
                    mark = {"event": "mark", "streamSid": stream_sid, "mark": {"name": "responsePart"}}
                    await websocket.send_json(mark)
                    marks.append("responsePart")
                answer_began_ms = latest_ms
        elif message["event"] == "mark" and marks:
            marks.pop(0)
            if not marks:
                print(f"heard to its end after {latest_ms - (answer_began_ms or 0)} ms", flush=True)
                await websocket.close()
                return


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="info")
