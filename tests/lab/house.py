"""Calls with applications, and what can break between them: Asterisk, ARI, the process, applications, the store.

Half of the callers are in calls of a route, whose application is an echo; the others call the PBX's echo and are
observed by a subscription. Each sends a tone of its own, which identifies everything that is received.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import resource
import signal
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from bridge.testing.embedded import EmbeddedLab
from bridge.testing.store import RedisServer
from tests.fakes.proxy import Proxy, open_proxy
from tests.lab import faulty_bridge
from tests.lab.audio_phone import AudioPhone, Ear, audio_phones
from tests.lab.nodes import settle
from tests.lab.restarting import Service, restarting
from tests.lab.sink import Received, Sink
from tests.lab.waiting import until
from tests.loopback.servers import Authority

ROUTED, OBSERVED = "1004", "1003"
"""Who calls the application, and whose calls are observed."""
SETTLES_S = 1.0
"""Time within which the effect of a fault shows."""
MISTAKEN = 25
"""Frames of another call's tone; one frame where audio was cut may look like any tone."""


class House:
    """One bridge, its calls and its surroundings; made by `open_house`."""

    def __init__(
        self,
        lab: EmbeddedLab,
        sink: Sink,
        phones: list[AudioPhone],
        *,
        ari: Proxy,
        road: Proxy,
        good: tuple[Path, Path],
        bad: tuple[Path, Path],
    ) -> None:
        self.lab = lab
        self.sink = sink
        *self.phones, self._visitor = phones
        self.ari = ari
        self.road = road
        """Between the bridge and the application."""
        self.service: Service
        self.store: RedisServer | None = None
        self.now = asyncio.get_running_loop().time
        self.visits = 0
        """Calls that came and went."""
        self.applications = {"/agent": Ear(self.now), "/observer": Ear(self.now)}
        self._good, self._bad = good, bad
        sink.on_message = self._take

    async def _take(self, received: Received, message: dict[str, Any]) -> None:
        received.messages.clear()  # minutes of it are not needed
        received.times.clear()
        if message.get("event") != "media" or message["media"]["track"] != "inbound":
            return
        self.applications[received.path].take(base64.b64decode(message["media"]["payload"]))
        if received.path == "/agent":
            await received.send(event="media", media={"payload": message["media"]["payload"]})

    # Calls

    @property
    def callers(self) -> list[tuple[AudioPhone, Ear]]:
        """Each phone, and the application of its call."""
        return [(phone, self.applications[path_of(phone)]) for phone in self.phones]

    async def call(self) -> None:
        """Have every phone without a call call."""
        idle = [phone for phone in self.phones if not phone.in_call]
        await asyncio.gather(*(phone.dial("750" if phone.name == ROUTED else "600") for phone in idle))

    async def visit(self) -> None:
        """Have another phone call the application, receive its own tone, and hang up."""
        phone = self._visitor
        self.visits += 1
        await phone.dial("750")
        await until(lambda: phone.ear.hears(phone.hz))
        phone.hang_up()

    def forget_calls(self) -> None:
        """Discard the calls: the PBX has died with them, without a BYE."""
        for phone in self.phones:
            phone.remote = None

    async def well(self, since: float | None = None) -> float:
        """Wait until everybody receives what they should, and the bridge is healthy.

        Args:
            since: when to begin to look; by default now.

        Returns:
            The moment since when it has been so.
        """
        since = self.now() if since is None else since
        await until(self.healthy)
        healthy = self.now()
        await asyncio.sleep(max(0.0, since + SETTLES_S - healthy))  # what goes wrong is not heard immediately

        def all_sound() -> bool:
            return all(phone.ear.hears(phone.hz) and ear.hears(phone.hz) for phone, ear in self.callers)

        await until(all_sound)
        ends = [each.last_gap_end(phone.hz, since) for phone, ear in self.callers for each in (phone.ear, ear)]
        return max(since if healthy - since < SETTLES_S else healthy, *ends)

    async def healthy(self) -> bool:
        """Return whether ``/health`` answers 200."""
        try:
            async with asyncio.timeout(2):
                return bool((await self.service.get("/health"))[0] == 200)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return False

    def mistaken(self) -> list[str]:
        """Return who has received another call's tone."""
        own = {phone.hz for phone in (*self.phones, self._visitor)}
        found = [
            f"{phone.hz} received {hz}"
            for phone in self.phones
            for hz in own - {phone.hz}
            if len(phone.ear.times[hz]) > MISTAKEN
        ]
        for path, ear in self.applications.items():
            there = {phone.hz for phone in (*self.phones, self._visitor) if path_of(phone) == path}
            found += [f"{path} received {hz}" for hz in own - there if len(ear.times[hz]) > MISTAKEN]
        return found

    async def objects(self) -> int:
        """Return how many channels and mixing bridges of the bridge are on the PBX."""
        return len(await self.service.ours_on_the_pbx())

    # What can be broken

    @property
    def pid(self) -> int:
        """The process of the bridge, or of its supervisor."""
        return self.service.process.pid

    def asterisk(self, number: signal.Signals) -> None:
        """Send a signal to Asterisk."""
        pid = self.lab._asterisk.pid  # noqa: SLF001 - Asterisk alone
        assert pid is not None
        os.kill(pid, number)

    def part_applications(self) -> None:
        """Break the connections to applications."""
        for connection in self.sink.connections:
            connection.socket.transport.abort()

    def certify(self, good: bool) -> None:
        """Have the application show a certificate that the bridge accepts, or another."""
        assert self.sink.tls is not None
        self.sink.tls.load_cert_chain(*(self._good if good else self._bad))

    @contextlib.contextmanager
    def limited(self, kind: int, to: int) -> Iterator[None]:
        """Limit what the bridge may use (getrlimit(2))."""
        before = resource.prlimit(self.pid, kind)
        resource.prlimit(self.pid, kind, (to, before[1]))
        try:
            yield
        finally:
            resource.prlimit(self.pid, kind, before)

    async def mislead(self, **wrong: object) -> None:
        """Change what the bridge's clock and resolver say (`tests.lab.faulty_bridge`)."""
        (self.service.folder / faulty_bridge.FILE).write_text(json.dumps(wrong))
        self.service.process.send_signal(signal.SIGUSR1)


