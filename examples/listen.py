"""Hears the newest call of the PBX into heard.wav, and answers with a second of tone."""

import asyncio
import json
import math
import os
import struct
import sys
import time
import urllib.request
import wave
from pathlib import Path

import websockets

BRIDGE = os.environ.get("BRIDGE_URL", "http://127.0.0.1:8080")
FIRST = Path.home() / ".local/state/asterisk-bridge/token"  # what a bridge creates that has no token configured
TOKEN = os.environ.get("BRIDGE_TOKEN") or (FIRST.read_text().strip() if FIRST.exists() else "")
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
TONE = b"".join(struct.pack("<h", int(8000 * math.sin(2 * math.pi * 440 * n / 8000))) for n in range(8000))


def newest_call() -> str | None:
    with urllib.request.urlopen(urllib.request.Request(f"{BRIDGE}/v1.0/calls", headers=HEADERS)) as answer:
        return next((call["id"] for call in json.load(answer)["result"] if call["status"] == "progressing"), None)


def wait_for_call() -> str:
    while not (call := newest_call()):
        time.sleep(0.5)
    return call


async def listen(call: str) -> None:
    url = f"ws{BRIDGE.removeprefix('http')}/v1.0/calls/{call}/media_stream?encapsulation=sln"
    async with websockets.connect(url, additional_headers=HEADERS) as socket:
        await socket.send(TONE)  # in one message or in many: the bridge plays it at the right speed
        with wave.open("heard.wav", "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))  # sln: 16-bit samples, 8000 per second, nothing else
            async for message in socket:  # 20 ms each; ends with the call
                if isinstance(message, bytes):
                    file.writeframes(message)
        print(f"heard {file.tell() / 8000:.1f} s; closed with {socket.close_code} {socket.close_reason}")


try:
    asyncio.run(listen(wait_for_call()))
except (OSError, websockets.InvalidStatus) as problem:
    sys.exit(f"{BRIDGE}: {problem}; is the bridge there (BRIDGE_URL), and is the token its own (BRIDGE_TOKEN)?")
