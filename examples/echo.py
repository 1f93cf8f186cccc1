"""An echo application: it sends the audio of a call back after a delay.

    BRIDGE_TOKEN=... python examples/echo.py --url http://127.0.0.1:8080 --number 750 --delay-ms 500

It lists calls, opens a WebSocket on each new one, and sends every message back when its delay is over. That is all an
application needs: HTTP to find a call, one WebSocket to receive and send its audio.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import time
import wave
from collections import deque
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp

POLL_S = 0.2
# Audio that is sent ahead of its time: a short delay on the network must not cause a gap.
CUSHION_MS = 100
RATE = 8000  # encapsulation=sln: 16-bit little-endian samples, 8000 per second, no header


async def find_calls(session: aiohttp.ClientSession, options: argparse.Namespace) -> None:
    """Look for answered calls to the number and echo each until it ends."""
    echoes: dict[str, asyncio.Task[None]] = {}
    reachable = True
    while True:
        try:
            async with session.get("/v1.0/calls", params={"page_size": "100"}) as answer:
                answer.raise_for_status()
                calls: list[dict[str, Any]] = (await answer.json())["result"]
            reachable = True
        except (aiohttp.ClientError, TimeoutError) as error:
            if reachable:
                print(f"the bridge does not answer: {error}; asking on", flush=True)
            reachable = False
            calls = []
        for call in calls:
            wanted = options.number in ("", call.get("destination", {}).get("target"))
            if call["status"] == "progressing" and wanted and call["id"] not in echoes:
                echoes[call["id"]] = asyncio.create_task(echo(session, call, options))
        if reachable:
            ongoing = {call["id"] for call in calls}
            for id_ in [id_ for id_, task in echoes.items() if task.done() and id_ not in ongoing]:
                del echoes[id_]
        await asyncio.sleep(POLL_S)


async def echo(session: aiohttp.ClientSession, call: dict[str, Any], options: argparse.Namespace) -> None:
    """Echo one call until its WebSocket closes, then print what was received."""
    heard: list[bytes] = []
    url = f"/v1.0/calls/{quote(call['id'], safe='')}/media_stream"
    began = time.monotonic()
    try:
        async with session.ws_connect(url, params={"encapsulation": "sln"}) as socket:
            waiting: deque[tuple[float, bytes]] = deque()
            arrived = asyncio.Event()

            cushion_ms = min(CUSHION_MS, options.delay_ms)
            wait_s = (options.delay_ms - cushion_ms) / 1000

            async def say_back() -> None:
                cushion = bytes(2 * RATE * cushion_ms // 1000)
                while True:
                    while not waiting:
                        arrived.clear()
                        await arrived.wait()
                    due, audio = waiting.popleft()
                    await asyncio.sleep(due - time.monotonic())
                    await socket.send_bytes(cushion + audio)
                    cushion = b""

            speaking = asyncio.create_task(say_back())
            try:
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.BINARY:
                        heard.append(message.data)
                        waiting.append((time.monotonic() + wait_s, message.data))
                        arrived.set()
            finally:
                speaking.cancel()
                with contextlib.suppress(asyncio.CancelledError, ConnectionError, aiohttp.ClientError):
                    await speaking
            reason = f"closed with {socket.close_code}"
    except (aiohttp.ClientError, OSError) as error:
        reason = f"failed: {error}"
    audio = b"".join(heard)
    record = ""
    if options.record:
        record = str(options.record / f"{call['id'].replace('/', '_')}.wav")
        with wave.open(record, "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes(audio)
    report = {
        "call": call["id"],
        "caller": call.get("source", {}).get("target", ""),
        "messages": len(heard),
        "audio_s": round(len(audio) / 2 / RATE, 2),
        "open_s": round(time.monotonic() - began, 2),
        "end": reason,
        "recording": record,
    }
    print(json.dumps(report), flush=True)


async def main() -> None:
    """Read the command line and run until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--url", default=os.environ.get("BRIDGE_URL", "http://127.0.0.1:8080"), help="the bridge")
    first = Path.home() / ".local/state/asterisk-bridge/token"  # what a bridge creates that has no token configured
    token = os.environ.get("BRIDGE_TOKEN") or (first.read_text().strip() if first.exists() else "")
    parser.add_argument("--token", default=token, help="its token; better in $BRIDGE_TOKEN, where only you can see it")
    parser.add_argument("--number", default="", help="only calls to this number (default: every call of the PBX)")
    parser.add_argument("--delay-ms", type=int, default=500, help="delay of the echo (default: %(default)s)")
    parser.add_argument("--record", type=Path, help="folder for one WAV file per call")
    options = parser.parse_args()
    if options.record:
        options.record.mkdir(parents=True, exist_ok=True)
    headers = {"Authorization": f"Bearer {options.token}"} if options.token else {}
    async with aiohttp.ClientSession(options.url, headers=headers) as session:
        await find_calls(session, options)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
