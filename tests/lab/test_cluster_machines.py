"""Bridges on two machines for Asterisks on two others, one store, and a network between them that fails.

Each machine is a network namespace. As docs/explanation/scaling.md advises, each Asterisk has two bridges, on two
machines, and each of these machines has bridges of both Asterisks.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bridge.testing import judge
from bridge.testing.embedded import EmbeddedLab
from bridge.testing.network import Machine, Network, open_network
from bridge.testing.phone import Phone
from bridge.testing.store import RedisServer
from tests.lab.nodes import Heard, Node, settle, start_node
from tests.lab.sink import Received, Sink, open_sink, tone_share
from tests.lab.waiting import PATIENCE_S, stays

RATE = 8000
TAKEN_OVER_S = 10.0
TONES = {"pbx-1": 500, "pbx-2": 700}
"""The tone of each PBX's caller, in Hz."""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


@dataclass
class Place:
    """The machines, and what runs on them all the time."""

    network: Network
    labs: dict[str, EmbeddedLab]
    """By PBX."""
    store: RedisServer
    store_machine: Machine
    edges: dict[str, Machine]
    """Where bridges run."""


@dataclass
class World(Place):
    """A place, and what runs there for one test."""

    folder: Path
    sink: Sink
    nodes: dict[str, dict[str, Node]] = field(default_factory=dict)
    """By machine, then by PBX."""

    async def start(self, edge: str) -> None:
        """Start a machine's bridges, one for each PBX; they need not be up yet."""
        subscription = {"id": "all", "url": self.sink.url, "dialect": "yeastar", "extensions": ["1001"]}
        self.nodes[edge] = {
            pbx: await start_node(
                lab,
                self.folder,
                f"{edge}_{pbx}".replace("-", ""),
                self.store.url,
                pbx=pbx,
                machine=self.edges[edge],
                subscriptions=[subscription],
            )
            for pbx, lab in self.labs.items()
        }

    async def up(self, edge: str) -> None:
        """Wait until a machine's bridges serve, and have the store."""
        await asyncio.gather(*(node.up(PATIENCE_S) for node in self.nodes[edge].values()))

    def send(self, edge: str, number: signal.Signals) -> None:
        """Send a signal to all bridges of a machine."""
        for node in self.nodes[edge].values():
            node.process.send_signal(number)

    async def end(self, edge: str, *, at_once: bool = False) -> None:
        """End a machine's bridges."""
        await asyncio.gather(*(node.end(at_once=at_once) for node in self.nodes[edge].values()))


