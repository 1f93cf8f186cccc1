"""Every route that has an effect is one line of the audit log, whatever comes of the request."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

from bridge.api import table
from bridge.api.admission import PRINCIPAL_HEADER
from bridge.api.errors import unavailable
from bridge.api.events import EventSockets
from bridge.api.routing import RECORDED, Route
from bridge.api.server import build
from bridge.api.yeastar import PREFIX as YEASTAR
from bridge.dialects.plivo import call_uuid
from bridge.dialects.telnyx import call_control_id
from bridge.dialects.twilio import call_sid
from bridge.errors import Overloaded
from bridge.events.hub import Events
from bridge.flows.recording_callbacks import recording_sid
from bridge.streams.subscription_catalog import SubscriptionCatalog
from bridge.streams.subscription_store import SubscriptionStore
from tests.fakes.virtual_time import until
from tests.unit.audit.lines import Lines

from .asking import Client
from .samples import TOKEN, TWILIO, VENDORS, VOXOLOGY_KEY, Pbx

SECRET_TEXT, SECRET_DIGITS, SECRET = "my-card-is-blocked", "4929#", "confidential"
ACCOUNT = base64.b64encode(f"{TWILIO.account_sid}:{TWILIO.auth_token.get_secret_value()}".encode()).decode()
TWILIO_PATH = f"/2010-04-01/Accounts/{TWILIO.account_sid}/Calls/{call_sid('c1')}.json"
TELNYX_KEY = VENDORS.telnyx.api_key.get_secret_value()
PLIVO_KEY = base64.b64encode(f"{VENDORS.plivo.auth_id}:{VENDORS.plivo.auth_token.get_secret_value()}".encode()).decode()
TO_1002 = {"destinations": [{"type": "extension", "target": "1002"}, {"type": "tel", "target": "+4930"}]}
CALL, CONFERENCE = "/v1.0/calls/c1", "/v1.0/conferences/sales"
SUBSCRIPTION = {
    "id": "new", "url": f"wss://app.example/x?key={SECRET}", "dialect": "yeastar", "extensions": ["1001"],
    "auth_value": SECRET,
}  # fmt: skip
UPGRADE = {
    "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
}  # fmt: skip

GOOD: dict[str, tuple[str, object, dict[str, Any]]] = {
    "createCalls": ("/v1.0/calls", TO_1002, {"calls": ["placed-1", "placed-2"]}),
    "deleteCall": (CALL, None, {"call": "c1"}),
    "hangupCall": ("/v1.0/calls/c1.peer/hangup", None, {"call": "c1", "party": "c1.peer"}),
    "holdCall": (f"{CALL}/hold", None, {"call": "c1"}),
    "resumeCall": (f"{CALL}/hold", None, {"call": "c1"}),
    "postCallUnhold": (f"{CALL}/unhold", None, {"call": "c1"}),
    "muteCall": (f"{CALL}/mute", {}, {"call": "c1"}),
    "unmuteCall": (f"{CALL}/mute", None, {"call": "c1"}),
    "postCallUnmute": (f"{CALL}/unmute", {}, {"call": "c1"}),
    "startMusicOnHold": (f"{CALL}/moh", None, {"call": "c1"}),
    "stopMusicOnHold": (f"{CALL}/moh", None, {"call": "c1"}),
    "startSilence": (f"{CALL}/silence", None, {"call": "c1"}),
    "stopSilence": (f"{CALL}/silence", None, {"call": "c1"}),
    "speakText": (f"{CALL}/talk", {"text": SECRET_TEXT}, {"call": "c1"}),
    "playSounds": (f"{CALL}/play", {"stream_urls": [f"https://sounds.example/a.wav?key={SECRET}"]}, {"call": "c1"}),
    "sendDtmf": (f"{CALL}/dtmf", {"digits": SECRET_DIGITS}, {"call": "c1"}),
    "transferCall": (
        f"{CALL}/transfer",
        {"destination": {"type": "extension", "target": "1003"}},
        {"call": "c1", "destinations": ["extension 1003"], "calls": ["transfer-1"]},
    ),
    "startRecording": (f"{CALL}/recording_start", {}, {"call": "c1", "recording": "r1"}),
    "stopRecording": (f"{CALL}/recording_stop", None, {"call": "c1", "recording": "r1"}),
    "getRecordingFile": ("/v1.0/recordings/r1/file", None, {"recording": "r1", "call": "c1", "bytes": 8}),
    "deleteRecording": ("/v1.0/recordings/r1", None, {"recording": "r1", "call": "c1"}),
    "createVoxologyCall": (
        "/v1/Dials/Connect",
        {"call": {"no": "+15551234567"}},
        {"destinations": ["tel +15551234567"], "calls": ["placed-1"]},
    ),
    "startSensitiveMode": (f"{CALL}/sensitive", {}, {"call": "c1"}),
    "stopSensitiveMode": (f"{CALL}/sensitive", None, {"call": "c1"}),
    "createCallTicket": (f"{CALL}/tickets", {"direction": "listen"}, {"call": "c1", "direction": "listen"}),
    "createConferenceTicket": (
        f"{CONFERENCE}/tickets",
        {"direction": "both"},
        {"conference": "sales", "direction": "both"},
    ),
    "createEventTicket": ("/v1.0/events/tickets", None, {"direction": "events"}),
    "createConference": ("/v1.0/conferences", {"id": "new"}, {"conference": "new"}),
    "deleteConference": (CONFERENCE, None, {"conference": "sales"}),
    "kickParticipant": (f"{CONFERENCE}/participants/p1", None, {"conference": "sales", "party": "p1"}),
    "muteParticipant": (f"{CONFERENCE}/participants/p1/mute", None, {"conference": "sales", "party": "p1"}),
    "unmuteParticipant": (f"{CONFERENCE}/participants/p1/mute", None, {"conference": "sales", "party": "p1"}),
    "createSubscription": (
        "/v1.0/subscriptions",
        SUBSCRIPTION,
        {"subscription": "new", "application": "wss://app.example/x"},
    ),
    "replaceSubscription": (
        "/v1.0/subscriptions/kept",
        SUBSCRIPTION | {"id": "kept"},
        {"subscription": "kept", "application": "wss://app.example/x"},
    ),
    "modifySubscription": ("/v1.0/subscriptions/kept", {"enabled": False}, {"subscription": "kept", "enabled": False}),
    "deleteSubscription": ("/v1.0/subscriptions/kept", None, {"subscription": "kept"}),
    "updateYeastarSettings": (
        f"{YEASTAR}websocketaudiostream/update?access_token={TOKEN}",
        {"websocket_url": "wss://app.example/y", "auth_value": SECRET},
        {"subscription": "yeastar", "application": "wss://app.example/y", "enabled": False},
    ),
    "createTwilioCall": (
        TWILIO_PATH.rpartition("/")[0] + ".json",
        {"To": "+4930", "From": "+4940", "Twiml": f"<Response><Say>{SECRET_TEXT}</Say></Response>"},
        {"destinations": ["tel +4930"], "source": "+4940", "calls": ["placed-1"]},
    ),
    "startTwilioStream": (
        TWILIO_PATH.removesuffix(".json") + "/Streams.json",
        {"Url": f"wss://app.example/x?key={SECRET}", "Name": "ears"},
        {"call": "c1", "party": "c1"},
    ),
    "stopTwilioStream": (
        TWILIO_PATH.removesuffix(".json") + "/Streams/ears.json",
        {"Status": "stopped"},
        {"call": "c1", "party": "c1"},
    ),
    "startTwilioRecording": (
        TWILIO_PATH.removesuffix(".json") + "/Recordings.json",
        {"RecordingStatusCallback": f"https://app.example/{SECRET}"},
        {"call": "c1", "party": "c1", "recording": "r1"},
    ),
    "stopTwilioRecording": (
        TWILIO_PATH.removesuffix(".json") + "/Recordings/Twilio.CURRENT.json",
        {"Status": "stopped"},
        {"call": "c1", "party": "c1", "recording": "r2"},
    ),
    "getTwilioRecording": (
        f"/2010-04-01/Accounts/{TWILIO.account_sid}/Recordings/{recording_sid('r1')}",
        None,
        {"call": "c1"},
    ),
    "updateTwilioCall": (TWILIO_PATH, {"Status": "completed"}, {"call": "c1", "party": "c1"}),
    "hangupPlivoCall": (
        f"/v1/Account/{VENDORS.plivo.auth_id}/Call/{call_uuid('c1')}/",
        None,
        {"call": "c1", "party": "c1"},
    ),
    "hangupTelnyxCall": (f"/v2/calls/{call_control_id('c1')}/actions/hangup", None, {"call": "c1", "party": "c1"}),
}
"""A valid request for each route by its operation, and what its line contains."""
WRONG = {
    "createCalls": {},
    "createTwilioCall": {"To": "1"},
    "createVoxologyCall": {},
    "createConference": {"id": "a/b"},
    "createSubscription": {},
}
"""Bodies that are refused, where there is no id in the path that could be wrong."""

ROUTES = table.routes_of(
    Pbx().backend(
        **dict.fromkeys(("subscriptions", "channels", "cluster", "events"), object()), twilio=TWILIO, vendors=VENDORS
    )
)
"""Every route that there can be."""
AUDITED = [route for route in ROUTES if route.audit and not route.websocket]
STREAMS = [route for route in ROUTES if route.audit and route.websocket]


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def pbx() -> Pbx:
    it = Pbx()
    it.add("c1", recording_id="r1")
    return it


@pytest.fixture
async def client(pbx: Pbx, lines: Lines, tmp_path: Path) -> AsyncIterator[Client]:
    catalog = SubscriptionCatalog([], SubscriptionStore(str(tmp_path / "state.sqlite3")))
    sockets = EventSockets(Events())
    backend = pbx.backend(
        audit=lines, subscriptions=catalog, channels=pbx, twilio=TWILIO, vendors=VENDORS, cluster=object(),
        events=sockets.handle,
    )  # fmt: skip
    async with TestClient(TestServer(build(backend, [TOKEN], strict=True))) as it:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        body = SUBSCRIPTION | {"id": "kept"}
        async with it.post("/v1.0/subscriptions", json=body, headers=headers) as response:
            assert response.status == 201, await response.text()
        lines.lines.clear()
        yield it
        await sockets.close()


def credentials(route: Route) -> dict[str, str]:
    return {
        "twilio": {"Authorization": f"Basic {ACCOUNT}"},
        "telnyx": {"Authorization": f"Bearer {TELNYX_KEY}"},
        "plivo": {"Authorization": f"Basic {PLIVO_KEY}"},
        "voxology": {"x-api-key": VOXOLOGY_KEY},
        "yeastar": {},
        "token": {"Authorization": f"Bearer {TOKEN}"},
    }[route.access]


async def ask(client: Client, route: Route, path: str, body: object, **more: Any) -> int:
    form: dict[str, Any] = {"data": body} if route.form is not None else {"json": body} if body is not None else {}
    async with client.request(route.method, path, **form, **({"headers": credentials(route)} | more)) as response:
        await response.read()
        return response.status


def secrets_are_kept(lines: Lines) -> None:
    text = repr([*lines.lines, *lines.rejected])
    for secret in (SECRET, SECRET_TEXT, SECRET_DIGITS, TOKEN, ACCOUNT, TELNYX_KEY, PLIVO_KEY, VOXOLOGY_KEY):
        assert secret not in text


def test_every_route_with_an_effect_declares_an_action() -> None:
    for route in ROUTES:
        assert bool(route.audit) or (route.method == "GET" and not route.websocket), route.operation
    assert {route.operation for route in AUDITED} == set(GOOD)
    assert {route.operation for route in STREAMS} == {
        "openCallMediaStream",
        "openConferenceMediaStream",
        "openEventStream",
    }


@pytest.mark.parametrize("route", AUDITED, ids=lambda route: route.operation)
async def test_a_good_request_is_one_line(client: Client, lines: Lines, route: Route) -> None:
    path, body, said = GOOD[route.operation]
    status = await ask(client, route, path, body)
    action, principal, outcome, values = lines.the_only()
    assert (action, outcome, status, values["status"]) == (route.audit, "ok", route.success, route.success)
    assert principal.id not in ("", "anonymous")
    assert principal.address == "127.0.0.1"
    assert {name: values[name] for name in said} == said
    secrets_are_kept(lines)


@pytest.mark.parametrize(
    "route", [each for each in AUDITED if each.operation != "createEventTicket"], ids=lambda route: route.operation
)
async def test_a_request_that_fails_is_one_line(client: Client, lines: Lines, route: Route) -> None:
    path, body, _ = GOOD[route.operation]
    if route.operation == "updateYeastarSettings":
        body = {"nonsense": SECRET}
    elif route.operation in WRONG:
        body = WRONG[route.operation]
    else:
        for there, missing in (("/c1", "/gone"), ("/sales", "/gone"), ("/r1", "/gone"), ("/kept", "/gone")):
            path = path.replace(there, missing)
        for identify, there in ((call_sid, "c1"), (call_control_id, "c1"), (call_uuid, "c1"), (recording_sid, "r1")):
            path = path.replace(identify(there), identify("gone"))
    status = await ask(client, route, path, body)
    action, _, outcome, values = lines.the_only()
    assert (action, outcome, values["status"]) == (route.audit, "failed", status)
    assert status >= 400 or values["reason"] == "BAD_PARAMETER"  # Yeastar's errors have the status 200
    secrets_are_kept(lines)


@pytest.mark.parametrize("route", AUDITED, ids=lambda route: route.operation)
async def test_a_request_without_a_credential_is_a_rejection(client: Client, lines: Lines, route: Route) -> None:
    path, body, _ = GOOD[route.operation]
    status = await ask(
        client, route, path.partition("?")[0], body, headers={"Authorization": "Bearer wrong-token-0123"}
    )
    assert status == 401
    assert lines.lines == []
    (kind,) = lines.rejected
    assert (kind.address, kind.attempted, kind.status) == ("127.0.0.1", route.audit, 401)
    assert "wrong-token-0123" not in repr(kind)


async def test_a_failure_inside_is_one_line(client: Client, lines: Lines, pbx: Pbx) -> None:
    pbx.failure = RuntimeError("a bug")
    hold = next(route for route in AUDITED if route.operation == "holdCall")
    assert await ask(client, hold, f"{CALL}/hold", None) == 500
    action, _, outcome, values = lines.the_only()
    assert (action, outcome, values["status"], values["reason"]) == ("call.hold", "failed", 500, "INTERNAL_ERROR")
    pbx.failure = Overloaded("full")
    assert await ask(client, hold, f"{CALL}/hold", None) == 503
    assert lines.lines[-1][3]["reason"] == "OVERLOADED"


async def test_what_is_refused_says_whom_it_was_for(client: Client, lines: Lines, pbx: Pbx) -> None:
    pbx.failure = Overloaded("full")
    place = next(route for route in AUDITED if route.operation == "createCalls")
    assert await ask(client, place, "/v1.0/calls", TO_1002) == 503
    assert lines.the_only()[3]["destinations"] == ["extension 1002", "tel +4930"]


async def test_reading_is_no_line_but_a_rejected_reader_is(client: Client, lines: Lines) -> None:
    for path in ("/v1.0/calls", "/v1.0/recordings", "/health", "/openapi.json"):
        async with client.get(path, headers={"Authorization": f"Bearer {TOKEN}"}) as response:
            assert response.status == 200
    assert (lines.lines, lines.rejected) == ([], [])
    for path, attempted in (("/v1.0/calls", "listCalls"), ("/nowhere", "")):
        async with client.get(path) as response:
            assert response.status == 401
        assert lines.rejected[-1].attempted == attempted
    async with client.post("/v1.0/calls", headers={"Content-Encoding": "gzip"}, data=b"x") as response:
        assert response.status in (401, 415)  # before its sender is identified
    assert len(lines.rejected) == 3
    for query, count in (("", 3), ("?token=stolen-but-revoked", 4)):  # a public path must not try tokens unseen
        async with client.get(f"/health{query}") as response:
            assert response.status == 200
        assert len(lines.rejected) == count
    assert (lines.rejected[-1].attempted, lines.rejected[-1].status) == ("getHealth", 401)
    assert lines.lines == []


async def test_a_client_that_goes_is_one_line(client: Client, lines: Lines, pbx: Pbx) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def hold(_: str, /) -> None:
        begun.set()
        await go_on.wait()

    pbx.hold = hold  # type: ignore[method-assign]
    hold_call = next(route for route in AUDITED if route.operation == "holdCall")
    asking = asyncio.create_task(ask(client, hold_call, f"{CALL}/hold", None))
    await begun.wait()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    go_on.set()
    await until(lambda: lines.lines)
    assert lines.the_only()[0] == "call.hold"


@pytest.mark.parametrize(
    "route", [each for each in STREAMS if each.operation != "openEventStream"], ids=lambda route: route.operation
)
async def test_a_stream_that_is_refused_is_one_line_and_one_that_opens_is_its_own(
    client: Client, lines: Lines, route: Route
) -> None:
    path = f"{CALL if route.operation == 'openCallMediaStream' else CONFERENCE}/media_stream"
    assert await ask(client, route, path, None) == 400  # no encapsulation
    action, principal, outcome, values = lines.the_only()
    assert (action, outcome, values["status"]) == ("stream.start", "failed", 400)
    assert principal.address == "127.0.0.1"
    assert values["reason"] == "INVALID_STREAM_OPTIONS"
    headers = credentials(route) | UPGRADE
    assert await ask(client, route, f"{path}?encapsulation=sln", None, headers=headers) == 101
    assert len(lines.lines) == 1


async def test_a_listener_to_events_is_a_line_at_the_start_and_one_at_the_end(client: Client, lines: Lines) -> None:
    async with client.ws_connect(f"/v1.0/events?types=call_*&token={TOKEN}"):
        ((action, principal, outcome, values),) = lines.lines
        assert (action, outcome, values) == ("events.start", "ok", {"types": ("call_*",)})
        assert principal.address == "127.0.0.1"
    await until(lambda: len(lines.lines) == 2)
    assert lines.lines[1][0] == "events.end"
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await client.ws_connect(f"/v1.0/events?nonsense=1&token={TOKEN}")
    assert [line[0] for line in lines.lines] == ["events.start", "events.end", "events.start"]
    assert lines.lines[2][2] == "failed"


@pytest.mark.parametrize(("answered", "status", "expected"), [(True, 200, 0), (True, 404, 1), (False, 503, 1)])
async def test_a_request_that_another_worker_answers_is_recorded_there(
    pbx: Pbx, lines: Lines, answered: bool, status: int, expected: int
) -> None:
    """As `bridge.workers.request_forwarding` passes requests on."""
    from aiohttp import web

    @web.middleware
    async def pass_on(request: web.Request, handler: Any) -> web.StreamResponse:  # noqa: ARG001
        if not answered:
            raise unavailable("OVERLOADED", "the worker does not answer", 1)
        request[RECORDED] = status != 404
        return web.json_response({}, status=status)

    hold = next(route for route in AUDITED if route.operation == "holdCall")
    application = build(pbx.backend(audit=lines), [TOKEN], middlewares=[pass_on])
    async with TestClient(TestServer(application)) as client:
        assert await ask(client, hold, f"{CALL}/hold", None) == status
    assert len(lines.lines) == expected
    inner = build(pbx.backend(audit=lines), [TOKEN], inner=True)
    lines.lines.clear()
    async with TestClient(TestServer(inner)) as client:
        of_client = {PRINCIPAL_HEADER: "local 192.0.2.7"}
        assert await ask(client, hold, "/v1.0/calls/gone/hold", None, headers=of_client) == 404
        assert lines.lines == []  # the worker that passed it on asks the next one
        assert await ask(client, hold, f"{CALL}/hold", None, headers=of_client) == 200
        _, principal, _, _ = lines.the_only()
        assert (principal.id, principal.address) == ("local", "192.0.2.7")


def test_actions_are_documented() -> None:
    from bridge.audit import ACTIONS

    text = (Path(__file__).parents[3] / "docs/reference/audit-log.md").read_text()
    for action in ACTIONS:
        assert f"`{action}`" in text, action
    declared = {route.audit for route in ROUTES if route.audit}
    assert declared <= ACTIONS
