"""Claims in a real store: one bridge has each, whichever dies, is cut off, or comes back."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from bridge.cluster.redis_claims import RedisClaims
from bridge.cluster.scripts import LOOK
from bridge.cluster.store import ClusterStore, RedisCommand, StoreUnavailable
from bridge.config import ClusterConfig
from bridge.testing.store import RedisServer
from tests.fakes.proxy import Proxy, open_proxy
from tests.waiting import until

TTL_S = 2.0


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    await server.start()
    await asyncio.sleep(TTL_S + 2)  # until nobody can have had a claim from a life before
    yield server
    await server.stop()


def config(port: int, **keys: Any) -> ClusterConfig:
    return ClusterConfig(store=SecretStr(f"redis://127.0.0.1:{port}/0"), claim_ttl_s=TTL_S, **keys)


class Node:
    """The claims of one bridge, and its notifications."""

    def __init__(self, port: int, prefix: str, name: str, pbx: str = "pbx", **more: Any) -> None:
        store = ClusterStore(config(port), TTL_S / 6)
        self.claims = RedisClaims(store, prefix=prefix, node=name, pbx=pbx, ttl_s=TTL_S, **more)
        self.free: list[str] = []
        self.lost: list[tuple[float, str]] = []
        self.spare_s: list[float] = []
        self.keys: dict[str, bool] = {}
        """What it wants, and whether it has it."""
        self.claims.on_free = self._on_free
        self.claims.on_lost = self._on_lost
        self._tasks: set[asyncio.Task[bool]] = set()

    async def want(self, key: str) -> bool:
        """Ask, and from then on whenever it is free, as subscriptions do."""
        self.keys[key] = await self.claims.claim(key)
        return self.keys[key]

    def forget(self, key: str) -> None:
        del self.keys[key]
        self.claims.release(key)

    def _on_free(self, key: str) -> None:
        self.free.append(key)
        self._again(key)

    def _on_lost(self, key: str, spare_s: float) -> None:
        self.lost.append((time.monotonic(), key))
        self.spare_s.append(spare_s)
        self.keys[key] = False
        self._again(key)

    def _again(self, key: str) -> None:
        task = asyncio.ensure_future(self.want(key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Cluster:
    """Nodes that share a prefix of their own in the store."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.prefix = f"t{secrets.token_hex(4)}"
        self.nodes: list[Node] = []

    async def node(self, name: str, port: int | None = None, **more: Any) -> Node:
        node = Node(port or self.server.port, self.prefix, name, **more)
        self.nodes.append(node)
        await node.claims.start()
        await until(lambda: node.claims.reachable)
        return node


@pytest.fixture
async def cluster(server: RedisServer) -> AsyncIterator[Cluster]:
    cluster = Cluster(server)
    yield cluster
    for node in cluster.nodes:
        await node.claims.close()


@pytest.fixture
async def proxy(server: RedisServer) -> AsyncIterator[Proxy]:
    async with open_proxy(server.port) as proxy:
        yield proxy


async def seconds_until(condition: Callable[[], object]) -> float:
    """Wait until a condition holds; return how long it took."""
    began = time.monotonic()
    await until(condition)
    return time.monotonic() - began


async def test_one_of_two_has_it_and_the_other_gets_it_when_it_is_let_go(cluster: Cluster) -> None:
    one, other = await cluster.node("one"), await cluster.node("other")
    assert await one.want("s/c")
    assert await one.want("s/c")
    assert not await other.want("s/c")
    await asyncio.sleep(2 * TTL_S)
    assert (one.lost, other.free) == ([], [])
    assert (one.claims.held, other.claims.waiting) == (1, 1)
    one.forget("s/c")
    await until(lambda: other.keys["s/c"])
    assert other.free == ["s/c"]
    assert (other.claims.held, other.claims.waiting) == (1, 0)


async def test_of_many_that_both_ask_for_at_once_each_has_one_owner(cluster: Cluster) -> None:
    nodes = [await cluster.node(f"n{number}") for number in range(3)]
    keys = [f"s/{number}" for number in range(1000)]
    await asyncio.gather(*(node.want(key) for key in keys for node in nodes))
    # On a busy machine an answer may be late: then a key is requested again a second later.
    await until(lambda: sum(node.claims.held for node in nodes) == 1000)
    assert {sum(node.keys[key] for node in nodes) for key in keys} == {1}


