"""Workers of one bridge in a cluster: each is a node, and a call still goes to the application once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.testing.lab_engine import Lab
from bridge.testing.store import RedisServer
from tests.lab.conftest import Phones
from tests.lab.nodes import Heard, settle, talk
from tests.lab.sink import open_sink
from tests.lab.waiting import PATIENCE_S, sends
from tests.lab.workers import serving


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[RedisServer]:
    server = RedisServer(tmp_path / "store")
    await server.start()
    await settle()
    yield server
    await server.stop()


async def test_workers_are_nodes(lab: Lab, store: RedisServer, phones: Phones, tmp_path: Path) -> None:
    async with open_sink() as sink:
        subscription = {"id": "all", "url": sink.url, "dialect": "yeastar", "extensions": ["1001", "1003"]}
        cluster = {"store": store.url, "node": "n", "pbx": "lab"}
        async with serving(lab, tmp_path, 2, cluster=cluster, subscriptions=[subscription]) as bridge:
            alice, carol = await phones("1001", "1003")
            async with asyncio.timeout(PATIENCE_S):
                while [n["name"] for n in (await bridge.get("/v1.0/cluster/nodes"))[1]["result"]] != ["n.1", "n.2"]:
                    await asyncio.sleep(0.1)
            await talk(alice, "601")
            await talk(carol, "600")
            ids = [(await bridge.call_from(name, timeout_s=PATIENCE_S))["id"] for name in ("1001", "1003")]
            heard = Heard(sink)
            for call_id in ids:
                await heard.heard(call_id, 1, PATIENCE_S)
            await sends(alice, 2.5)
            assert [len(heard.connections(call_id)) for call_id in ids] == [1, 1]
            nodes = (await bridge.get("/v1.0/cluster/nodes"))[1]["result"]
            assert [sum(node[key] for node in nodes) for key in ("claims", "waiting")] == [2, 2]
            calls = (await bridge.get("/v1.0/cluster/calls"))[1]["result"]
            assert {(call["id"], call["streams"], *call["nodes"]) for call in calls} == {
                (i, 1, "n.1", "n.2") for i in ids
            }
            await alice.hangup()
            await carol.hangup()