@pytest.fixture(scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    async with open_network() as network:
        machines = {name: await network.machine(name) for name in ("pbx-1", "pbx-2", "store", "edge-1", "edge-2")}
        labs = {name: EmbeddedLab(tmp_path_factory.mktemp(name), machine=machines[name]) for name in TONES}
        store = RedisServer(tmp_path_factory.mktemp("store"), machine=machines["store"])
        edges = {name: machines[name] for name in ("edge-1", "edge-2")}
        try:
            await asyncio.gather(store.start(), *(lab.start() for lab in labs.values()))
            await asyncio.gather(*(lab.phone("1001").start() for lab in labs.values()))
            await settle()
            yield Place(network, labs, store, machines["store"], edges)
        finally:
            await asyncio.gather(store.stop(), *(lab.stop() for lab in labs.values()))


@pytest.fixture
async def world(place: Place, tmp_path: Path) -> AsyncIterator[World]:
    async with open_sink(place.network.address) as sink:
        world = World(**vars(place), folder=tmp_path, sink=sink)
        try:
            for edge in world.edges:
                await world.start(edge)
            for edge in world.edges:
                await world.up(edge)
            yield world
        finally:
            for lab in place.labs.values():
                await lab.phone("1001").hangup()
            for edge, nodes in world.nodes.items():
                await world.end(edge)
                for node in nodes.values():
                    assert "Traceback" not in node.log.read_text(), node.log.read_text()[-4000:]


async def calls_of(world: World, edge: str, other: str) -> dict[str, str]:
    """Start a call on each PBX, streamed by the bridges of ``edge``; return their ids by PBX."""
    world.send(other, signal.SIGSTOP)
    try:
        calls = {}
        for pbx, lab in world.labs.items():
            await lab.phone("1001").call("601", play=judge.tone(TONES[pbx], 120, RATE))
            await lab.phone("1001").answered(PATIENCE_S)
            calls[pbx] = (await world.nodes[edge][pbx].call_from("1001", timeout_s=PATIENCE_S))["id"]
        for call_id in calls.values():
            await Heard(world.sink).heard(call_id, 1, PATIENCE_S)
    finally:
        world.send(other, signal.SIGCONT)
    async with asyncio.timeout(PATIENCE_S):
        for node in world.nodes[other].values():
            while not await node.metric("cluster_claims_waiting"):
                await asyncio.sleep(0.1)
    return calls


def says(connection: Received, hz: float) -> bool:
    """Return whether a connection's audio of the caller is mostly the caller's tone."""
    channels = {message["channelid"] for message in connection.messages if message["status"] == "process"}
    return max(tone_share(connection.yeastar(channel), RATE, hz) for channel in channels) > 0.8


async def taken_over(world: World, calls: dict[str, str], lost_at: float) -> None:
    """Check that both calls continue over a second connection in time, with the same tone, once the first is silent."""
    heard = Heard(world.sink)
    for pbx, call_id in calls.items():
        again = await heard.heard(call_id, 2, TAKEN_OVER_S)
        first, second = heard.connections(call_id)
        assert second is again
        begins = heard.times(second, call_id)[0]
        assert begins - lost_at < TAKEN_OVER_S
        assert says(second, TONES[pbx])
        assert heard.times(first, call_id)[-1] < begins, "two sockets had audio of the same call at the same time"


def connections_to(port: int, node: Node) -> list[str]:
    """Return the TCP connections to a port that the kernel of a node's machine has, closed or not (proc(5))."""
    lines = Path(f"/proc/{node.process.pid}/net/tcp").read_text().splitlines()[1:]
    return [line for line in lines if line.split()[2].endswith(f":{port:04X}")]


def talking(world: World) -> list[Phone]:
    """Return the phones whose calls continue."""
    return [phone for lab in world.labs.values() if (phone := lab.phone("1001")).in_call]


async def all_is_gone(world: World, *edges: str) -> None:
    """Hang the callers up, and check that nothing of these machines' bridges stays on a PBX."""
    for lab in world.labs.values():
        await lab.phone("1001").hangup()
    for edge in edges:
        for node in world.nodes[edge].values():
            await node.nothing_left()


async def test_a_machine_that_loses_its_power_is_replaced_for_both_pbxs(world: World) -> None:
    calls = await calls_of(world, "edge-1", "edge-2")
    lost_at = time.monotonic()
    await world.network.unplug(world.edges["edge-1"])  # its kernel, which keeps running here, must notify nobody
    await world.end("edge-1", at_once=True)
    await taken_over(world, calls, lost_at)
    for pbx, call_id in calls.items():
        assert await world.nodes["edge-2"][pbx].calls_streamed() == [call_id]
    assert len(talking(world)) == 2

    await world.network.plug(world.edges["edge-1"])
    await world.start("edge-1")
    await world.up("edge-1")
    heard = Heard(world.sink)
    await stays(lambda: {len(heard.connections(each)) for each in calls.values()} == {2}, 3)  # who has it keeps it
    await all_is_gone(world, "edge-1", "edge-2")


async def test_a_machine_that_is_cut_off_from_the_store_gives_its_calls_up_in_time(world: World) -> None:
    calls = await calls_of(world, "edge-1", "edge-2")
    lost_at = time.monotonic()
    await world.network.cut(world.edges["edge-1"], world.store_machine)
    try:
        await taken_over(world, calls, lost_at)
        for node in world.nodes["edge-1"].values():
            assert await node.metric("cluster_store_reachable") == 0
            assert (await node.get("/health"))[0] == 200, "calls go on"
    finally:
        await world.network.mend(world.edges["edge-1"], world.store_machine)
    assert len(talking(world)) == 2
    await world.up("edge-1")
    await world.end("edge-2")
    for call_id in calls.values():
        await Heard(world.sink).heard(call_id, 3, PATIENCE_S)
    await all_is_gone(world, "edge-1")


async def test_a_machine_whose_cable_is_pulled_has_no_say_when_it_is_back(world: World) -> None:
    calls = await calls_of(world, "edge-1", "edge-2")
    heard = Heard(world.sink)
    lost_at = time.monotonic()
    await world.network.unplug(world.edges["edge-1"])
    try:
        await taken_over(world, calls, lost_at)
        assert not connections_to(world.sink.port, world.nodes["edge-1"]["pbx-1"]), "its kernel would deliver them"
    finally:
        await world.network.plug(world.edges["edge-1"])
    await world.up("edge-1")
    await stays(lambda: len(talking(world)) == 2, 3)
    for call_id in calls.values():
        first, second = heard.connections(call_id)
        assert heard.times(first, call_id)[-1] < heard.times(second, call_id)[0], "it went on when it was back"
    assert len(talking(world)) == 2
    await all_is_gone(world, "edge-1", "edge-2")