async def test_another_asterisk_has_calls_of_its_own(cluster: Cluster) -> None:
    one = await cluster.node("one")
    other = await cluster.node("other", pbx="another")
    assert await one.want("s/c")
    assert await other.want("s/c")


async def test_who_is_to_have_a_claim_gets_it_before_the_others(cluster: Cluster) -> None:
    one = await cluster.node("one", prefer=lambda key: key.endswith("1"))
    other = await cluster.node("other", prefer=lambda key: key.endswith("2"))
    await asyncio.gather(*(node.want(key) for key in ("s/1", "s/2") for node in (one, other)))
    assert one.keys == {"s/1": True, "s/2": False}
    assert other.keys == {"s/1": False, "s/2": True}


async def test_what_a_bridge_had_that_dies_is_taken_over(cluster: Cluster, proxy: Proxy) -> None:
    one, other = await cluster.node("one", proxy.port), await cluster.node("other")
    keys = [f"s/{number}" for number in range(300)]
    assert all([await one.want(key) for key in keys])
    assert not any([await other.want(key) for key in keys])
    await proxy.stop()  # its connections end without a message, as those of a process that is killed
    took = await seconds_until(lambda: all(other.keys.values()))
    assert TTL_S * 2 / 3 - 0.1 < took < TTL_S + 2


async def test_a_bridge_that_stops_lets_go_at_once(cluster: Cluster) -> None:
    one, other = await cluster.node("one"), await cluster.node("other")
    await one.want("s/c")
    await other.want("s/c")
    await one.claims.close()
    assert await seconds_until(lambda: other.keys["s/c"]) < 1.5


async def test_who_is_cut_off_stops_before_another_begins(cluster: Cluster, proxy: Proxy) -> None:
    one, other = await cluster.node("one", proxy.port), await cluster.node("other")
    assert await one.want("s/c")
    assert not await other.want("s/c")
    began: list[float] = []
    proxy.cut()
    cut = time.monotonic()

    def taken() -> bool:
        if other.keys["s/c"]:
            began.append(time.monotonic())
        return bool(began)

    await until(taken)
    ((lost, _),) = one.lost
    assert not one.keys["s/c"]
    assert lost < began[0] - 0.05
    assert 0 < one.spare_s[0] <= TTL_S / 6
    assert lost - cut < TTL_S
    assert one.claims.trouble
    proxy.mend()
    await until(lambda: one.claims.reachable)
    await asyncio.sleep(2 * TTL_S)
    assert (one.keys["s/c"], other.keys["s/c"], other.lost) == (False, True, [])
    other.forget("s/c")
    await until(lambda: one.keys["s/c"])


async def test_who_was_cut_off_alone_takes_up_again_what_it_had(cluster: Cluster, proxy: Proxy) -> None:
    one = await cluster.node("one", proxy.port)
    assert await one.want("s/c")
    proxy.cut()
    await until(lambda: one.lost)
    assert not await one.claims.claim("s/d")
    proxy.mend()
    await until(lambda: one.keys["s/c"])
    await until(lambda: "s/d" in one.free)


async def test_a_short_cut_is_not_noticed(cluster: Cluster, proxy: Proxy) -> None:
    one = await cluster.node("one", proxy.port)
    await one.want("s/c")
    for _ in range(5):
        proxy.cut()
        await asyncio.sleep(0.1)
        proxy.mend()
        await asyncio.sleep(0.5)
    assert one.lost == []


async def test_a_claim_of_which_the_answer_was_lost_does_not_stay_with_nobody(cluster: Cluster, proxy: Proxy) -> None:
    one, other = await cluster.node("one", proxy.port), await cluster.node("other")
    await one.want("s/other")
    proxy.cut()
    assert not await one.claims.claim("s/c")
    one.claims.release("s/c")
    proxy.mend()
    await until(lambda: one.claims.reachable)
    await other.want("s/c")
    await until(lambda: other.keys["s/c"], TTL_S + 3)


async def test_what_is_released_and_claimed_again_in_one_breath_is_held(cluster: Cluster) -> None:
    one, other = await cluster.node("one"), await cluster.node("other")
    await one.want("s/c")
    await other.want("s/c")
    for _ in range(20):
        one.claims.release("s/c")
        asking = asyncio.ensure_future(one.claims.claim("s/c"))
        await asyncio.sleep(0)
        asking.cancel()
        one.claims.release("s/c")
        if await one.claims.claim("s/c"):
            continue
        assert await other.claims.claim("s/c")
        other.forget("s/c")
        await until(lambda: one.keys["s/c"])
    assert sum([node.claims.held for node in (one, other)]) == 1


