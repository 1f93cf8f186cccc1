"""Hears the newest call of the PBX into heard.wav, and answers with a second of tone."""

import asyncio
import json
import math
import os
import struct
import time
import urllib.request
import wave

import websockets

BRIDGE = os.environ.get("BRIDGE_URL", "http://127.0.0.1:8080")
HEADERS = {"Authorization": f"Bearer {os.environ.get('BRIDGE_TOKEN', '')}"}
RATE = 8000  # encapsulation=sln: 16-bit little-endian samples, and nothing else
TONE = b"".join(struct.pack("<h", int(8000 * math.sin(2 * math.pi * 440 * n / RATE))) for n in range(RATE))


def newest_call() -> str:
    while True:  # until there is one
        with urllib.request.urlopen(urllib.request.Request(f"{BRIDGE}/v1.0/calls", headers=HEADERS)) as answer:
            for call in json.load(answer)["result"]:
                if call["status"] == "progressing":
                    return str(call["id"])
        time.sleep(0.5)


async def main() -> None:
    url = f"ws{BRIDGE.removeprefix('http')}/v1.0/calls/{newest_call()}/media_stream?encapsulation=sln"
    async with websockets.connect(url, additional_headers=HEADERS) as socket:
        await socket.send(TONE)  # the bridge plays it at the right speed, whatever the size of the message
        with wave.open("heard.wav", "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            async for message in socket:  # 20 ms each; ends with the call
                if isinstance(message, bytes):
                    file.writeframes(message)
        print(f"heard {file.tell() / RATE:.1f} s; closed with {socket.close_code} {socket.close_reason}")


asyncio.run(main())
