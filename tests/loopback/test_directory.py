"""The directory of bridges and calls in a real store, and the doctor's findings about it."""

from __future__ import annotations

import asyncio
import io
import secrets
from collections.abc import AsyncIterator, Collection, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from bridge.calls.call import Call, CallEnded, CallStarted
from bridge.cluster import directory as module
from bridge.cluster.directory import Directory
from bridge.cluster.store import ClusterStore, StoreUnavailable
from bridge.config import ClusterConfig, Config
from bridge.doctor import cluster as doctor
from bridge.doctor.report import Report
from bridge.testing.store import RedisServer
from tests.fakes.proxy import open_proxy


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    await server.start()
    yield server
    await server.stop()


class Node:
    """A bridge with calls, as the directory sees it."""

    def __init__(self, url: str, prefix: str, name: str, pbx: str) -> None:
        self.calls: dict[str, dict[str, Any]] = {}
        self.asked: list[Collection[str] | None] = []
        self.directory = Directory(
            ClusterStore(ClusterConfig(store=SecretStr(url)), 3.0),
            prefix=prefix,
            node=name,
            pbx=pbx,
            describe=lambda: {"calls": len(self.calls), "tm_start": str(id(self))},
            calls=self._facts,
        )

    def begin(self, identity: str, streams: int = 0) -> None:
        self.calls[identity] = {"status": "progressing", "streams": streams}
        self.directory.on_change(CallStarted(Call(identity, "")))

    def end(self, identity: str) -> None:
        del self.calls[identity]
        self.directory.on_change(CallEnded(Call(identity, "")))

    def _facts(self, ids: Collection[str] | None) -> Mapping[str, Mapping[str, Any]]:
        self.asked.append(ids)
        return {each: facts for each, facts in self.calls.items() if ids is None or each in ids}


class Cluster:
    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.prefix = f"d{secrets.token_hex(4)}"
        self.nodes: list[Node] = []

    async def node(self, name: str, pbx: str = "pbx", port: int = 0) -> Node:
        url = f"redis://127.0.0.1:{port}/0" if port else self.server.url
        node = Node(url, self.prefix, name, pbx)
        self.nodes.append(node)
        await node.directory.start()
        return node