async def test_nothing_is_asked_for_that_could_not_be_used(cluster: Cluster) -> None:
    ready = False
    one, other = await cluster.node("one", ready=lambda: ready), await cluster.node("other")
    assert not await one.want("s/c")
    assert await other.want("s/c")
    other.forget("s/c")
    await asyncio.sleep(1.2)
    assert one.free == []
    ready = True
    await until(lambda: one.keys["s/c"])


async def test_a_process_that_stood_still_gives_up_before_it_does_anything_else(cluster: Cluster) -> None:
    one, other = await cluster.node("one"), await cluster.node("other")
    await one.want("s/c")
    lease = one.claims._lease.name
    time.sleep(TTL_S + 0.2)  # noqa: ASYNC251 - the whole process, with its timers, stands still
    await other.want("s/c")
    await until(lambda: one.lost)
    assert [key for _, key in one.lost] == ["s/c"]
    assert one.spare_s == [0], "it was too late already"
    assert one.claims._lease.name != lease


@contextlib.asynccontextmanager
async def own_server(folder: Path) -> AsyncIterator[RedisServer]:
    server = RedisServer(folder)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def test_a_store_that_starts_anew_gives_nothing_away_that_somebody_holds(tmp_path: Path) -> None:
    began = time.monotonic()
    async with own_server(tmp_path) as server:
        cluster = Cluster(server)
        one, other = await cluster.node("one"), await cluster.node("other")
        assert not await one.want("s/c"), "the store is new: whoever held it might not have been asked"
        await until(lambda: one.keys["s/c"])
        assert time.monotonic() - began > TTL_S
        assert not await other.want("s/c")
        await server.stop(at_once=True)
        await server.start()
        late = await cluster.node("late")
        assert not await late.want("s/c")
        await asyncio.sleep(3 * TTL_S)
        assert (one.lost, other.free, late.free) == ([], [], [])
        assert not await other.want("s/c")
        assert not await late.want("s/c")
        for node in cluster.nodes:
            await node.claims.close()


async def test_a_store_that_restarts_while_it_is_asked_reports_no_claim_as_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with own_server(tmp_path) as server:
        cluster = Cluster(server)
        one, other = await cluster.node("one"), await cluster.node("other")
        await one.want("s/c")
        await until(lambda: one.keys["s/c"])
        assert not await other.want("s/c")
        restarted = asyncio.Event()
        ask = other.claims._store.ask

        async def ask_a_new_server(commands: Sequence[RedisCommand]) -> list[Any]:
            if restarted.is_set() or commands[0][1] != LOOK:
                return await ask(commands)
            await server.stop(at_once=True)
            await server.start()
            answers = await ask(commands)
            assert answers == [[1]], "the new server knows of no claim"
            restarted.set()
            return answers

        monkeypatch.setattr(other.claims._store, "ask", ask_a_new_server)
        await restarted.wait()
        await until(lambda: one.claims._settled and other.claims._settled)
        assert (one.lost, other.free) == ([], [])
        for node in cluster.nodes:
            await node.claims.close()


async def test_what_the_store_has_given_to_another_is_given_up(cluster: Cluster) -> None:
    one, other = await cluster.node("one"), await cluster.node("other")
    await one.want("s/c")
    meddler = ClusterStore(config(cluster.server.port), 1.0)
    await meddler.ask([("DEL", f"{cluster.prefix}:claim:pbx/s/c")])
    await meddler.close()
    assert await other.want("s/c")
    assert await seconds_until(lambda: one.lost) < TTL_S + 0.5
    assert one.spare_s == [0]


async def test_a_password_and_a_wrong_one(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, "a-password")
    await server.start()
    good = ClusterStore(config(server.port, password=SecretStr("a-password")), 1.0)
    also = ClusterStore(ClusterConfig(store=SecretStr(f"redis://:a-password@127.0.0.1:{server.port}")), 1.0)
    bad = ClusterStore(config(server.port, password=SecretStr("another")), 1.0)
    try:
        assert await good.ask([("PING",)]) == [True]
        assert await also.ask([("PING",)]) == [True]
        with pytest.raises(StoreUnavailable) as refused:
            await bad.ask([("PING",)])
        assert "password" in str(refused.value)
        assert "another" not in str(refused.value)
        assert "a-password" not in also.display_url
    finally:
        for store in (good, also, bad):
            await store.close()
        await server.stop()
