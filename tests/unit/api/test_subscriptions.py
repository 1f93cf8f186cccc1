"""Subscriptions over HTTP: made, shown, changed, switched, deleted; and no credential ever comes out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from bridge import validation
from bridge.masking import MASK
from bridge.streams.subscription import Subscription
from bridge.streams.subscription_catalog import SubscriptionCatalog
from bridge.streams.subscription_store import SubscriptionStore
from bridge.validation import MAX_FAULTS

from .asking import application_with
from .samples import TOKEN

SECRET = "Bearer confidential"
MINIMAL = {"id": "new", "url": "wss://app.example/x", "dialect": "yeastar", "extensions": ["@sales"]}
PATH = "/v1.0/subscriptions"

Client = TestClient[web.Request, web.Application]


@pytest.fixture
def catalog(tmp_path: Path) -> SubscriptionCatalog:
    in_file = Subscription.model_validate(
        {"id": "in-file", "url": "wss://app.example", "dialect": "twilio", "dids": ["*"], "auth_value": SECRET}
    )
    return SubscriptionCatalog([in_file], SubscriptionStore(str(tmp_path / "state.sqlite3")), {"sales": ("1001",)})


@pytest.fixture
async def client(catalog: SubscriptionCatalog) -> AsyncIterator[Client]:
    async with TestClient(TestServer(application_with(catalog))) as it:
        yield it


async def ask(client: Client, method: str, path: str, status: int, body: object = None) -> Any:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with client.request(method, path, headers=headers, json=body) as response:
        text = await response.text()
        assert response.status == status, text
        assert "confidential" not in text
        if status == 204:
            return None
        answer = await response.json()
        return answer["error"] if status >= 400 else answer


async def made(client: Client, **values: Any) -> dict[str, Any]:
    return dict(await ask(client, "POST", PATH, 201, MINIMAL | values))


async def test_one_is_made_and_shown(client: Client, catalog: SubscriptionCatalog) -> None:
    answer = await made(client, auth_value=SECRET, sample_rate=16000)
    assert answer == await ask(client, "GET", f"{PATH}/new", 200)
    assert (answer["auth_value"], answer["source"], answer["enabled"]) == (MASK, "api", True)
    assert catalog.get("new").headers == {"Secret": SECRET}
    listed = (await ask(client, "GET", PATH, 200))["result"]
    assert [(each["id"], each["source"]) for each in listed] == [("in-file", "config"), ("new", "api")]
    assert listed[0]["auth_value"] == MASK


async def test_an_id_is_taken_once(client: Client) -> None:
    await made(client)
    assert (await ask(client, "POST", PATH, 409, MINIMAL))["reason"] == "SUBSCRIPTION_EXISTS"
    taken = await ask(client, "POST", PATH, 409, MINIMAL | {"id": "in-file"})
    assert taken["reason"] == "SUBSCRIPTION_CONFIGURED"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"url": "http://app.example"}, ["url", "wss://"]),
        ({"url": "wss://a:confidential@app.example"}, ["url", "auth_key"]),
        ({"extensions": ["@nobody"]}, ["extensions", "sales"]),
        ({"extensions": []}, ["extensions", "empty"]),
        ({"extensions": "1001"}, ["extensions", "list"]),
        ({"extensions": [1001]}, ["extensions[0]", "string"]),
        ({"dialect": "klingon"}, ["dialect", "klingon"]),
        ({"dialect": None}, ["dialect", "expected a string"]),
        ({"options": {"rate": 1}}, ["options", "16000"]),
        ({"options": []}, ["options", "table"]),
        ({"tracks": "all"}, ["tracks", "parties"]),
        ({"enabled": "yes"}, ["enabled", "true or false"]),
        ({"windw_ms": 1}, ["windw_ms", "did you mean window_ms"]),
        ({"id": "yeastar"}, ["id", "yeastar", "settings API"]),
        ({"id": "../x"}, ["id", "letters"]),
        ({"auth_value": 5}, ["auth_value", "string"]),
        ({"auth_value": "confidential\n"}, ["auth_value", "ASCII"]),
        ({"auth_value": MASK}, ["auth_value", "mask"]),
        ({"ca_file": "/no/such"}, ["ca_file", "[outbound] ca_dir"]),
        ({"url": "http://x", "dialect": "klingon"}, ["url", "klingon"]),
        ({"id": "../x", "dialect": "voxology", "sample_rate": 16000}, ["id", "sample_rate", "a fixed rate"]),
        ({"windw_ms": 1, "tracks": "all"}, ["windw_ms", "tracks", "parties"]),
    ],
)
async def test_what_is_refused(
    client: Client, catalog: SubscriptionCatalog, values: dict[str, Any], words: list[str]
) -> None:
    error = await ask(client, "POST", PATH, 400, MINIMAL | values)
    assert error["reason"] == "INVALID_SUBSCRIPTION"
    for word in words:
        assert word in error["message"]
    assert len(catalog.list()) == 1


async def test_what_is_missing(client: Client) -> None:
    error = await ask(client, "POST", PATH, 400, {})
    assert "id: is missing" in error["message"]
    assert "url: is missing" in error["message"]


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"id": NaN}', "[" * 100_000, "\ud800"])
async def test_a_body_that_is_no_object(client: Client, text: str) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    async with client.post(PATH, data=text.encode("utf-8", "surrogatepass"), headers=headers) as response:
        assert response.status == 400
        assert (await response.json())["error"]["reason"] == "INVALID_JSON"


async def test_a_body_that_does_not_say_json(client: Client) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "text/plain"}
    async with client.post(PATH, data="{}", headers=headers) as response:
        assert response.status == 415


async def test_a_body_that_is_too_long(client: Client) -> None:
    assert (await ask(client, "POST", PATH, 413, MINIMAL | {"name": "x" * 300_000}))["message"].endswith(
        "longer than 200000 bytes"
    )


async def test_what_is_shown_can_be_put_back(client: Client, catalog: SubscriptionCatalog) -> None:
    shown = await made(client, auth_value=SECRET)
    assert await ask(client, "PUT", f"{PATH}/new", 200, shown) == shown
    assert catalog.get("new").headers == {"Secret": SECRET}


async def test_put_sets_all_anew_and_patch_only_what_is_given(client: Client, catalog: SubscriptionCatalog) -> None:
    await made(client, auth_value=SECRET, name="old", dids=["5"])
    patched = await ask(client, "PATCH", f"{PATH}/new", 200, {"extensions": ["7"]})
    assert (patched["name"], patched["extensions"], patched["dids"], patched["auth_value"]) == (
        "old",
        ["7"],
        ["5"],
        MASK,
    )
    assert catalog.get("new").headers == {"Secret": SECRET}
    replaced = await ask(client, "PUT", f"{PATH}/new", 200, {k: v for k, v in MINIMAL.items() if k != "id"})
    assert (replaced["name"], replaced["extensions"], replaced["dids"], replaced["auth_value"]) == (
        "",
        ["@sales"],
        [],
        "",
    )
    assert catalog.get("new").headers == {}


@pytest.mark.parametrize("url", ["wss://elsewhere.example/x", "ws://app.example/x", "wss://app.example:444/x"])
async def test_a_credential_does_not_go_to_another_server(
    client: Client, catalog: SubscriptionCatalog, url: str
) -> None:
    shown = await made(client, auth_value=SECRET)
    for method, body in (("PATCH", {"url": url}), ("PUT", shown | {"url": url})):
        error = await ask(client, method, f"{PATH}/new", 400, body)
        assert "auth_value" in error["message"]
    assert catalog.get("new").url == MINIMAL["url"]
    await ask(client, "PATCH", f"{PATH}/new", 200, {"url": url, "auth_value": "another"})
    await ask(client, "PATCH", f"{PATH}/new", 200, {"url": url + "/y"})
    assert catalog.get("new").headers == {"Secret": "another"}


async def test_an_id_does_not_change(client: Client) -> None:
    await made(client)
    for method in ("PUT", "PATCH"):
        assert "id" in (await ask(client, method, f"{PATH}/new", 400, MINIMAL | {"id": "other"}))["message"]


async def test_those_of_the_file_can_only_be_switched(client: Client, catalog: SubscriptionCatalog) -> None:
    shown = await ask(client, "GET", f"{PATH}/in-file", 200)
    for method, body in (("PUT", shown), ("PATCH", {"name": "x"}), ("PATCH", {"enabled": False, "name": "x"})):
        error = await ask(client, method, f"{PATH}/in-file", 409, body)
        assert error["reason"] == "SUBSCRIPTION_CONFIGURED"
        assert "configuration file" in error["message"]
    assert (await ask(client, "DELETE", f"{PATH}/in-file", 409))["reason"] == "SUBSCRIPTION_CONFIGURED"
    assert (await ask(client, "PATCH", f"{PATH}/in-file", 200, {"enabled": False}))["enabled"] is False
    assert catalog.enabled() == ()
    await ask(client, "PATCH", f"{PATH}/in-file", 400, {"enabled": 1})


async def test_one_is_deleted(client: Client) -> None:
    await made(client)
    await ask(client, "DELETE", f"{PATH}/new", 204)
    for method, body in (
        ("GET", None),
        ("DELETE", None),
        ("PUT", MINIMAL),
        ("PATCH", {"enabled": True}),
        ("PATCH", {}),
    ):
        assert (await ask(client, method, f"{PATH}/new", 404, body))["reason"] == "SUBSCRIPTION_NOT_FOUND"


async def test_what_cannot_be_kept_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    catalog = SubscriptionCatalog([], SubscriptionStore(str(tmp_path / "file" / "x")), {"sales": ("1001",)})
    async with TestClient(TestServer(application_with(catalog))) as client:
        assert (await ask(client, "POST", PATH, 503, MINIMAL))["reason"] == "STATE_NOT_KEPT"


async def test_a_token_is_needed(client: Client) -> None:
    for method in ("GET", "POST"):
        async with client.request(method, PATH, json=MINIMAL) as response:
            assert response.status == 401


async def test_a_subscription_belongs_to_the_token_that_made_it_whatever_the_body_says(client: Client) -> None:
    made = await ask(client, "POST", PATH, 201, MINIMAL | {"principal": "config"})
    assert made["principal"] not in ("config", "")
    assert (await ask(client, "GET", f"{PATH}/new", 200))["principal"] == made["principal"]
    assert (await ask(client, "GET", f"{PATH}/in-file", 200))["principal"] == "config"


async def test_a_body_with_many_mistakes_costs_no_more_than_one_with_some(client: Client) -> None:
    """Finding the words for each takes time, in which no call gets its audio."""
    asked: list[str] = []
    suggestion = validation.suggestion
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "suggestion", lambda name, *more: asked.append(name) or suggestion(name, *more))
        answer = await ask(client, "POST", PATH, 400, MINIMAL | {f"key{number}": 1 for number in range(150)})
    assert "key0: unknown key" in answer["message"]
    assert 0 < len(asked) <= MAX_FAULTS
    answer = await ask(client, "POST", PATH, 400, MINIMAL | {"extensions": [""] * 900, "dids": [""] * 900})
    assert "extensions[0]" in answer["message"]
    assert len(answer["message"]) <= 2100


HIDDEN = "confidential"  # `ask` refuses every answer that holds it
TOLD = {"dialect": "twilio", "options": {"parameters": {"key": HIDDEN, "kind": "confidential too"}, "rate": 8000}}
QUERY = {"url": f"wss://app.example/x?key={HIDDEN}"}


async def test_what_goes_to_the_application_is_masked_and_sent_back_stays(
    client: Client, catalog: SubscriptionCatalog
) -> None:
    answer = await made(client, **TOLD, **QUERY)
    assert answer["url"] == f"wss://app.example/x?key={MASK}"
    assert answer["options"] == {"parameters": {"key": MASK, "kind": MASK}, "rate": 8000}
    await ask(client, "GET", PATH, 200)
    await ask(client, "PUT", f"{PATH}/new", 200, answer | {"name": "renamed"})
    assert (catalog.get("new").options, catalog.get("new").url) == (TOLD["options"], QUERY["url"])
    changed = {"parameters": {"key": MASK, "kind": "other"}, "rate": 8000}
    await ask(client, "PATCH", f"{PATH}/new", 200, {"options": changed})
    assert catalog.get("new").options["parameters"] == {"key": HIDDEN, "kind": "other"}
    await ask(client, "PATCH", f"{PATH}/new", 200, {"name": "again"})
    assert catalog.get("new").options["parameters"] == {"key": HIDDEN, "kind": "other"}
    assert catalog.get("new").url == QUERY["url"]


async def test_masked_values_do_not_travel_to_another_server(client: Client, catalog: SubscriptionCatalog) -> None:
    await made(client, **TOLD, **QUERY)
    for body in ({"url": "wss://evil.example/x"}, {"url": f"wss://evil.example/x?key={MASK}"}):
        answer = await ask(client, "PATCH", f"{PATH}/new", 400, body)
        assert "mask" in answer["message"] or "another server" in answer["message"]
    answer = await ask(client, "PATCH", f"{PATH}/new", 400, {"url": f"wss://app.example/y?key={MASK}"})
    assert answer["message"].startswith("url: contains the mask")
    assert catalog.get("new").url == QUERY["url"]
    await ask(client, "PATCH", f"{PATH}/new", 200, {"url": "wss://evil.example/x", "options": {"rate": 8000}})


@pytest.mark.parametrize("body", [{"url": f"wss://app.example/?k={MASK}"}, {"options": {"parameters": {"k": MASK}}}])
async def test_a_mask_is_no_value(client: Client, body: dict[str, Any]) -> None:
    answer = await ask(client, "POST", PATH, 400, MINIMAL | {"dialect": "twilio"} | body)
    assert "mask" in answer["message"]


async def test_options_that_are_nested_too_deeply_are_refused(client: Client) -> None:
    deep: Any = 1
    for _ in range(24):
        deep = [deep]
    body = MINIMAL | {"dialect": "twilio", "options": {"parameters": {"key": deep}}}
    answer = await ask(client, "POST", PATH, 400, body)
    assert answer["message"].startswith("options")