@pytest.fixture
async def cluster(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    monkeypatch.setattr(module, "WRITE_S", 0.1)
    monkeypatch.setattr(module, "ALIVE_S", 1.5)
    cluster = Cluster(server)
    yield cluster
    for node in cluster.nodes:
        await node.directory.close()


async def sees(node: Node, *calls: tuple[str, str, int, list[str]], names: list[str] | None = None) -> None:
    """Wait until a bridge's directory holds exactly these: id, Asterisk, streams, bridges."""
    wanted = sorted(calls)
    async with asyncio.timeout(60):
        while True:
            found = sorted((c["id"], c["pbx"], c["streams"], c["nodes"]) for c in await node.directory.calls())
            there = [each["name"] for each in await node.directory.nodes()]
            if found == wanted and names in (None, there):
                return
            await asyncio.sleep(0.05)


async def test_each_call_once_with_the_bridges_that_see_it(cluster: Cluster) -> None:
    one, two, far = [await cluster.node(name, pbx) for name, pbx in (("one", "a"), ("two", "a"), ("far", "b"))]
    for node in (one, two):
        node.begin("c1")
    one.begin("c1", streams=2)
    two.begin("c1", streams=1)
    far.begin("c1")
    far.begin("c2", streams=1)
    for node in (one, two, far):
        await sees(node, ("c1", "a", 3, ["one", "two"]), ("c1", "b", 0, ["far"]), ("c2", "b", 1, ["far"]))
    assert [call["id"] for call in await one.directory.calls(pbx="a")] == ["c1"]
    assert [call["nodes"] for call in await one.directory.calls(node="two")] == [["two"]]
    assert sorted(call["pbx"] for call in await one.directory.find("c1")) == ["a", "b"]
    assert await one.directory.find("c9") == []
    far.end("c2")
    await sees(one, ("c1", "a", 3, ["one", "two"]), ("c1", "b", 0, ["far"]))


async def test_only_what_has_changed_is_written(cluster: Cluster) -> None:
    one = await cluster.node("one")
    for number in range(5):
        one.begin(f"c{number}")
    await sees(one, *((f"c{number}", "pbx", 0, ["one"]) for number in range(5)))
    one.asked.clear()
    await asyncio.sleep(0.5)
    assert one.asked == []
    one.calls["c3"]["streams"] = 1
    one.directory.on_event(SimpleNamespace(type="stream_started", data={"call_id": "c3"}))  # type: ignore[arg-type]
    await asyncio.sleep(0.5)
    assert one.asked == [{"c3"}]


async def test_who_is_gone_is_not_there_any_more(cluster: Cluster) -> None:
    async with open_proxy(cluster.server.port) as proxy:
        one, two = [await cluster.node(name) for name in ("one", "two")]
        three = await cluster.node("three", port=proxy.port)
        two.begin("c2")
        three.begin("c3")
        await sees(one, ("c2", "pbx", 0, ["two"]), ("c3", "pbx", 0, ["three"]), names=["one", "three", "two"])
        await two.directory.close()
        await sees(one, ("c3", "pbx", 0, ["three"]), names=["one", "three"])
    await sees(one, names=["one"])  # its connections have ended without a message, as those of a process that is killed
    store = ClusterStore(ClusterConfig(store=SecretStr(cluster.server.url)), 1.0)
    await asyncio.sleep(0.3)
    assert await store.ask([("SMEMBERS", f"{cluster.prefix}:nodes")]) == [{"one"}]
    await store.close()


async def test_a_store_that_has_forgotten_is_told_everything_again(cluster: Cluster) -> None:
    one = await cluster.node("one")
    one.begin("c1")
    one.begin("c2")
    await sees(one, ("c1", "pbx", 0, ["one"]), ("c2", "pbx", 0, ["one"]))
    store = ClusterStore(ClusterConfig(store=SecretStr(cluster.server.url)), 1.0)
    await store.ask([("FLUSHALL",)])
    await store.close()
    await sees(one, ("c1", "pbx", 0, ["one"]), ("c2", "pbx", 0, ["one"]), names=["one"])


async def test_two_bridges_of_one_name_are_told(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    await cluster.node("one")
    await asyncio.sleep(0.5)
    assert not caplog.records
    await cluster.node("one")
    async with asyncio.timeout(60):
        while "another node has the same name, set a different cluster.node for each node=one" not in caplog.text:
            await asyncio.sleep(0.05)


async def test_claims_are_shared_out_between_bridges_of_the_same_asterisk(cluster: Cluster) -> None:
    nodes = [await cluster.node(name, pbx) for name, pbx in (("one", "a"), ("two", "a"), ("three", "a"), ("x", "b"))]
    await sees(nodes[0], names=["one", "three", "two", "x"])
    await asyncio.sleep(0.5)
    shares = [sum(node.directory.prefers(f"s/{number}") for number in range(3000)) for node in nodes]
    assert sum(shares[:3]) == 3000
    assert min(shares[:3]) > 900
    assert shares[3] == 3000


async def test_the_doctor_on_a_good_store(cluster: Cluster) -> None:
    await cluster.node("one", "a")
    await asyncio.sleep(0.5)
    report = Report(io.StringIO())
    await doctor.check(report, config(cluster.server.url, cluster.prefix))
    assert [finding.verdict for finding in report.findings] in (["ok", "ok"], ["warn", "ok"])  # a busy machine is slow
    assert "active nodes: one (a)" in report.findings[1].text


async def test_the_doctor_on_a_store_that_throws_keys_away(cluster: Cluster) -> None:
    store = ClusterStore(ClusterConfig(store=SecretStr(cluster.server.url)), 1.0)
    await store.ask([("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")])
    report = Report(io.StringIO())
    await doctor.check(report, config(cluster.server.url, cluster.prefix))
    await store.ask([("CONFIG", "SET", "maxmemory-policy", "noeviction")])
    await store.close()
    assert "noeviction" in report.findings[1].advice


async def test_the_doctor_without_a_store() -> None:
    report = Report(io.StringIO())
    await doctor.check(report, Config())
    assert report.findings == []
    await doctor.check(report, config("redis://127.0.0.1:1/0", "p"))
    assert [finding.verdict for finding in report.findings] == ["FAIL"]
    assert "cluster.store" in report.findings[0].advice


async def test_a_directory_without_a_store_says_so() -> None:
    store = ClusterStore(ClusterConfig(store=SecretStr("redis://127.0.0.1:1/0")), 1.0)
    directory = Directory(store, prefix="p", node="n", pbx="a", describe=dict, calls=lambda _: {})
    with pytest.raises(StoreUnavailable):
        await directory.calls()
    await store.close()


def config(store: str, prefix: str) -> Config:
    return Config.model_validate({"cluster": {"store": store, "pbx": "a", "prefix": prefix}})
