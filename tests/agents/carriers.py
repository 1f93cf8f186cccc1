"""Voice agents made with pipecat for the dialects other than Twilio's, beside that of `tests.agents.agent`.

    python -m tests.agents.carriers PORT      environment: as of tests.agents.agent, and the credentials of each

Each has the path of its dialect's name. What another name server does in production is done here: requests to carriers
whose addresses the serializers have built in reach asterisk-bridge.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import aiohttp
import uvicorn
import yarl
from fastapi import WebSocket
from pipecat.runner.utils import parse_telephony_websocket
from pipecat.serializers.exotel import ExotelFrameSerializer
from pipecat.serializers.genesys import GenesysAudioHookSerializer
from pipecat.serializers.plivo import PlivoFrameSerializer
from pipecat.serializers.telnyx import TelnyxFrameSerializer
from pipecat.serializers.vonage import VonageFrameSerializer

from tests.agents.agent import app, converse
from tests.agents.jambonz import JambonzSerializer

HOSTS = ("api.telnyx.com", "api.plivo.com")


class Session(aiohttp.ClientSession):
    """Sends requests for the carriers' hosts to asterisk-bridge."""

    async def _request(self, method: str, str_or_url: Any, **more: Any) -> aiohttp.ClientResponse:
        url = yarl.URL(str_or_url)
        if url.host in HOSTS:
            url = yarl.URL(os.environ["BRIDGE_URL"]).join(url.relative())
        return await super()._request(method, url, **more)


@app.websocket("/vonage")
async def vonage(websocket: WebSocket) -> None:
    """Answer a call; its first message has the rate, who calls, and what the route adds."""
    await websocket.accept()
    first = json.loads(await websocket.receive_text())
    rate = int(first["content-type"].removeprefix("audio/l16;rate="))
    serializer = VonageFrameSerializer(VonageFrameSerializer.InputParams(vonage_sample_rate=rate))
    await converse(websocket, serializer, f"{first['greeting']} {first['from_number']}", rate)


@app.websocket("/telnyx")
async def telnyx(websocket: WebSocket) -> None:
    """Answer a call."""
    await websocket.accept()
    _, call = await parse_telephony_websocket(websocket)
    serializer = TelnyxFrameSerializer(
        stream_id=call["stream_id"],
        call_control_id=call["call_id"],
        outbound_encoding=call["outbound_encoding"],
        inbound_encoding=call["outbound_encoding"],
        api_key=os.environ["TELNYX_API_KEY"],
    )
    await converse(websocket, serializer, f"Hello {call.from_number}")


@app.websocket("/jambonz")
async def jambonz(websocket: WebSocket) -> None:
    """Answer a call that offers the subprotocol; the first message has the rate, who calls, and what the route adds."""
    assert websocket.scope["subprotocols"] == ["audio.jambonz.org"]
    await websocket.accept(subprotocol="audio.jambonz.org")
    first = json.loads(await websocket.receive_text())
    serializer = JambonzSerializer(first["sampleRate"])
    await converse(websocket, serializer, f"{first['greeting']} {first['from']}", first["sampleRate"])


@app.websocket("/plivo")
async def plivo(websocket: WebSocket) -> None:
    """Answer a call; pipecat does not read the caller's number."""
    await websocket.accept()
    _, call = await parse_telephony_websocket(websocket)
    serializer = PlivoFrameSerializer(
        stream_id=call["stream_id"],
        call_id=call["call_id"],
        auth_id=os.environ["PLIVO_AUTH_ID"],
        auth_token=os.environ["PLIVO_AUTH_TOKEN"],
    )
    await converse(websocket, serializer, "Hello")


@app.websocket("/exotel")
async def exotel(websocket: WebSocket) -> None:
    """Answer a call."""
    await websocket.accept()
    _, call = await parse_telephony_websocket(websocket)
    serializer = ExotelFrameSerializer(stream_sid=call["stream_id"], call_sid=call["call_id"])
    await converse(websocket, serializer, f"{call.custom_parameters['greeting']} {call.from_number}")


@app.websocket("/audiohook")
async def audiohook(websocket: WebSocket) -> None:
    """Answer a call; the session has to be open before the greeting."""
    await websocket.accept()
    assert websocket.headers["audiohook-session-id"]
    serializer = GenesysAudioHookSerializer()
    opened = await serializer.deserialize(await websocket.receive_text())
    await websocket.send_json(opened.message)
    greeting = serializer.input_variables["greeting"]
    await converse(websocket, serializer, f"{greeting} {serializer.participant['ani'].removeprefix('tel:')}")


if __name__ == "__main__":
    aiohttp.ClientSession = Session  # type: ignore[misc]
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="info")
