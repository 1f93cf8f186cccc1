"""A proxy to a server that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Proxy:
    """Carries TCP connections to a port of this machine until it is cut: then nothing arrives, without notice.

    Args:
        to_port: the port behind it.
    """

    def __init__(self, to_port: int) -> None:
        self.port = 0
        self._to_port = to_port
        self._open = asyncio.Event()
        self._open.set()
        self._admits = True
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    def cut(self) -> None:
        """Drop packets as a firewall does: what is sent waits, connections stay open."""
        self._open.clear()

    def mend(self) -> None:
        """Deliver all that was sent meanwhile."""
        self._open.set()

    def drop(self) -> None:
        """Close the connections, and each new one immediately, as a server that has ended does, until `admit`."""
        self._admits = False
        for writer in self._writers:
            writer.close()

    def admit(self) -> None:
        """End what `drop` began."""
        self._admits = True

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close everything."""
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._admits:
            writer.close()
            return
        self._tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        self._writers.add(writer)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await self._open.wait()
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
            self._writers.add(far_writer)
            await asyncio.gather(self._carry(reader, far_writer), self._carry(far_reader, writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._open.wait()
                writer.write(data)
        writer.close()


@contextlib.asynccontextmanager
async def open_proxy(to_port: int) -> AsyncIterator[Proxy]:
    """Run a proxy that carries."""
    proxy = Proxy(to_port)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
