"""The routes about all bridges that share a store."""

from __future__ import annotations

from .asking import asking
from .sample_cluster import FewBridges
from .samples import TOKEN, Pbx


async def test_nodes_and_calls_of_all() -> None:
    async with asking(Pbx(connected=False), cluster=FewBridges()) as ask:
        assert [node["name"] for node in (await ask("GET", "/v1.0/cluster/nodes", 200))["result"]] == ["one", "two"]
        calls = (await ask("GET", "/v1.0/cluster/calls", 200))["result"]
        assert [(call["id"], call["pbx"]) for call in calls] == [
            ("c1", "pbx-1"), ("c3", "pbx-0"), ("c2", "pbx-1"), ("c1", "pbx-0"),
        ]  # fmt: skip
        some = (await ask("GET", "/v1.0/cluster/calls?pbx=pbx-1", 200))["result"]
        assert [call["id"] for call in some] == ["c1", "c2"]
        some = (await ask("GET", "/v1.0/cluster/calls?node=one", 200))["result"]
        assert [call["id"] for call in some] == ["c3", "c1"]
        assert (await ask("GET", "/v1.0/cluster/calls?nodes=one", 400))["reason"] == "INVALID_QUERY"


async def test_pages() -> None:
    async with asking(Pbx(), cluster=FewBridges()) as ask:
        seen, token = [], ""
        for _ in range(4):
            page = await ask("GET", f"/v1.0/cluster/calls?page_size=1&page_token={token}", 200)
            seen += [(call["id"], call["pbx"]) for call in page["result"]]
            token = page["next_page_token"]
        assert not token
        assert len(set(seen)) == 4


async def test_one_call() -> None:
    async with asking(Pbx(), cluster=FewBridges()) as ask:
        assert (await ask("GET", "/v1.0/cluster/calls/c2", 200))["nodes"] == ["two"]
        assert (await ask("GET", "/v1.0/cluster/calls/c1", 200))["pbx"] == "pbx-1"
        assert (await ask("GET", "/v1.0/cluster/calls/c9", 404))["reason"] == "CALL_NOT_FOUND"


async def test_without_the_store() -> None:
    cluster = FewBridges()
    cluster.away = True
    async with asking(Pbx(), cluster=cluster) as ask:
        for path in ("nodes", "calls", "calls/c1"):
            error = await ask("GET", f"/v1.0/cluster/{path}", 503)
            assert error["reason"] == "STORE_UNREACHABLE"
            assert "no answer" in error["message"]


async def test_metrics() -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        asking(Pbx(), cluster=FewBridges()) as ask,
        ask.client.get("/metrics", headers=headers) as answer,
    ):
        text = await answer.text()
    assert "# TYPE asterisk_bridge_cluster_store_reachable gauge\nasterisk_bridge_cluster_store_reachable 1\n" in text
    assert "asterisk_bridge_cluster_claims_lost_total 3\n" in text


async def test_a_bridge_that_is_alone_has_none_of_it() -> None:
    async with asking(Pbx()) as ask:
        await ask("GET", "/v1.0/cluster/nodes", 404)
