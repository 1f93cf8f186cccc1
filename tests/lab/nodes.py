"""Bridges of a cluster, each a process of its own, and what tests ask of them."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from pathlib import Path
from typing import Any

from bridge.testing import judge
from bridge.testing.lab_engine import Lab
from bridge.testing.network import Machine
from bridge.testing.phone import Phone
from tests.lab.conftest import configuration
from tests.lab.sink import Received, Sink
from tests.lab.target import Target
from tests.lab.waiting import PATIENCE_S
from tests.lab.workers import toml

RATE = 8000
SETTLES_S = 7.5
"""A store that has just started gives no claims before."""


class Node(Target):
    """One bridge; made by `start_node`."""

    def __init__(self, lab: Lab, name: str, process: asyncio.subprocess.Process, log: Path, token: str | None) -> None:
        super().__init__(lab, "", token, None)
        self.name = name
        self.process = process
        self.log = log

    async def up(self, timeout_s: float = PATIENCE_S) -> None:
        """Wait until it serves, and has the store."""
        async with asyncio.timeout(timeout_s):
            while "listening url=" not in self.log.read_text():
                assert self.process.returncode is None, self.log.read_text()
                await asyncio.sleep(0.05)
            self.url = self.log.read_text().split("listening url=")[1].split()[0]
            while (await self.get("/health"))[0] != 200 or not await self.metric("cluster_store_reachable"):
                await asyncio.sleep(0.05)

    async def metric(self, name: str) -> float:
        """Return a value of ``/metrics``."""
        text = await self.text("/metrics")
        return float(next(line.split()[1] for line in text.splitlines() if line.startswith(f"asterisk_bridge_{name} ")))

    async def calls_streamed(self) -> list[str]:
        """Ids of the calls that it streams, sorted."""
        return sorted(stream["call_id"] for stream in (await self.get("/v1.0/streams"))[1]["result"])

    async def end(self, *, at_once: bool = False) -> None:
        """End it in order, or with a kill."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL if at_once else signal.SIGTERM)
        await asyncio.wait_for(self.process.wait(), PATIENCE_S)


async def start_node(
    lab: Lab, folder: Path, name: str, store: str, *, pbx: str = "lab", machine: Machine | None = None, **sections: Any
) -> Node:
    """Start a bridge that serves the lab's Asterisk as the application ``name``; it need not be up yet.

    Args:
        machine: where it runs; by default this one, on loopback.
    """
    plain = configuration(lab, app=name).model_dump(mode="json", include={"audiosocket", "ari", "calling", "outbound"})
    plain["ari"]["password"] = lab.ari_password
    plain |= {
        "http": {"port": 0, "authentication": machine is not None},
        "cluster": {"store": store, "node": name, "pbx": pbx},
        "streams": {"state_file": str(folder / f"{name}.sqlite3")},
        **sections,
    }
    token = None
    if machine is not None:
        token = secrets.token_hex(16)
        plain["http"] |= {"host": machine.address, "tokens": [token]}
        plain["audiosocket"] |= {"bind_host": machine.address, "advertised_host": machine.address}
    file, log = folder / f"{name}.toml", folder / f"{name}.log"
    file.write_text(toml(plain))
    environ = {key: value for key, value in os.environ.items() if not key.startswith("ASTERISK_BRIDGE_")}
    line = [sys.executable, "-m", "bridge", "serve", "--config", str(file)]
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(machine.command(line) if machine else line), stderr=output, env=environ
        )
    return Node(lab, name, process, log, token)


class Heard:
    """What an application has heard of each call, over whatever connections."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def connections(self, call_id: str) -> list[Received]:
        """Return the connections that carried audio of a call, in order."""
        return [each for each in self._sink.connections if self.times(each, call_id)]

    @staticmethod
    def times(connection: Received, call_id: str) -> list[float]:
        """Return when each piece of a call's audio came over a connection."""
        pairs = zip(connection.times, connection.messages, strict=True)
        return [at for at, message in pairs if message["callid"] == call_id and message["status"] == "process"]

    async def heard(self, call_id: str, connections: int, timeout_s: float) -> Received:
        """Return the last connection that carried audio of a call, once there are ``connections`` and it continues."""
        async with asyncio.timeout(timeout_s):
            while len(self.connections(call_id)) < connections:
                await asyncio.sleep(0.02)
        last = self.connections(call_id)[-1]
        before = len(self.times(last, call_id))
        async with asyncio.timeout(timeout_s):
            while len(self.times(last, call_id)) < before + 25:
                await asyncio.sleep(0.02)
        return last


async def settle() -> None:
    """Wait until a store that has just started gives claims."""
    await asyncio.sleep(SETTLES_S)  # the store's age decides


async def talk(caller: Phone, callee: str, *others: Phone) -> None:
    """Have a phone call an extension, each party with a tone."""
    for other in others:
        other.play_next(judge.tone(700, 120, RATE))
    await caller.call(callee, play=judge.tone(500, 120, RATE))
    await caller.answered(PATIENCE_S)
