"""The OpenAPI document and the routes are the same thing twice."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from jsonschema_rs import Draft202012Validator
from pydantic import TypeAdapter, ValidationError

from bridge.api import plivo, table, telnyx
from bridge.api.document import CHAPTERS
from bridge.api.errors import REASONS
from bridge.api.models import calls, subscriptions
from bridge.api.routing import LATE, Route, operation_of
from bridge.api.server import build
from bridge.events.hub import Events
from bridge.streams.subscription import CONFIGURATION_KEYS, Subscription
from bridge.streams.subscription_catalog import SubscriptionCatalog
from bridge.streams.subscription_store import SubscriptionStore

from .asking import asking
from .sample_cluster import FewBridges
from .samples import TWILIO, VENDORS, Pbx


def application(*, with_tokens: bool = True) -> Any:
    pbx = Pbx()
    return build(pbx.backend(**parts(pbx)), ["0123456789abcdef"] if with_tokens else None)


def parts(pbx: Pbx) -> dict[str, Any]:
    from bridge.api.events import EventSockets

    catalog = SubscriptionCatalog([], SubscriptionStore(":memory:"))
    return {
        "subscriptions": catalog,
        "channels": pbx,
        "twilio": TWILIO,
        "vendors": VENDORS,
        "events": EventSockets(Events()).handle,
    } | {"cluster": FewBridges()}


async def served(*, with_tokens: bool = True) -> dict[str, Any]:
    async with (
        TestClient(TestServer(application(with_tokens=with_tokens))) as client,
        client.get("/openapi.json") as response,
    ):
        assert response.status == 200
        return dict(await response.json())


@pytest.fixture
async def document() -> dict[str, Any]:
    return await served()


async def test_every_route_is_in_the_document_and_the_other_way_round(document: dict[str, Any]) -> None:
    served = application()
    routers = (served.router, served[LATE].router)
    registered = {
        (route.method, route.resource.canonical)
        for router in routers
        for route in router.routes()
        if route.method != "HEAD"
    }
    registered = {(method, path) for method, path in registered if not path.startswith("//")}  # aliases
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert registered == described
    assert len(registered) >= 55


async def test_what_is_not_configured_is_neither_there_nor_described() -> None:
    plain = Pbx().backend(calling=None, conferences=None)
    async with TestClient(TestServer(build(plain, None))) as client, client.get("/openapi.json") as response:
        described = set((await response.json())["paths"])
    assert described == {each.path for each in table.ALWAYS}


VERBS = (
    *("create", "delete", "get", "hangup", "hold", "kick", "list", "modify", "mute", "open", "play", "post"),
    *("replace", "resume", "send", "speak", "start", "stop", "transfer", "unmute", "update"),
)
VERB_NOUN = re.compile(rf"(?:{'|'.join(VERBS)})(?:[A-Z][a-z]+)+")
"""What operationIds look like: generated clients have methods of these names."""


async def test_names_are_unique_and_references_lead_somewhere(document: dict[str, Any]) -> None:
    names = [each["operationId"] for methods in document["paths"].values() for each in methods.values()]
    assert len(names) == len(set(names))
    assert [name for name in names if not VERB_NOUN.fullmatch(name)] == []
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert references <= set(document["components"]["schemas"])
    unused = set(document["components"]["schemas"]) - references
    assert not unused


async def test_the_schemas_are_schemas(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    for name in document["components"]["schemas"]:
        whole = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        Draft202012Validator(whole)


def test_every_reason_belongs_to_a_route_and_every_routes_reason_exists() -> None:
    problems = [operation_of(route).problems for route in every_route()]
    used = {reason for each in problems for reasons in each.values() for reason in reasons}
    used |= {"INVALID_EVENT_OPTIONS"}
    assert used == set(REASONS)


def test_every_route_is_in_a_chapter() -> None:
    assert {route.tag for route in every_route()} | {"Events"} == set(CHAPTERS)


async def test_who_needs_what(document: dict[str, Any]) -> None:
    public = {path for path, methods in document["paths"].items() if methods.get("get", {}).get("security") == []}
    assert public == {"/", "/health", "/health/live", "/openapi.json", "/docs"}
    assert document["paths"]["/v1/Dials/Connect"]["post"]["security"] == [{"voxology": []}]
    assert {"bearer": ["calls:read"]} in document["paths"]["/v1.0/calls"]["get"]["security"]
    without = await served(with_tokens=False)
    assert without["paths"]["/v1.0/calls"]["get"]["security"] == []
    assert "bearer" not in without["components"]["securitySchemes"]


async def test_a_call_may_be_placed_in_both_spellings(document: dict[str, Any]) -> None:
    whole = {"$ref": "#/components/schemas/CreateCalls", "components": document["components"]}
    schema = Draft202012Validator(whole)
    to = {"destinations": [{"type": "tel", "target": "+4930"}]}
    assert schema.is_valid(to | {"actions": [{"type": "talk", "option": {"text": "x"}}]})
    assert schema.is_valid(to | {"actions": [{"type": "SAY", "params": {"text": "x"}}, {"type": "HANGUP"}]})
    assert not schema.is_valid(to | {"actions": [{"type": "talk", "option": {"txet": "x"}}]})
    assert not schema.is_valid(to | {"color": 1})
    assert not schema.is_valid({})


async def test_the_page_has_all_of_it_and_nothing_from_elsewhere(document: dict[str, Any]) -> None:
    async with TestClient(TestServer(application())) as client, client.get("/docs") as response:
        assert response.status == 200
        page = await response.text()
        policy = response.headers["Content-Security-Policy"]
    for path, methods in document["paths"].items():
        assert path in page
        for operation in methods.values():
            assert f'id="{operation["operationId"]}"' in page
            assert f'href="#{operation["operationId"]}"' in page
    for name in document["components"]["schemas"]:
        assert f'id="schema-{name}"' in page
    assert set(re.findall(r'href="([^"]+)"', page)) <= {
        "data:,",
        "openapi.json",
        "./",
        *re.findall(r'href="(#[^"]+)"', page),
    }
    assert 'href="./"' in page  # the status page
    assert "<script" not in page
    assert "${" not in page.replace("${name}", "")
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "img-src data:;" in policy  # its icon is empty, and browsers request no other


async def test_a_wrong_method_on_a_public_path_needs_no_token() -> None:
    async with asking(Pbx()) as ask:
        assert (await ask("POST", "/docs", 405, headers={}))["reason"] == "METHOD_NOT_ALLOWED"
        assert (await ask("POST", "/v1.0/flows", 401, headers={}))["reason"] == "AUTHENTICATION_REQUIRED"


async def test_an_answer_that_is_not_described_is_a_fault_in_tests_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.api.flows.flow_json", lambda _: {"id": 5, "color": "red"})
    pbx = Pbx()
    async with asking(pbx) as ask:
        assert (await ask("GET", "/v1.0/flows", 500))["reason"] == "INTERNAL_ERROR"
    async with TestClient(TestServer(build(pbx.backend(), None))) as client, client.get("/v1.0/flows") as response:
        assert response.status == 200


def test_what_is_described_of_a_subscription_is_what_it_has() -> None:
    kept = set(Subscription.model_fields) - {"agent", *CONFIGURATION_KEYS}
    assert set(subscriptions.Subscription.model_fields) == kept
    assert set(subscriptions.SubscriptionPart.model_fields) == kept
    values: dict[str, Any] = {"id": "new", "url": "wss://app.example/x", "dialect": "yeastar", "extensions": ["1"]}
    described = subscriptions.NewSubscription.model_validate(values)
    real = Subscription.model_validate(values).model_dump(mode="json")
    for name, value in described.model_dump().items():
        if name not in ("source", "principal"):
            assert value == real[name], name


@pytest.mark.parametrize(
    "values", [{"id": "Not-good"}, {"tracks": "all"}, {"multiparty": "x"}, {"ignored": ["x"]}, {"name": "x" * 201}]
)
def test_what_is_described_as_wrong_is_wrong(values: dict[str, Any]) -> None:
    good = {"id": "new", "url": "wss://app.example/x", "dialect": "yeastar", "extensions": ["1"]}
    for model in (Subscription, subscriptions.NewSubscription):
        with pytest.raises(ValidationError):
            TypeAdapter(model).validate_python(good | values)


def test_the_limits_of_a_request_are_those_of_flows() -> None:
    from bridge.flows import variables

    field = next(each for each in calls.CreateCalls.model_fields["variables"].metadata if hasattr(each, "max_length"))
    assert field.max_length == variables.MAX_GIVEN


def every_route() -> Iterator[Route]:
    yield from (*table.ALWAYS, *table.CALLING, *table.VOXOLOGY, *table.CONFERENCES, *table.SUBSCRIPTIONS)
    yield from (*table.TWILIO, *telnyx.ROUTES, *plivo.ROUTES, *table.CLUSTER)
