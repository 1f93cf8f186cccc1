"""A real `asterisk-bridge serve` that tests kill, stop, reload and start again, with a state file that stays."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from bridge.testing.lab_engine import Lab
from tests.lab.conftest import configuration, synchronized
from tests.lab.waiting import PATIENCE_S
from tests.lab.workers import Several, toml


class Service(Several):
    """The service: one process at a time; made by `restarting`.

    Args:
        folder: where its configuration, its state and its log are.
        program: the module that is run.
    """

    def __init__(self, lab: Lab, folder: Path, sections: dict[str, Any], program: str = "bridge") -> None:
        self.folder = folder
        self.program = program
        self.sections = sections
        self.starts = 0
        self.process: asyncio.subprocess.Process
        super().__init__(lab, None, folder / "bridge.log")  # type: ignore[arg-type]  # `start` sets it

    def write(self, **sections: Any) -> None:
        """Write the configuration, with some sections changed."""
        self.sections |= sections
        plain = configuration(self.lab, app=self.lab.ari_app).model_dump(
            mode="json", include={"audiosocket", "ari", "calling", "outbound", "speech"}
        )
        plain["ari"]["password"] = self.lab.ari_password
        for name, section in self.sections.items():
            plain[name] = plain.get(name, {}) | section if isinstance(section, dict) else section
        plain |= {
            "http": {"port": 0, "authentication": False},
            "streams": {"state_file": str(self.folder / "state.sqlite3")},
        }
        for flow in plain.get("flows", ()):
            if "actions" in flow:
                file = self.folder / f"{flow['id']}.json"
                file.write_text(json.dumps(flow.pop("actions")))
                flow["file"] = str(file)
        (self.folder / "bridge.json").write_text(toml(plain))

    async def start(self) -> None:
        """Start it, and wait until it serves calls."""
        await self.launch()
        await self.up()

    async def launch(self, *arguments: str) -> None:
        """Start it; it need not be up yet."""
        self.starts += 1
        self.write()
        environ = {name: value for name, value in os.environ.items() if not name.startswith("ASTERISK_BRIDGE_")}
        with self.log.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                *(
                    sys.executable,
                    "-m",
                    self.program,
                    "serve",
                    "--config",
                    str(self.folder / "bridge.json"),
                    *arguments,
                ),
                stderr=output,
                env=environ,
            )

    async def up(self) -> None:
        """Wait until it serves calls."""
        found = await self.says(r"listening url=(\S+)", self.starts, 60)
        self.url = found[self.starts - 1]
        await synchronized(self, 60)
        await self.all_in_step()

    async def stand_by(self) -> Service:
        """Start another instance with the same configuration, which waits for this one to end."""
        other = Service(self.lab, self.folder, self.sections, self.program)
        other.log = self.folder / f"standby{self.starts}.log"
        await other.launch("--standby")
        await other.says("standing by")
        return other

    def become(self, other: Service) -> None:
        """Be the instance that has taken over."""
        self.process, self.log, self.url, self.starts = other.process, other.log, other.url, other.starts

    async def die(self) -> None:
        """End the process as a crash would."""
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def end(self) -> None:
        """End the process in order."""
        self.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(self.process.wait(), PATIENCE_S) == 0

    async def reload(self, **sections: Any) -> None:
        """Change sections of the configuration, and have it read again."""
        before = len(self.said("configuration reloaded"))
        self.write(**sections)
        self.process.send_signal(signal.SIGHUP)
        await self.says("configuration reloaded", before + 1)


@contextlib.asynccontextmanager
async def restarting(lab: Lab, folder: Path, *, program: str = "bridge", **sections: Any) -> AsyncIterator[Service]:
    """Start a service; at the end it is stopped, and nothing of it may be left on the PBX."""
    service = Service(lab, folder, sections, program)
    try:
        await service.start()
        yield service
        service.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(service.process.wait(), PATIENCE_S) == 0
        await service.nothing_left()
        log = service.log.read_text()
        assert "Traceback" not in log, log[-6000:]
    finally:
        if service.process.returncode is None:
            service.process.kill()
            await service.process.wait()
