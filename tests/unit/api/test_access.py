"""What tokens with limits see and do: scopes, patterns, caller IDs; and what too many failures lead to."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from bridge.access import SCOPES, Grant, PartyNames, Reach, Scope
from bridge.api import server
from bridge.api.events import EventSockets
from bridge.api.reach import LOOKED_UP
from bridge.api.refusals import Refusals
from bridge.api.routing import Route
from bridge.api.table import routes_of
from bridge.events.hub import Events
from bridge.patterns import Patterns
from bridge.streams.subscription_catalog import SubscriptionCatalog
from bridge.streams.subscription_store import SubscriptionStore
from tests.fakes.log_output import log_output

from .asking import clients, grant, headers, status_and_reason
from .sample_cluster import FewBridges
from .samples import TWILIO, UPGRADE, VENDORS, VOXOLOGY_KEY, Pbx


def everything(pbx: Pbx) -> dict[str, Any]:
    """Return the parts that `Pbx.backend` leaves out."""
    return {
        "subscriptions": SubscriptionCatalog([], SubscriptionStore(":memory:")),
        "channels": pbx,
        "twilio": TWILIO,
        "vendors": VENDORS,
        "events": EventSockets(Events()).handle,
        "cluster": FewBridges(),
    }


def every_route() -> list[Route]:
    pbx = Pbx()
    return routes_of(pbx.backend(**everything(pbx)))


WITH_TOKEN = [route for route in every_route() if route.access == "token"]

Client = TestClient[web.Request, web.Application]


def path_of(route: Route) -> str:
    return route.path.replace("{id}", "c1").replace("{channel}", "p1")


@pytest.mark.parametrize("route", WITH_TOKEN, ids=lambda route: route.operation)
async def test_a_route_needs_its_scope_and_no_other(route: Route) -> None:
    pbx = Pbx()
    pbx.add("c1")
    # Which of the two a stream needs depends on its directions: `test_a_listener_may_listen_only`.
    enough = {"streams:listen", "streams:speak"} if route.scope == "streams:listen" else {route.scope}
    others = grant("others", *(SCOPES - enough - {"admin"}))
    assert route.scope is not None
    one, admin = grant("one", route.scope), grant("admin", "admin")
    async with clients(pbx, others, one, admin, **everything(pbx)) as client:
        async with client.request(route.method, path_of(route), headers=headers("others")) as response:
            assert response.status == 403
            error = (await response.json())["error"]
        assert error["reason"] == "SCOPE_MISSING"
        assert route.scope in error["message"]
        assert "others" in error["message"]
        for allowed in ("one", "admin"):
            _, reason = await status_and_reason(client, route.method, path_of(route), headers=headers(allowed))
            assert reason != "SCOPE_MISSING" or route.scope == "streams:listen"


@pytest.mark.parametrize("route", WITH_TOKEN, ids=lambda route: route.operation)
@pytest.mark.parametrize("foreign", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "same-site"}])
async def test_no_route_takes_a_cookie_from_a_foreign_page(route: Route, foreign: dict[str, str]) -> None:
    pbx = Pbx()
    pbx.add("c1")
    async with clients(pbx, grant("secret"), **everything(pbx)) as client:
        answer = await status_and_reason(
            client, route.method, path_of(route), headers=foreign, cookies={"token": "secret"}
        )
        assert answer == (403, "ORIGIN_NOT_ALLOWED")


async def test_a_listener_may_listen_only() -> None:
    pbx = Pbx()
    pbx.add("c1")
    path = "/v1.0/calls/c1/media_stream?encapsulation=sln"
    async with clients(pbx, grant("ear", "streams:listen"), grant("mouth", "streams:speak")) as client:
        async with client.get(path, headers=headers("ear") | UPGRADE) as response:
            assert response.status == 403
            message = (await response.json())["error"]["message"]
        assert "streams:speak" in message
        assert "direction_speak=none" in message
        listening = path + "&direction_speak=none"
        assert (await status_and_reason(client, "GET", listening, headers=headers("ear") | UPGRADE))[0] == 101
        assert await status_and_reason(client, "GET", listening, headers=headers("mouth") | UPGRADE) == (
            403, "SCOPE_MISSING",
        )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"id": "Team 1", "name": "Monday"}, (200, "")),
        ({"name": "Team 1"}, (200, "")),
        # Anyone who joins board later would be in a conference that the token listens to.
        ({"id": "board", "name": "Team 1"}, (403, "TOKEN_LIMITED")),
        ({"name": "Monday"}, (403, "TOKEN_LIMITED")),
        ({}, (403, "TOKEN_LIMITED")),
    ],
)
async def test_which_conferences_a_limited_token_creates(body: dict[str, str], answer: tuple[int, str]) -> None:
    async with clients(Pbx(), Grant("few", ALL, reach=LIMITED)) as client:
        asked = await status_and_reason(client, "POST", "/v1.0/conferences", headers=headers("few"), json=body)
        assert asked == answer


LIMITED = Reach(Patterns(["10*"]), Patterns(["provider-a"]), Patterns(["sales", "Team*"]))
ALL = frozenset[Scope](SCOPES - {"admin", "subscriptions"})


def two_calls() -> tuple[Pbx, dict[str, Any]]:
    """Return a PBX with a call of 1001 (c1), and one of 2001 (c2)."""
    pbx = Pbx()
    pbx.add("c1", recording_id="r1")
    pbx.add("c2")
    names = {
        "c1": PartyNames(frozenset({"1001", "1002"})),
        "c2": PartyNames(frozenset({"2001"}), frozenset({"provider-b"})),
    }
    return pbx, {"participants": lambda identity: names.get(identity.partition(".")[0], PartyNames())}


@pytest.mark.parametrize("route", [each for each in WITH_TOKEN if each.path.startswith("/v1.0/calls/{id}")])
async def test_a_call_out_of_reach_does_not_exist(route: Route) -> None:
    pbx, more = two_calls()
    async with clients(pbx, Grant("few", ALL, reach=LIMITED), **more) as client:
        # Errors of the body or query come only once the call is known to be within reach.
        for identity in ("c2", "c2.peer"):
            path = route.path.replace("{id}", identity)
            assert await status_and_reason(client, route.method, path, headers=headers("few")) == (
                404, "CALL_NOT_FOUND",
            )  # fmt: skip
        assert not pbx.done
        status, _ = await status_and_reason(
            client, route.method, route.path.replace("{id}", "c1"), headers=headers("few")
        )
        assert status != 404


async def test_lists_show_what_is_within_reach() -> None:
    pbx, more = two_calls()
    streams = [{"id": "s1", "call_id": "c1"}, {"id": "s2", "call_id": "c2"}]
    more["streams"] = lambda: streams
    async with clients(pbx, Grant("few", ALL, reach=LIMITED), **more) as client:

        async def ids(path: str) -> set[str]:
            async with client.get(path, headers=headers("few")) as response:
                return {each["id"] for each in (await response.json())["result"]}

        assert await ids("/v1.0/calls") == {"c1"}
        assert await ids("/v1.0/conferences") <= {"sales"}


def test_every_route_that_names_something_is_looked_at() -> None:
    free = {"/v1.0/flows/{id}"}  # of the configuration, and not of a call
    never_limited = "subscriptions"  # a scope that tokens with patterns cannot have
    for route in WITH_TOKEN:
        if "{" in route.path and route.scope != never_limited:
            assert route.path in free or route.path.startswith(LOOKED_UP), route.path


@pytest.mark.parametrize(
    ("destination", "allowed"),
    [
        ({"type": "extension", "target": "1003"}, True),
        ({"type": "extension", "target": "2001"}, False),
        ({"type": "tel", "target": "+4930"}, True),  # it has trunks
        ({"type": "conference", "target": "board"}, False),
    ],
)
async def test_whom_a_limited_token_may_call(destination: dict[str, str], allowed: bool) -> None:
    pbx, more = two_calls()
    async with clients(pbx, Grant("few", ALL, reach=LIMITED), **more) as client:
        answer = await status_and_reason(
            client, "POST", "/v1.0/calls", headers=headers("few"), json={"destinations": [destination]}
        )
        assert answer == ((200, "") if allowed else (403, "TOKEN_LIMITED"))
        answer = await status_and_reason(
            client, "POST", "/v1.0/calls/c1/transfer", headers=headers("few"), json={"destination": destination}
        )
        assert answer == ((200, "") if allowed else (403, "TOKEN_LIMITED"))


async def test_which_numbers_a_token_may_show() -> None:
    pbx = Pbx()
    async with clients(pbx, Grant("crm", ALL, caller_ids=Patterns(["+4930123*"]))) as client:
        to = {"destinations": [{"type": "extension", "target": "1001"}]}
        for number, expected in (("+49301234", (200, "")), ("+49899", (403, "TOKEN_LIMITED"))):
            source = {"source": {"type": "tel", "target": number}}
            answer = await status_and_reason(client, "POST", "/v1.0/calls", headers=headers("crm"), json=to | source)
            assert answer == expected
        assert (await status_and_reason(client, "POST", "/v1.0/calls", headers=headers("crm"), json=to))[0] == 200


async def test_how_many_calls_a_token_may_have() -> None:
    pbx = Pbx()
    async with clients(pbx, Grant("crm", ALL, max_calls=2), grant("other")) as client:
        body = {"destinations": [{"type": "extension", "target": "1001"}]}

        async def originate(count: int = 1, token: str = "crm") -> tuple[int, str]:
            more = {"destinations": body["destinations"] * count}
            return await status_and_reason(client, "POST", "/v1.0/calls", headers=headers(token), json=more)

        assert await originate(3) == (503, "OVERLOADED")
        assert await originate() == (200, "")
        assert await originate(2) == (503, "OVERLOADED")
        assert await originate() == (200, "")
        assert await originate() == (503, "OVERLOADED")
        assert await originate(token="other") == (200, "")
        pbx.end("placed-1")
        assert await originate() == (200, "")


async def test_a_transfer_counts_among_the_calls_of_a_token() -> None:
    pbx = Pbx()
    pbx.add("c1")
    body = {"destination": {"type": "extension", "target": "1003"}}
    async with clients(pbx, Grant("crm", ALL, max_calls=1)) as client:

        async def transfer() -> tuple[int, str]:
            path = "/v1.0/calls/c1/transfer"
            return await status_and_reason(client, "POST", path, headers=headers("crm"), json=body)

        assert await transfer() == (200, "")
        assert await transfer() == (503, "OVERLOADED")
        assert len(pbx.done) == 1
        pbx.end("transfer-1")
        assert await transfer() == (200, "")


async def test_own_actions_need_the_scope_flows() -> None:
    pbx = Pbx()
    to = {"destinations": [{"type": "extension", "target": "1001"}]}
    actions = {"actions": [{"type": "talk", "option": {"text": "Hello"}}]}
    async with clients(pbx, grant("caller", "calls:originate"), grant("author", "calls:originate", "flows")) as client:
        for token, body, expected in (
            ("caller", to, (200, "")),
            ("caller", to | {"flow_id": "greeting"}, (200, "")),
            ("caller", to | actions, (403, "SCOPE_MISSING")),
            ("author", to | actions, (200, "")),
        ):
            answer = await status_and_reason(client, "POST", "/v1.0/calls", headers=headers(token), json=body)
            assert answer == expected


async def test_too_many_bad_tokens_are_answered_with_429(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.api.admission.Refusals", lambda: Refusals(3, 3))
    pbx = Pbx()
    backend = pbx.backend()
    async with TestClient(TestServer(server.build(backend, ["a-good-token-it-is"], strict=True))) as client:
        bad = headers("wrong")
        answers = [await status_and_reason(client, "GET", "/v1.0/calls", headers=bad) for _ in range(5)]
        assert answers == [(401, "INVALID_CREDENTIALS")] * 3 + [(429, "TOO_MANY_FAILURES")] * 2
        assert backend.counters.tokens_rejected == 5
        async with client.get("/v1.0/calls", headers=bad) as response:
            assert int(response.headers["Retry-After"]) >= 1
        good = headers("a-good-token-it-is")
        assert (await status_and_reason(client, "GET", "/v1.0/calls", headers=good))[0] == 200
        assert await status_and_reason(client, "GET", "/v1.0/calls") == (401, "AUTHENTICATION_REQUIRED")


async def test_the_log_counts_what_a_client_without_a_token_repeats() -> None:
    async with TestClient(TestServer(server.build(Pbx().backend(), ["a-good-token-it-is"], strict=True))) as client:
        with log_output() as output:
            for _ in range(20):
                await status_and_reason(client, "GET", "/v1.0/calls", headers=headers("wrong"))
            for _ in range(2):  # what needs a token is written each time
                await status_and_reason(client, "GET", "/v1.0/calls/none", headers=headers("a-good-token-it-is"))
    written = output.getvalue()
    assert (written.count("status=401 "), written.count("status=404 ")) == (1, 2)


@pytest.mark.parametrize(
    ("method", "path", "status", "shown"),
    [
        ("GET", "/", 415, {"Content-Encoding": "gzip"}),
        ("DELETE", "/", 405, {}),
        ("GET", "/v1.0/calls", 403, {"Cookie": "token=a-good-token-it-is", "Origin": "https://evil.example"}),
        ("GET", "/v1.0/calls?ticket=wrong", 401, {}),
    ],
)
async def test_the_log_counts_whatever_strangers_repeat(
    method: str, path: str, status: int, shown: dict[str, str]
) -> None:
    application = server.build(Pbx().backend(), ["a-good-token-it-is"], strict=True, proxies=["127.0.0.1"])
    async with TestClient(TestServer(application)) as client:
        with log_output() as output:
            for number in range(20):
                forwarded = {"X-Forwarded-For": f"2001:db8::{number:x}"}
                assert (await client.request(method, path, headers=shown | forwarded)).status == status
            other = {"X-Forwarded-For": "192.0.2.7"}
            assert (await client.request(method, path, headers=shown | other)).status == status
    assert output.getvalue().count(f"status={status} ") == 2


@pytest.mark.parametrize(
    "foreign", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}]
)
async def test_twilios_route_is_not_for_web_pages(foreign: dict[str, str]) -> None:
    from bridge.dialects.twilio import call_sid

    pbx = Pbx()
    pbx.add("c1")
    path = f"/2010-04-01/Accounts/{TWILIO.account_sid}/Calls/{call_sid('c1')}.json"
    secret = f"{TWILIO.account_sid}:{TWILIO.auth_token.get_secret_value()}"
    account = {"Authorization": f"Basic {base64.b64encode(secret.encode()).decode()}"}
    async with clients(pbx, grant("t"), **everything(pbx)) as client:
        form = {"Status": "completed"}
        async with client.post(path, data=form, headers=account | foreign) as response:
            assert response.status == 403
            assert (await response.json())["code"] == 20403
        assert not pbx.done
        async with client.post(path, data=form, headers=account) as response:
            assert response.status == 200


async def test_the_vendors_keys_have_no_other_right() -> None:
    pbx = Pbx()
    async with clients(pbx, grant("t")) as client:
        answer = await status_and_reason(
            client, "GET", "/v1.0/calls", headers={"x-api-key": VOXOLOGY_KEY, **headers(VOXOLOGY_KEY)}
        )
        assert answer == (401, "INVALID_CREDENTIALS")


def test_names_of_participants_decide() -> None:
    assert LIMITED.call(PartyNames(frozenset({"1001"})))
    assert LIMITED.call(PartyNames(frozenset(), frozenset({"provider-a"})))
    assert not LIMITED.call(PartyNames(frozenset({"provider-a"}), frozenset({"1001"})))
    assert not LIMITED.call(PartyNames())
    assert Reach().call(PartyNames())
    assert LIMITED.conference("x", "Team 1")
    assert not LIMITED.conference("10", "1001")
    assert not Reach(Patterns(["1*"])).conference("sales")
