"""Prints what happens in calls, flows, streams and conferences, as it happens: python events.py 'call_*,flow_*'"""

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path

import aiohttp

BRIDGE = os.environ.get("BRIDGE_URL", "http://127.0.0.1:8080")
FIRST = Path.home() / ".local/state/asterisk-bridge/token"  # what a bridge creates that has no token configured
TOKEN = os.environ.get("BRIDGE_TOKEN") or (FIRST.read_text().strip() if FIRST.exists() else "")
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


async def watch(types: str) -> None:
    async with aiohttp.ClientSession(BRIDGE, headers=HEADERS) as session:
        while True:
            try:
                async with session.ws_connect("/v1.0/events", params={"types": types}, heartbeat=20) as socket:
                    # Events are not sent again after a reconnect: a program that keeps a list of calls
                    # reads GET /v1.0/calls here.
                    async for message in socket:
                        event = json.loads(message.data)
                        print(event["tm_create"], event["type"], json.dumps(event["data"]), flush=True)
                print(f"closed with {socket.close_code}", file=sys.stderr)
            except aiohttp.WSServerHandshakeError as refusal:
                if refusal.status in (400, 401, 403, 404):
                    sys.exit(f"refused with {refusal.status}: check BRIDGE_URL, BRIDGE_TOKEN and the types")
                print(f"not now: {refusal.status}", file=sys.stderr)
            except aiohttp.ClientError as problem:
                print(f"no connection: {problem}", file=sys.stderr)
            await asyncio.sleep(2)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(watch(sys.argv[1] if len(sys.argv) > 1 else "*"))
