"""Calls that an Asterisk would bring, and their application, in a process of their own: `python callers.py`.

It prints the application's port, and reads commands: ``call BRIDGE_PORT COUNT EVERY_S`` opens AudioSocket connections,
each with a UUID of its own, and prints how many of them are open a second after the last; ``open`` prints how many of
each command's are. What comes is read and thrown away.
"""

from __future__ import annotations

import asyncio
import sys
from uuid import uuid4

from websockets.asyncio.server import ServerConnection, serve

from tests.fakes.dialed import dial


async def call(port: int, ended: list[bool], index: int) -> None:
    """Be one call until it is hung up."""
    try:
        reader, writer = await dial("127.0.0.1", port)
        writer.write(b"\x01\x00\x10" + uuid4().bytes)
        while await reader.read(4096):
            pass
        writer.close()
    except OSError:
        pass
    ended[index] = True


async def main() -> None:
    async def listens(connection: ServerConnection) -> None:
        async for _ in connection:
            pass

    commands = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    groups: list[list[bool]] = []
    tasks = []
    async with serve(listens, "127.0.0.1", 0) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        while line := (await commands.readline()).decode().split():
            if line[0] == "call":
                port, count, every_s = int(line[1]), int(line[2]), float(line[3])
                groups.append(ended := [False] * count)
                for index in range(count):
                    tasks.append(asyncio.create_task(call(port, ended, index)))
                    await asyncio.sleep(every_s)
                await asyncio.sleep(1)
            print(*(group.count(False) for group in groups), flush=True)
        for task in tasks:
            task.cancel()


if __name__ == "__main__":
    asyncio.run(main())
