"""An agent made for Twilio, with the vendor's package as it comes from PyPI: it answers calls with TwiML.

    python -m tests.agents.webhook PORT     environment: BRIDGE_URL, TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN

Each request to it is checked with `RequestValidator`, and printed as JSON. ``POST /do`` has it use the vendor's client:
the body names a method of this file, with its arguments.
"""

from __future__ import annotations

import base64
import io
import json
import os
import sys
import wave
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import uvicorn
from fastapi import FastAPI, Request, Response, WebSocket
from starlette.concurrency import run_in_threadpool
from twilio.base.exceptions import TwilioRestException
from twilio.request_validator import RequestValidator
from twilio.rest import Client
from twilio.twiml.voice_response import Connect, Dial, Gather, Start, Stop, VoiceResponse

from bridge.audio import g711
from bridge.testing import judge

RATE = 8000
ACCOUNT, TOKEN = os.environ["TWILIO_ACCOUNT_SID"], os.environ["TWILIO_AUTH_TOKEN"]
PORT = int(sys.argv[1])
BASE = f"http://localhost:{PORT}"
HZ = {"menu": 600, "chosen": 800, "redirected": 1300, "stream": 1500, "bye": 1700}
"""What the caller hears of each document, and of the stream."""

app = FastAPI()
validator = RequestValidator(TOKEN)
# docs/howto/twilio-voice-agents.md shows these two lines.
client = Client(ACCOUNT, TOKEN)
client.api.base_url = os.environ["BRIDGE_URL"]


def play(response: VoiceResponse | Gather, name: str, loop: int = 1) -> None:
    """Add the sound of a document."""
    response.play(f"{BASE}/sounds/{HZ[name]}.wav", loop=loop)


def menu(_: dict[str, str]) -> VoiceResponse:
    """Ask for two digits, again and again."""
    response = VoiceResponse()
    gather = Gather(num_digits=2, action="chosen?from=menu", timeout=20)
    play(gather, "menu", loop=10)
    response.append(gather)
    response.redirect("menu")
    return response


def chosen(form: dict[str, str]) -> VoiceResponse:
    """Confirm the digits, and connect the caller with 1002."""
    response = VoiceResponse()
    if form["Digits"] == "42":
        play(response, "chosen")
    dial = Dial(action="/voice/dialed", timeout=20)
    dial.client("1002")
    response.append(dial)
    return response


def dialed(_: dict[str, str]) -> VoiceResponse:
    """Record the caller for two seconds."""
    response = VoiceResponse()
    response.record(action="/voice/recorded", max_length=2, play_beep=False, timeout=0)
    return response


def recorded(_: dict[str, str]) -> VoiceResponse:
    """Listen with a one-way stream, and talk with a two-way stream until that closes."""
    response = VoiceResponse()
    start = Start()
    start.stream(url=f"ws://localhost:{PORT}/ears", name="ears", track="both_tracks", status_callback="/stream")
    response.append(start)
    connect = Connect(action="/voice/talked")
    stream = connect.stream(
        url=f"ws://localhost:{PORT}/talk", status_callback=f"{BASE}/stream", status_callback_method="GET"
    )
    stream.parameter(name="greeting", value="Welcome & ${hello}")
    response.append(connect)
    return response


def talked(_: dict[str, str]) -> VoiceResponse:
    """Say good-bye."""
    response = VoiceResponse()
    stop = Stop()
    stop.stream(name="ears")
    response.append(stop)
    play(response, "bye")
    response.hangup()
    return response


def waiting(_: dict[str, str]) -> VoiceResponse:
    """Play for a minute."""
    response = VoiceResponse()
    play(response, "redirected", loop=60)
    return response


def forked(_: dict[str, str]) -> VoiceResponse:
    """Listen with a one-way stream, and play for a minute."""
    response = VoiceResponse()
    start = Start()
    start.stream(url=f"ws://localhost:{PORT}/ears", name="ears", status_callback="/stream")
    response.append(start)
    play(response, "redirected", loop=60)
    return response


def room(_: dict[str, str]) -> VoiceResponse:
    """Join a conference."""
    response = VoiceResponse()
    dial = Dial()
    dial.conference("meeting", beep="false")
    response.append(dial)
    return response


def forward(_: dict[str, str]) -> VoiceResponse:
    """Connect the caller with a number, which receives digits first."""
    response = VoiceResponse()
    dial = Dial(timeout=20)
    dial.number("5550100", send_digits="w12W#")
    response.append(dial)
    return response


def mailbox(_: dict[str, str]) -> VoiceResponse:
    """Record a message until the caller hangs up."""
    response = VoiceResponse()
    callback = {"recording_status_callback": "/recording", "recording_status_callback_event": "in-progress completed"}
    response.record(action="/voice/recorded", max_length=60, play_beep=False, timeout=0, **callback)
    return response


DOCUMENTS: dict[str, Callable[[dict[str, str]], VoiceResponse]] = {
    each.__name__: each for each in (menu, chosen, dialed, recorded, talked, waiting, forked, room, forward, mailbox)
}


async def checked(request: Request) -> dict[str, str]:
    """Return the parameters of a request, and print it with the validator's verdict."""
    body = (await request.body()).decode()
    form = dict(parse_qsl(body, keep_blank_values=True))
    valid = validator.validate(str(request.url), form, request.headers.get("X-Twilio-Signature", ""))
    found = form or dict(request.query_params)
    line = {
        "path": request.url.path,
        "method": request.method,
        "valid": valid,
        "form": found,
        "query": dict(request.query_params),
    }
    print("REQUEST " + json.dumps(line), flush=True)
    return found