def path_of(phone: AudioPhone) -> str:
    """Return the path of the application that gets a phone's calls."""
    return "/agent" if phone.name == ROUTED else "/observer"


@contextlib.asynccontextmanager
async def open_house(lab: EmbeddedLab, folder: Path, kind: str, calls: int) -> AsyncIterator[House]:
    """Run a bridge with calls; nothing may be left on the PBX at the end.

    Args:
        kind: ``alone``, ``workers`` or ``cluster``.
        calls: how many, at least two.
    """
    authority, strangers = (Authority(_made(folder / name)) for name in ("authority", "strangers"))
    good, bad = (each.issue(f"DNS:{faulty_bridge.NAME},DNS:localhost") for each in (authority, strangers))
    sink = Sink()
    sink.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    sink.tls.load_cert_chain(*good)
    address = urlsplit(lab.ari_url)
    assert address.port is not None
    wanted = [(OBSERVED if at % 2 else ROUTED, 400 + 100 * at) for at in range(calls)]
    wanted.append((ROUTED, 350))
    async with contextlib.AsyncExitStack() as stack:
        await sink.start()
        stack.push_async_callback(sink.stop)
        ari = await stack.enter_async_context(open_proxy(address.port))
        road = await stack.enter_async_context(open_proxy(sink.port))
        phones = await stack.enter_async_context(audio_phones(lab, wanted))
        house = House(lab, sink, phones, ari=ari, road=road, good=good, bad=bad)
        # Workers have the system's resolver.
        url = f"wss://{faulty_bridge.NAME if kind == 'alone' else 'localhost'}:{road.port}"
        target = {"dialect": "twilio", "ca_file": str(authority.file)}
        sections: dict[str, Any] = {
            "ari": {"url": f"http://127.0.0.1:{ari.port}"},
            "media": {"refuse_late_ms": 0},
            "outbound": {"allow": ["localhost", "127.0.0.0/8"]},
            "dialplan": [{"id": "agent", "match": "750", "url": f"{url}/agent", "give_up_s": 60, **target}],
            "subscriptions": [{"id": "all", "url": f"{url}/observer", "extensions": [OBSERVED], **target}],
        }
        if kind == "workers":
            sections["workers"] = {"count": 2}
        if kind == "cluster":
            house.store = RedisServer(folder / "store")
            await house.store.start()
            stack.push_async_callback(house.store.stop)
            await settle()
            sections["cluster"] = {"store": house.store.url, "node": "faults", "pbx": "lab"}
        house.service = await stack.enter_async_context(
            restarting(lab, folder, program="tests.lab.faulty_bridge", **sections)
        )
        await house.call()
        await house.well()
        yield house
        assert not house.mistaken()
        for phone in house.phones:
            phone.hang_up()
        await house.service.streams_gone()


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
