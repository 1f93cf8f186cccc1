"""The victim's application: sends every audio frame back.

``python -m tests.attack.echo`` prints its port. Then it prints, for every line that it reads, from when to when it
should have run and did not, since the previous one (JSON).
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.attack.clock import FRAME_S, LATE_S, first_in_line


async def echo(socket: ServerConnection) -> None:
    """Send back what comes."""
    try:
        async for message in socket:
            await socket.send(message)
    except ConnectionClosed:
        pass


async def main() -> None:
    """Serve until standard input ends."""
    late: list[tuple[float, float]] = []

    async def watch() -> None:
        due = time.monotonic()
        while True:
            due += FRAME_S
            await asyncio.sleep(due - time.monotonic())
            now = time.monotonic()
            if now - due > LATE_S:
                late.append((due, now))
                due = now

    watching = asyncio.create_task(watch())
    async with serve(echo, "127.0.0.1", 0, compression=None) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(late), flush=True)
            late.clear()
    watching.cancel()


if __name__ == "__main__":
    first_in_line()
    asyncio.run(main())
