"""Yeastar's settings API as its administrators' scripts make them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from bridge.calls.facts import CallFacts
from bridge.masking import MASK
from bridge.streams.subscription import matches
from bridge.streams.subscription_catalog import SubscriptionCatalog
from bridge.streams.subscription_store import SubscriptionStore

from .asking import application_with
from .samples import TOKEN

BASE = "/openapi/v1.0/websocketaudiostream"
SETTINGS = {
    "enable": 1,
    "websocket_url": "wss://speech.example/pbx",
    "auth_key": "Authorization",
    "auth_value": "Bearer confidential",
    "sample_rate": 1,
    "enable_ext": 1,
    "enable_trunk": 0,
    "enable_did": 1,
    "subscribe_list": [
        {"subscribe_id": 1001, "subscribe_type": "extension"},
        {"subscribe_id": "0042", "subscribe_type": "extension"},
        {"subscribe_id": "sales", "subscribe_type": "ext_group"},
        {"subscribe_id": "provider-1", "subscribe_type": "trunk"},
        {"subscribe_id": "+493012345", "subscribe_type": "did"},
    ],
}

Client = TestClient[web.Request, web.Application]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "state.sqlite3")


@pytest.fixture
def catalog(path: str) -> SubscriptionCatalog:
    return SubscriptionCatalog([], SubscriptionStore(path), {"sales": ("20*",)})


@pytest.fixture
async def client(catalog: SubscriptionCatalog) -> AsyncIterator[Client]:
    async with TestClient(TestServer(application_with(catalog))) as it:
        yield it


async def get(client: Client) -> dict[str, Any]:
    async with client.get(f"{BASE}/get", params={"access_token": TOKEN}) as response:
        assert response.status == 200
        return dict(await response.json())


async def update(client: Client, body: object) -> dict[str, Any]:
    async with client.post(f"{BASE}/update", params={"access_token": TOKEN}, json=body) as response:
        assert response.status == 200
        text = await response.text()
        assert "confidential" not in text
        return dict(await response.json())


SUCCESS = {"errcode": 0, "errmsg": "SUCCESS"}


async def test_before_anything_is_set(client: Client, catalog: SubscriptionCatalog) -> None:
    answer = await get(client)
    assert answer == SUCCESS | {
        "config": {
            "enable": 0,
            "websocket_url": "",
            "auth_key": "Secret",
            "auth_value": "",
            "sample_rate": 0,
            "enable_ext": 0,
            "enable_trunk": 0,
            "enable_did": 0,
        },
        "subscribe_list": [],
    }
    assert not catalog.list()


async def test_what_is_set_is_shown_and_streams(client: Client, catalog: SubscriptionCatalog, path: str) -> None:
    assert await update(client, SETTINGS) == SUCCESS
    again = SubscriptionCatalog([], SubscriptionStore(path), {"sales": ("20*",)})
    again.load()
    for each in (catalog, again):
        (subscription,) = each.enabled()
        assert (subscription.id, subscription.dialect, subscription.layout) == ("yeastar", "yeastar", "parties")
        assert subscription.new_dialect().rate == 16000
        assert subscription.headers == {"Authorization": "Bearer confidential"}
        assert matches(subscription, CallFacts(extensions=frozenset({"1001"})))
        assert matches(subscription, CallFacts(extensions=frozenset({"2077"})))
        assert matches(subscription, CallFacts(dids=frozenset({"+493012345"})))
        assert not matches(subscription, CallFacts(trunks=frozenset({"provider-1"})))
    answer = await get(client)
    lists = {"subscribe_list", "auth_value"}
    assert answer["config"] == {key: value for key, value in SETTINGS.items() if key not in lists} | {
        "auth_value": MASK
    }
    assert answer["subscribe_list"] == [
        {"id": 1, "subscribe_type": "extension", "subscribe_id": 1001},
        {"id": 2, "subscribe_type": "extension", "subscribe_id": "0042"},
        {"id": 3, "subscribe_type": "ext_group", "subscribe_id": "sales"},
        {"id": 4, "subscribe_type": "trunk", "subscribe_id": "provider-1"},
        {"id": 5, "subscribe_type": "did", "subscribe_id": "+493012345"},
    ]


async def test_what_is_shown_can_be_set_again(client: Client, catalog: SubscriptionCatalog) -> None:
    await update(client, SETTINGS)
    before = catalog.get("yeastar")
    answer = await get(client)
    assert await update(client, answer["config"] | {"subscribe_list": answer["subscribe_list"]}) == SUCCESS
    assert catalog.get("yeastar") == before


async def test_what_is_left_out_stays(client: Client, catalog: SubscriptionCatalog) -> None:
    await update(client, SETTINGS)
    assert await update(client, {"enable": 0}) == SUCCESS
    assert catalog.enabled() == ()
    assert await update(client, {"enable": 1, "enable_trunk": 1, "enable_ext": 0}) == SUCCESS
    (subscription,) = catalog.enabled()
    assert matches(subscription, CallFacts(trunks=frozenset({"provider-1"})))
    assert not matches(subscription, CallFacts(extensions=frozenset({"1001"})))
    assert subscription.auth_value.get_secret_value() == "Bearer confidential"


async def test_it_can_be_filled_bit_by_bit(client: Client, catalog: SubscriptionCatalog) -> None:
    assert await update(client, {"subscribe_list": SETTINGS["subscribe_list"], "enable_ext": 1}) == SUCCESS
    assert catalog.enabled() == ()
    assert await update(client, {"websocket_url": "ws://speech.example", "enable": 1}) == SUCCESS
    assert len(catalog.enabled()) == 1


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"enable": 2}, "enable"),
        ({"enable": None}, "enable"),
        ({"sample_rate": 8000}, "sample_rate"),
        ({"websocket_url": "https://x"}, "url"),
        ({"websocket_url": ""}, "url"),
        ({"websocket_url": "wss://speech.example/" + "x" * 255}, "255"),
        ({"websocket_url": "wss://elsewhere.example"}, "auth_value"),
        ({"auth_key": "x" * 64}, "auth_key"),
        ({"auth_value": "confidential" + "x" * 255}, "auth_value"),
        ({"auth_value": 5}, "auth_value"),
        ({"color": 1}, "color"),
        ({"subscribe_list": {}}, "subscribe_list"),
        ({"subscribe_list": [7]}, "subscribe_list[0]"),
        ({"subscribe_list": [{"subscribe_type": "queue", "subscribe_id": 1}]}, "subscribe_type"),
        ({"subscribe_list": [{"subscribe_type": 1, "subscribe_id": 1}]}, "subscribe_type"),
        ({"subscribe_list": [{"subscribe_type": "did", "subscribe_id": True}]}, "subscribe_id"),
        ({"subscribe_list": [{"subscribe_type": "did"}]}, "subscribe_id"),
        ({"subscribe_list": [{"subscribe_type": "ext_group", "subscribe_id": "nobody"}]}, "nobody"),
        ([], "JSON object"),
    ],
)
async def test_what_is_wrong_changes_nothing(
    client: Client, catalog: SubscriptionCatalog, change: object, word: str
) -> None:
    await update(client, SETTINGS)
    before = catalog.get("yeastar")
    answer = await update(client, change)
    assert answer["errcode"] != 0
    assert answer["errmsg"] == "FAILURE"
    assert word in answer["message"]
    assert catalog.get("yeastar") == before


@pytest.mark.parametrize(
    "request_of",
    [
        {},
        {"params": {"access_token": "wrong"}},
        {"headers": {"Authorization": f"Bearer {TOKEN}"}},  # not where Yeastar's scripts have it
        {"cookies": {"token": TOKEN}},
        {"params": {"token": TOKEN}},
    ],
)
async def test_strangers(client: Client, catalog: SubscriptionCatalog, request_of: dict[str, Any]) -> None:
    for method, path in (("GET", "get"), ("POST", "update")):
        async with client.request(method, f"{BASE}/{path}", json=SETTINGS, **request_of) as response:
            assert response.status == 401
            answer = await response.json()
            assert answer["errcode"] != 0
            assert answer["errmsg"] == "FAILURE"
    assert not catalog.list()


async def test_the_other_api_switches_and_deletes_it_only(client: Client) -> None:
    await update(client, SETTINGS)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    path = "/v1.0/subscriptions/yeastar"
    async with client.patch(path, json={"name": "x"}, headers=headers) as response:
        assert response.status == 409
    async with client.patch(path, json={"enabled": False}, headers=headers) as response:
        assert response.status == 200
    assert (await get(client))["config"]["enable"] == 0
    async with client.delete(path, headers=headers) as response:
        assert response.status == 204
    assert (await get(client))["subscribe_list"] == []
