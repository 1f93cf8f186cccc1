"""Several bridges, one store, real calls: each call goes to the application once, whichever dies or is cut off."""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge.app.application import Application
from bridge.testing.embedded import EmbeddedLab, settings_with_free_ports
from bridge.testing.lab_engine import Lab
from bridge.testing.phone import Phone
from bridge.testing.store import RedisServer
from tests.fakes.proxy import Proxy, open_proxy
from tests.lab.conftest import Phones, configuration, synchronized
from tests.lab.nodes import Heard, Node, settle, start_node, talk
from tests.lab.sink import Sink, open_sink
from tests.lab.target import Target
from tests.lab.waiting import PATIENCE_S, sends, stays

TAKEN_OVER_S = 10.0


@pytest.fixture(scope="module")
async def store(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("store"))
    await server.start()
    await settle()
    yield server
    await server.stop()


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with open_sink() as sink:
        yield sink


@pytest.fixture
async def proxy(store: RedisServer) -> AsyncIterator[Proxy]:
    async with open_proxy(store.port) as proxy:
        yield proxy


@pytest.fixture
async def pair(lab: Lab, store: RedisServer, proxy: Proxy, sink: Sink, tmp_path: Path) -> AsyncIterator[list[Node]]:
    """Two bridges of one Asterisk with the same subscription; the first reaches the store through the proxy."""
    subscriptions = [{"id": "all", "url": sink.url, "dialect": "yeastar", "extensions": ["1001", "1003"]}]
    nodes = [
        await start_node(lab, tmp_path, "first", f"redis://127.0.0.1:{proxy.port}", subscriptions=subscriptions),
        await start_node(lab, tmp_path, "second", store.url, subscriptions=subscriptions),
    ]
    try:
        await asyncio.gather(*(node.up() for node in nodes))
        yield nodes
    finally:
        for node in nodes:
            await node.end()
            assert "Traceback" not in node.log.read_text(), node.log.read_text()[-4000:]


async def two_calls(nodes: list[Node], phones: Phones) -> tuple[list[Phone], list[str]]:
    """Have two phones call; return the phones and the ids of their calls."""
    alice, carol, bob, _far = found = await phones("1001", "1003", "1002", "trunk")
    await talk(alice, "1002", bob)
    await talk(carol, "95550100", _far)
    ids = [(await nodes[0].call_from(name, timeout_s=PATIENCE_S))["id"] for name in ("1001", "1003")]
    return found, ids


async def shared_out(nodes: list[Node], ids: list[str]) -> None:
    """Wait until each call is streamed, each by one of them."""
    async with asyncio.timeout(PATIENCE_S):
        while sorted([call for node in nodes for call in await node.calls_streamed()]) != sorted(ids):
            await asyncio.sleep(0.1)


async def swept(node: Node, app: str) -> None:
    """Remove what a killed bridge left behind, as its next start would."""
    for kind in ("channels", "bridges"):
        for entry in await node.ari("GET", f"/{kind}"):
            if entry["id"].startswith(f"ab-{app}-"):
                await node.ari("DELETE", f"/{kind}/{entry['id']}")


async def test_each_call_has_one_socket_and_a_killed_bridge_is_replaced(
    pair: list[Node], sink: Sink, phones: Phones
) -> None:
    heard = Heard(sink)
    (alice, carol, *_), ids = await two_calls(pair, phones)
    for call_id in ids:
        await heard.heard(call_id, 1, PATIENCE_S)
    await shared_out(pair, ids)
    await stays(lambda: [len(heard.connections(call_id)) for call_id in ids] == [1, 1], 2)
    busy, other = sorted(pair, key=lambda node: node.log.read_text().count("connected"), reverse=True)
    had = await busy.calls_streamed()
    assert had
    killed = time.monotonic()
    await busy.end(at_once=True)
    for call_id in had:
        again = await heard.heard(call_id, 2, TAKEN_OVER_S)
        assert heard.times(again, call_id)[0] - killed < TAKEN_OVER_S
    await shared_out([other], ids)
    for call_id in set(ids) - set(had):
        assert len(heard.connections(call_id)) == 1
    nodes = (await other.get("/v1.0/cluster/nodes"))[1]["result"]
    async with asyncio.timeout(PATIENCE_S):
        while [node["name"] for node in nodes] != [other.name]:
            await asyncio.sleep(0.2)
            nodes = (await other.get("/v1.0/cluster/nodes"))[1]["result"]
    assert nodes[0]["claims"] == 2
    await alice.hangup()
    await carol.hangup()
    await swept(other, busy.name)
    await other.nothing_left()