@app.api_route("/voice/{name}", methods=["GET", "POST"])
async def voice(name: str, request: Request) -> Response:
    """Answer with a document; an unknown one is an error of the server."""
    form = await checked(request)
    if name not in DOCUMENTS:
        return Response(status_code=500)
    return Response(str(DOCUMENTS[name](form)), media_type="text/xml")


@app.api_route("/stream", methods=["GET", "POST"])
@app.api_route("/recording", methods=["GET", "POST"])
@app.api_route("/status", methods=["GET", "POST"])
async def status(request: Request) -> Response:
    """Receive a status callback."""
    await checked(request)
    return Response(status_code=204)


@app.get("/sounds/{hz}.wav")
async def sound(hz: int) -> Response:
    """Return a second of a tone."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(RATE)
        writer.writeframes(judge.tone(hz, 1.0, RATE).astype("<i2").tobytes())
    return Response(file.getvalue(), media_type="audio/wav")


@app.websocket("/ears")
async def ears(websocket: WebSocket) -> None:
    """Receive a one-way stream; print each track when it begins, and their first timestamps."""
    await websocket.accept()
    first: dict[str, int] = {}
    async for text in websocket.iter_text():
        message = json.loads(text)
        if message["event"] == "media" and message["media"]["track"] not in first:
            first[message["media"]["track"]] = int(message["media"]["timestamp"])
            print("TRACK " + json.dumps(message["media"]["track"]), flush=True)
        elif message["event"] == "stop":
            print("EARS " + json.dumps(first), flush=True)


@app.websocket("/talk")
async def talk(websocket: WebSocket) -> None:
    """Send two seconds of a tone, and leave at the first digit."""
    valid = validator.validate(str(websocket.url), {}, websocket.headers.get("X-Twilio-Signature", ""))
    await websocket.accept(subprotocol="audio.twilio.com")  # as agents do, whatever is offered
    offered = websocket.scope["subprotocols"]
    async for text in websocket.iter_text():
        message = json.loads(text)
        if message["event"] == "start":
            print("TALK " + json.dumps({"valid": valid, "offered": offered, **message["start"]}), flush=True)
            payload = g711.ulaw_encode(judge.tone(HZ["stream"], 2.0, RATE).astype("<i2").tobytes())
            media = {"payload": base64.b64encode(payload).decode()}
            await websocket.send_json({"event": "media", "streamSid": message["streamSid"], "media": media})
        elif message["event"] == "dtmf":
            await websocket.close()
            return


# Requests to the bridge, by the vendor's client


def create(**arguments: Any) -> dict[str, Any]:
    """Create a call."""
    call = client.calls.create(**arguments)
    return {"sid": call.sid, "status": call.status, "to": call.to, "direction": call.direction}


def create_with_document(name: str, **arguments: Any) -> dict[str, Any]:
    """Create a call with a document in the request, whose URLs are absolute."""
    document = str(DOCUMENTS[name]({})).replace('action="', f'action="{BASE}/voice/')
    return create(twiml=document.replace("<Redirect>menu", f"<Redirect>{BASE}/voice/menu"), **arguments)


def fetch(sid: str) -> dict[str, Any]:
    """Get a call."""
    call = client.calls(sid).fetch()
    return {"sid": call.sid, "status": call.status, "duration": call.duration, "started": str(call.start_time)}


def listed(**arguments: Any) -> list[str]:
    """List calls."""
    return [str(call.sid) for call in client.calls.list(**arguments)]


def update(sid: str, document: str = "", **arguments: Any) -> str:
    """Update a call, by a document of this file if one is named."""
    if document:
        arguments["twiml"] = str(DOCUMENTS[document]({}))
    return str(client.calls(sid).update(**arguments).status)


def start_stream(sid: str, **arguments: Any) -> dict[str, Any]:
    """Start a stream of a call."""
    stream = client.calls(sid).streams.create(url=f"ws://localhost:{PORT}/ears", **arguments)
    return {"sid": stream.sid, "call_sid": stream.call_sid, "name": stream.name, "status": stream.status}


def stop_stream(sid: str, stream: str) -> str:
    """Stop a stream of a call."""
    return str(client.calls(sid).streams(stream).update(status="stopped").status)


def start_recording(sid: str, **arguments: Any) -> dict[str, Any]:
    """Start a recording of a call."""
    recording = client.calls(sid).recordings.create(**arguments)
    return {"sid": recording.sid, "status": recording.status, "started": recording.start_time is not None}


def stop_recording(sid: str, recording: str) -> dict[str, Any]:
    """Stop a recording of a call."""
    stopped = client.calls(sid).recordings(recording).update(status="stopped")
    return {"sid": stopped.sid, "status": stopped.status}


WORK: dict[str, Callable[..., Any]] = {
    each.__name__: each
    for each in (
        create,
        create_with_document,
        fetch,
        listed,
        update,
        start_stream,
        stop_stream,
        start_recording,
        stop_recording,
    )
}


@app.post("/do")
async def do(request: Request) -> dict[str, Any]:
    """Call one of the functions above; errors of the client are returned."""
    wanted = await request.json()
    try:
        return {"result": await run_in_threadpool(WORK[wanted["what"]], **wanted["arguments"])}
    except TwilioRestException as error:
        return {"error": {"status": error.status, "code": error.code, "message": error.msg, "uri": error.uri}}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="info")
