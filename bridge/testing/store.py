"""A Redis server for one test: Debian's, without persistence."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from bridge.testing import packages
from bridge.testing.lab_engine import LabError, free_port
from bridge.testing.network import Machine
from bridge.testing.processes import BackgroundProgram

START_TIMEOUT_S = 60.0
USUAL_PORT = 6379


class RedisServer:
    """One server; it keeps its port when it is started again.

    Args:
        folder: where its log goes.
        password: required of every client; "": none.
        machine: where it runs; by default this one, on loopback.
    """

    def __init__(
        self,
        folder: Path,
        password: str = "",
        *,
        progress: packages.Progress = print,
        machine: Machine | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.host = machine.address if machine else "127.0.0.1"
        self.port = USUAL_PORT if machine else free_port()
        self._machine = machine
        self._folder = folder
        self._password = password
        self._progress = progress
        self._process = BackgroundProgram("redis", folder, folder / "redis.log")

    @property
    def url(self) -> str:
        """As ``[cluster] store`` takes it, without the password."""
        return f"redis://{self.host}:{self.port}/0"

    async def start(self) -> None:
        """Start an empty server; return when it accepts connections.

        Raises:
            PackagesUnavailable: the package could not be fetched.
            LabError: the server did not start.
        """
        root = await asyncio.to_thread(packages.ensure, self._progress, packages.STORE_PACKAGES)
        settings = {"bind": self.host, "port": str(self.port), "save": "", "appendonly": "no", "dir": str(self._folder)}
        if self._password:
            settings["requirepass"] = self._password
        elif self._machine is not None:  # alone on a network of the test's own
            settings["protected-mode"] = "no"
        options = [word for name, value in settings.items() for word in (f"--{name}", value)]
        line = root.command("usr/bin/redis-server", *options)
        self._process.start(self._machine.command(line) if self._machine else line, outlive_us=False)
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                _, writer = await asyncio.open_connection(self.host, self.port)
            except OSError:
                if self._process.pid is None or time.monotonic() > deadline:
                    raise LabError(f"redis-server does not start:\n{self._process.last_lines()}") from None
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return

    async def stop(self, *, at_once: bool = False) -> None:
        """End the server and discard its data; does nothing if it has ended."""
        await self._process.stop(at_once=at_once)