async def test_a_bridge_that_is_cut_off_stops_before_the_other_begins(
    pair: list[Node], proxy: Proxy, sink: Sink, phones: Phones
) -> None:
    first, second = pair
    heard = Heard(sink)
    alice, bob, carol = await phones("1001", "1002", "1003")
    second.process.send_signal(signal.SIGSTOP)  # the claim is to be the first's, whomever chance would give it
    try:
        await talk(alice, "1002", bob)
        call = (await first.call_from("1001", timeout_s=PATIENCE_S))["id"]
        await heard.heard(call, 1, PATIENCE_S)
    finally:
        second.process.send_signal(signal.SIGCONT)
    async with asyncio.timeout(PATIENCE_S):
        while not await second.metric("cluster_claims_waiting"):
            await asyncio.sleep(0.1)
    cut = time.monotonic()
    proxy.cut()
    again = await heard.heard(call, 2, TAKEN_OVER_S + 5)
    one, other = heard.connections(call)
    assert other is again
    begins, ends = heard.times(other, call)[0], heard.times(one, call)[-1]
    assert ends < begins, "two sockets had audio of the same call at the same time"
    assert begins - cut < TAKEN_OVER_S
    await asyncio.wait_for(one.ended.wait(), PATIENCE_S)
    assert await first.metric("cluster_store_reachable") == 0
    assert await first.metric("cluster_claims_lost_total") == 1
    assert (await first.get("/v1.0/cluster/nodes"))[0] == 503
    assert (await first.get("/health"))[0] == 200, "calls go on"

    proxy.mend()
    async with asyncio.timeout(PATIENCE_S):
        while not await first.metric("cluster_store_reachable"):
            await asyncio.sleep(0.1)
    await sends(alice, 3)
    assert len(heard.connections(call)) == 2, "who has it keeps it"
    assert await second.calls_streamed() == [call]
    await talk(carol, "601")
    new = (await second.call_from("1003", timeout_s=PATIENCE_S))["id"]
    await heard.heard(new, 1, PATIENCE_S)
    await second.end()
    await heard.heard(call, 3, PATIENCE_S)
    await shared_out([first], [call, new])
    for call_id in (call, new):
        carried = heard.connections(call_id)
        for one, other in itertools.pairwise(carried):
            assert heard.times(one, call_id)[-1] < heard.times(other, call_id)[0]
    await alice.hangup()
    await carol.hangup()
    await first.nothing_left()


async def test_two_asterisks_are_in_one_directory(
    lab: Lab, store: RedisServer, sink: Sink, phones: Phones, tmp_path: Path
) -> None:
    another = EmbeddedLab(tmp_path / "lab", replace(settings_with_free_ports(), system_name="another"))
    heard = Heard(sink)

    def config(of: Lab, name: str) -> Any:
        return configuration(
            of,
            cluster={"store": store.url, "node": name, "pbx": f"pbx-of-{name}", "prefix": "two"},
            subscriptions=[{"id": "all", "url": sink.url, "dialect": "yeastar", "extensions": ["1001"]}],
        )

    try:
        await another.start()
        async with Application(config(lab, "here")) as one, Application(config(another, "there")) as other:
            targets = [
                Target(of, f"http://127.0.0.1:{bridge.http_port}", None, bridge)
                for of, bridge in ((lab, one), (another, other))
            ]
            for target in targets:
                await synchronized(target, PATIENCE_S)
            (alice,) = await phones("1001")
            abroad = another.phone("1001")
            await abroad.start()
            await talk(alice, "601")
            await talk(abroad, "600")
            ids = [(await target.call_from("1001", timeout_s=PATIENCE_S))["id"] for target in targets]
            for call_id in ids:
                await heard.heard(call_id, 1, PATIENCE_S)
            assert len(sink.connections) == 2
            await sends(alice, 2.5)
            for target in targets:
                status, nodes = await target.get("/v1.0/cluster/nodes")
                assert status == 200
                assert [(node["name"], node["pbx"], node["claims"], node["calls"]) for node in nodes["result"]] == [
                    ("here", "pbx-of-here", 1, 1),
                    ("there", "pbx-of-there", 1, 1),
                ]
                calls = (await target.get("/v1.0/cluster/calls"))[1]["result"]
                assert {(call["id"], call["pbx"], *call["nodes"]) for call in calls} == {
                    (ids[0], "pbx-of-here", "here"),
                    (ids[1], "pbx-of-there", "there"),
                }
                assert {(call["status"], call["source"], call["streams"]) for call in calls} == {
                    ("progressing", "1001", 1)
                }
                only = (await target.get("/v1.0/cluster/calls", pbx="pbx-of-there"))[1]["result"]
                assert [call["id"] for call in only] == [ids[1]]
            found = (await targets[0].get(f"/v1.0/cluster/calls/{ids[1]}"))[1]
            assert found["pbx"] == "pbx-of-there"
            assert [party["endpoint"] for party in found["parties"]] == ["1001"]
            assert (await targets[0].get("/v1.0/cluster/calls/nobody"))[0] == 404
            await abroad.hangup()
            async with asyncio.timeout(PATIENCE_S):
                while (await targets[0].get(f"/v1.0/cluster/calls/{ids[1]}"))[0] != 404:
                    await asyncio.sleep(0.1)
            await other.stop()
            (left,) = (await targets[0].get("/v1.0/cluster/nodes"))[1]["result"]
            assert left["name"] == "here"
            await alice.hangup()
    finally:
        await another.stop()
