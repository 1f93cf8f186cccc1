"""A bridge of several processes, as `asterisk-bridge serve` runs it, and what tests ask of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from bridge.testing.lab_engine import Lab
from tests.lab.conftest import configuration, synchronized
from tests.lab.target import Target
from tests.lab.waiting import PATIENCE_S


class Several(Target):
    """A bridge of workers; made by `serving`."""

    def __init__(self, lab: Lab, process: asyncio.subprocess.Process, log: Path) -> None:
        super().__init__(lab, "", None, None)
        self.process = process
        self.log = log

    def said(self, pattern: str) -> list[str]:
        """Return the groups of every match in the log."""
        return re.findall(pattern, self.log.read_text(), re.MULTILINE)

    async def says(self, pattern: str, count: int = 1, timeout_s: float = PATIENCE_S) -> list[str]:
        """Wait for ``count`` of the matches that `said` returns."""
        async with asyncio.timeout(timeout_s):
            while len(found := self.said(pattern)) < count:
                await asyncio.sleep(0.02)
            return found

    def pid(self, number: int) -> int:
        """Return the PID of this worker's present process."""
        return int(self.said(rf"worker started worker={number} pid=(\d+)")[-1])

    def worker_of(self, channel_id: str) -> int | None:
        """Return the worker that a call was last handed over to."""
        found = self.said(rf"handed over channel={re.escape(channel_id)} worker=(\d+)")
        return int(found[-1]) if found else None

    async def from_each(self, path: str, workers: set[int], timeout_s: float = PATIENCE_S) -> dict[int, Any]:
        """Return each worker's response to a GET: repeated over new connections until each of them has answered."""
        answers: dict[int, Any] = {}
        async with asyncio.timeout(timeout_s):
            while set(answers) != workers:
                async with aiohttp.ClientSession() as session, session.get(self.url + path) as answer:
                    text = await answer.text()
                    assert answer.status == 200, text
                    is_json = answer.content_type == "application/json"
                    answers[int(answer.headers["X-Worker"])] = json.loads(text) if is_json else text
        return answers

    async def request(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and JSON body of a request, over a new connection: any worker may get it."""
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self.url + path, json=body) as answer,
        ):
            return answer.status, await answer.json() if answer.content_type == "application/json" else None

    async def all_in_step(self, timeout_s: float = PATIENCE_S) -> None:
        """Wait until every worker is synchronized with the PBX."""
        async with asyncio.timeout(timeout_s):
            while True:
                status, health = await self.get("/health")
                if status == 200 and not health["faults"]:
                    return
                await asyncio.sleep(0.05)

    def kill(self, number: int) -> None:
        """End a worker as a crash would."""
        os.kill(self.pid(number), signal.SIGKILL)

    async def stop(self) -> float:
        """End it as an administrator does; answers how many seconds that took."""
        began = asyncio.get_running_loop().time()
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(self.process.wait(), PATIENCE_S)
        return asyncio.get_running_loop().time() - began


@contextlib.asynccontextmanager
async def serving(
    lab: Lab, folder: Path, count: int = 2, *, ends_well: bool = True, **sections: Any
) -> AsyncIterator[Several]:
    """Run a bridge of ``count`` workers; at the end it is stopped, and nothing may be left on the PBX."""
    plain = configuration(lab, app=lab.ari_app).model_dump(
        mode="json", include={"audiosocket", "ari", "calling", "outbound"}
    )
    plain["ari"]["password"] = lab.ari_password
    plain |= {
        "http": {"port": 0, "authentication": False},
        "streams": {"state_file": ":memory:"},
        "workers": {"count": count},
        **sections,
    }
    file = folder / "bridge.json"
    log = folder / "bridge.log"
    file.write_text(toml(plain))
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ASTERISK_BRIDGE_")}
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bridge", "serve", "--config", str(file)), stderr=output, env=environ
        )
    several = Several(lab, process, log)
    try:
        several.url = (await several.says(r"listening url=(\S+)"))[0]
        await synchronized(several, 60)
        await several.all_in_step()
        yield several
        await several.stop()
        assert process.returncode == (0 if ends_well else -signal.SIGKILL), log.read_text()[-3000:]
        await several.nothing_left()
        assert "Traceback" not in log.read_text(), log.read_text()[-6000:]
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def toml(values: dict[str, Any]) -> str:
    """Sections and lists of tables as TOML; a JSON text is a TOML text."""
    lines: list[str] = []
    for name, section in values.items():
        for head, table in (
            [(f"[[{name}]]", each) for each in section] if isinstance(section, list) else [(f"[{name}]", section)]
        ):
            lines += [head, *(f"{key} = {_inline(value)}" for key, value in table.items()), ""]
    return "\n".join(lines)


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_inline(each)}" for key, each in value.items()) + "}"
    return json.dumps(value)
