"""The bridge that a lab test speaks to: in this process (embedded engine) or in a container (docker engine)."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp

import bridge as bridge_package
from bridge.app.application import Application
from bridge.testing.lab_engine import Lab
from bridge.testing.peer import Peer, open_peer
from tests.lab import ari_requests
from tests.lab.waiting import PATIENCE_S


class Target:
    """Base address and token of a bridge, and what tests ask it and its PBX.

    Args:
        bridge: the bridge itself where it runs in this process; None where it runs in a container.
    """

    def __init__(self, lab: Lab, url: str, token: str | None, bridge: Application | None) -> None:
        self.lab = lab
        self.url = url
        self.token = token
        self.bridge = bridge

    async def get(self, path: str, **query: str) -> tuple[int, Any]:
        """Status and JSON body of a GET."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.get(self.url + path, params=query) as answer,
        ):
            return answer.status, await answer.json()

    async def text(self, path: str) -> str:
        """Return the body of a GET that is not JSON."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        async with aiohttp.ClientSession(headers=headers) as session, session.get(self.url + path) as answer:
            return await answer.text()

    async def call_from(
        self, caller: str, *, status: str = "progressing", timeout_s: float = PATIENCE_S
    ) -> dict[str, Any]:
        """Wait until the call of a caller (its endpoint) has the wanted status, and return it."""
        async with asyncio.timeout(timeout_s):
            while True:
                code, body = await self.get("/v1.0/calls")
                for call in body["result"] if code == 200 else ():
                    if call["status"] == status and call["parties"] and call["parties"][0]["endpoint"] == caller:
                        found: dict[str, Any] = call
                        return found
                await asyncio.sleep(0.05)

    def stream_url(self, call_id: str, **options: str | int) -> str:
        """Address of a media stream."""
        query = urlencode(options | ({"token": self.token} if self.token else {}))
        return f"ws{self.url.removeprefix('http')}/v1.0/calls/{quote(call_id, safe='')}/media_stream?{query}"

    @contextlib.asynccontextmanager
    async def stream(self, call_id: str, **options: str | int) -> AsyncIterator[Peer]:
        """Open a media stream."""
        async with open_peer(self.stream_url(call_id, **options)) as peer:
            yield peer

    async def ari(self, method: str, path: str, **query: str) -> Any:
        """Send a request directly to Asterisk, past the bridge."""
        return await ari_requests.send(self.lab, method, path, **query)

    async def delete_recordings(self) -> None:
        """Delete what bridges have recorded: the next test's bridge would find it, as after a restart."""
        for each in await self.ari("GET", "/recordings/stored"):
            if each["name"].startswith("ab-"):
                with contextlib.suppress(AssertionError):  # the bridge deletes it as well
                    await self.ari("DELETE", f"/recordings/stored/{quote(each['name'], safe='')}")

    async def ours_on_the_pbx(self) -> list[str]:
        """Ids of all channels and bridges on the PBX that a bridge has made."""
        objects = [*await self.ari("GET", "/channels"), *await self.ari("GET", "/bridges")]
        return [entry["id"] for entry in objects if entry["id"].startswith("ab-")]

    async def nothing_left(self) -> None:
        """Wait until nothing of the bridge is left: on the PBX, and in the process if it is this one."""
        await self._until_gone(lambda _: True)

    async def streams_gone(self) -> None:
        """Wait as `nothing_left`, but calls in the application may continue, each in a mixing bridge of its own."""
        await self._until_gone(lambda object_id: "-hold-" not in object_id)

    async def _until_gone(self, counts: Callable[[str], bool], timeout_s: float = PATIENCE_S) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while left := [*filter(counts, await self.ours_on_the_pbx()), *self._in_process()]:
            assert loop.time() < deadline, f"left behind: {left}"
            await asyncio.sleep(0.05)

    def _in_process(self) -> list[str]:
        bridge = self.bridge
        if bridge is None:
            return []
        left = [f"stream {stream.stream_id}" for stream in bridge.streams]
        left += [f"connection {connection}" for connection in bridge.listener.connections]
        left += ["tap"] * len(bridge.taps) + ["ticked leg"] * len(bridge.listener.wheel)
        left += ["expected leg"] * bridge.listener.expected
        left += [f"task {name}" for name in our_tasks() if name not in LASTING_TASKS]
        left += open_connections({bridge.http_port, bridge.audiosocket_port})
        return left


LASTING_TASKS = frozenset(
    {
        *("ari-events", "ari-application", "settle with Asterisk", "cluster claims", "cluster directory"),
        *("token expiry", "listen to taps", "journal"),
    }
)
"""What a bridge without calls does all the time."""
PRODUCT = Path(bridge_package.__file__).parent


def our_tasks() -> list[str]:
    """Names of the tasks that run code of the product, and of those that aiohttp runs for its HTTP connections."""
    names = []
    for task in asyncio.all_tasks():
        code = getattr(task.get_coro(), "cr_code", None)
        if code is None:
            continue
        path = Path(code.co_filename)
        product = path.is_relative_to(PRODUCT) and not path.is_relative_to(PRODUCT / "testing")
        if product or path.name == "web_protocol.py":
            named = re.fullmatch(r"Task-\d+", task.get_name()) is None
            names.append(task.get_name() if named else code.co_qualname)
    return names


def open_sockets() -> set[str]:
    """Inodes of this process's sockets."""
    inodes = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the descriptor of this very listing
            found = re.fullmatch(r"socket:\[(\d+)\]", str(entry.readlink()))
            if found:
                inodes.add(found[1])
    return inodes


def open_connections(ports: Collection[int]) -> list[str]:
    """Return this process's TCP connections on its own ``ports``, whatever protocol or library holds them."""
    ours, left = open_sockets(), []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:  # proc_net_tcp(5)
            _, local, remote, state, *_, inode = line.split()[:10]
            port = int(local.rpartition(":")[2], 16)
            if inode in ours and port in ports and state != "0A":  # 0A: listening
                left.append(f"connection on port {port} from port {int(remote.rpartition(':')[2], 16)}, state {state}")
    return left
