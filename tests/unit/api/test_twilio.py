"""A voice-agent framework's requests: get a call, hang it up, redirect it; each error has its number."""

from __future__ import annotations

from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from aiohttp import encode_basic_auth, web
from aiohttp.test_utils import TestClient, TestServer
from msgspec.structs import replace
from pydantic import SecretStr

from bridge.api.server import build
from bridge.config import TwilioConfig
from bridge.control.recorder import Recording
from bridge.dialects.twilio import call_sid
from bridge.errors import AriError
from bridge.flows.recording_callbacks import RecordingCallback, recording_sid
from bridge.flows.stream_callbacks import StreamCallback, stream_sid
from bridge.streams.stream import Stream

from .sample_parts import NOW
from .samples import TOKEN, Pbx, make_call

ACCOUNT = "AC" + "0123456789abcdef" * 2
SECRET = "a-secret:of-sixteen"
AUTH = {"Authorization": encode_basic_auth(ACCOUNT, SECRET)}
CALL = f"/2010-04-01/Accounts/{ACCOUNT}/Calls/{call_sid('c1')}.json"

Client = TestClient[web.Request, web.Application]


def application(pbx: Pbx, config: TwilioConfig) -> web.Application:
    return build(pbx.plain_backend(channels=pbx, twilio=config), [TOKEN], strict=True)


def config(dial_context: str = "from-agents") -> TwilioConfig:
    return TwilioConfig(account_sid=ACCOUNT, auth_token=SecretStr(SECRET), dial_context=dial_context)


@pytest.fixture
def pbx() -> Pbx:
    return Pbx({name: make_call(name) for name in ("c0", "c1")}, lasting=True)


@pytest.fixture
async def client(pbx: Pbx) -> AsyncIterator[Client]:
    async with TestClient(TestServer(application(pbx, config()))) as it:
        yield it


async def ask(
    client: Client, status: int, form: dict[str, str] | None, path: str = CALL, **more: Any
) -> dict[str, Any]:
    arguments: dict[str, Any] = {"headers": AUTH} | more
    method = "GET" if form is None else "POST"
    base = str(client.make_url("/")).rstrip("/")
    async with client.session.request(method, base + path, data=form, **arguments) as response:
        body = dict(await response.json())
        assert response.status == status, body
        assert "X-Request-Id" in response.headers
        if status >= 400:
            assert set(body) == {"code", "message", "more_info", "status"}
            assert body["status"] == status
        if status == 201:
            assert response.headers["Location"] == body["uri"]
        return body


async def test_a_call_ends(client: Client, pbx: Pbx) -> None:
    body = await ask(client, 200, {"Status": "completed"})
    assert (body["sid"], body["account_sid"], body["status"]) == (call_sid("c1"), ACCOUNT, "completed")
    assert pbx.done == [("hangup", "c1")]


async def test_a_call_is_looked_at(client: Client, pbx: Pbx) -> None:
    body = await ask(client, 200, None)
    assert (body["status"], body["from"], body["to"]) == ("in-progress", "1001", "1002")
    assert body["date_created"] == "Sat, 31 Jan 2026 12:00:00 +0100"
    assert pbx.done == []


async def test_a_call_is_sent_elsewhere(client: Client, pbx: Pbx) -> None:
    body = await ask(client, 200, {"Twiml": "<Response><Dial>1003</Dial></Response>"})
    assert body["status"] == "in-progress"
    assert pbx.done == [("continue_in_dialplan", "c1", "from-agents", "1003", 1)]


async def test_a_document_that_hangs_up(client: Client, pbx: Pbx) -> None:
    assert (await ask(client, 200, {"Twiml": "<Response><Hangup/></Response>"}))["status"] == "completed"
    assert pbx.done == [("hangup", "c1")]


async def test_where_nobody_may_dial(pbx: Pbx) -> None:
    async with TestClient(TestServer(application(pbx, config(dial_context="")))) as client:
        error = await ask(client, 400, {"Twiml": "<Response><Dial>1003</Dial></Response>"})
    assert "twilio.dial_context" in error["message"]
    assert pbx.done == []


@pytest.mark.parametrize(
    ("form", "code", "word"),
    [
        ({}, 20001, "expected either"),
        ({"Status": ""}, 20001, "expected either"),
        ({"Status": "in-progress"}, 20001, "in-progress"),
        ({"Url": "app.example/twiml"}, 21205, "not an http"),
        ({"Foo": "1"}, 20001, "not supported"),
        ({"Status": "completed", "Twiml": "<Response/>"}, 20001, "expected either"),
        ({"Twiml": "<Response>"}, 12100, "XML"),
        ({"Twiml": "<Response>" + " " * 4000 + "</Response>"}, 12100, "longer"),
        ({"Twiml": "<!DOCTYPE r><Response/>"}, 12100, "DOCTYPE"),
        ({"Twiml": "<Response><Dial>1</Dial><Say>x</Say></Response>"}, 12200, "twilio.originate"),
        ({"Twiml": '<Response><Dial><Number sendDigits="1">1</Number></Dial></Response>'}, 12200, "twilio.originate"),
    ],
)
async def test_what_is_refused(client: Client, pbx: Pbx, form: dict[str, str], code: int, word: str) -> None:
    error = await ask(client, 400, form)
    assert error["code"] == code
    assert word in error["message"]
    assert pbx.done == []


async def test_a_body_that_is_no_form(client: Client) -> None:
    async with client.post(CALL, json={"Status": "completed"}, headers=AUTH) as response:
        assert response.status == 400


async def test_a_call_that_has_ended(client: Client, pbx: Pbx) -> None:
    gone = CALL.replace(call_sid("c1"), call_sid("c9"))
    assert (await ask(client, 404, {"Status": "completed"}, gone))["code"] == 20404
    pbx.failure = AriError(404, "POST", "channels", "Channel not found")
    assert (await ask(client, 404, {"Twiml": "<Response><Dial>1</Dial></Response>"}))["code"] == 20404


async def test_asterisk_does_not_answer(client: Client, pbx: Pbx) -> None:
    pbx.failure = AriError(0, "DELETE", "channels", "no answer in 5 s")
    assert (await ask(client, 503, {"Status": "completed"}))["code"] == 20503
    pbx.connected = False
    assert (await ask(client, 503, {"Status": "completed"}))["code"] == 20503


@pytest.mark.parametrize(
    "more",
    [
        {"headers": {}},
        {"headers": {"Authorization": encode_basic_auth(ACCOUNT, "wrong")}},
        {"headers": {"Authorization": encode_basic_auth(ACCOUNT, "wröng", encoding="utf-8")}},
        {"headers": {"Authorization": encode_basic_auth("AC" + "0" * 32, SECRET)}},
        {"headers": {"Authorization": "Basic %%%"}},
        {"headers": {"Authorization": "Bearer 0123456789abcdef"}},
        {"path": CALL.replace(ACCOUNT, "AC" + "0" * 32)},
    ],
)
async def test_strangers(client: Client, pbx: Pbx, more: dict[str, Any]) -> None:
    for form in (None, {"Status": "completed"}):
        error = await ask(client, 401, form, **more)
        assert error["code"] == 20003
        assert SECRET not in error["message"]
    assert pbx.done == []


async def test_the_account_opens_nothing_else(client: Client) -> None:
    async with client.get("/v1.0/calls", headers=AUTH) as response:
        assert response.status == 401


OTHERS = ("/2010-04-01/Accounts.json", "/2010-04-01/x", f"//2010-04-01/Accounts/{ACCOUNT}/Calls.json")


@pytest.mark.parametrize("path", OTHERS)
async def test_every_error_below_the_path_has_the_vendors_shape(client: Client, path: str) -> None:
    for form in (None, {"To": "1001"}):
        assert (await ask(client, 404, form, path))["code"] == 20404
        assert (await ask(client, 401, form, path, headers={}))["code"] == 20003
        assert (await ask(client, 401, form, path, headers={"Authorization": f"Bearer {TOKEN}"}))["code"] == 20003


async def test_errors_that_the_server_raises_have_it_too(client: Client) -> None:
    async with client.delete(CALL, headers=AUTH) as response:
        assert (response.status, response.headers["Allow"]) == (405, "GET,HEAD,POST")
        assert (await response.json())["code"] == 20004
    large = b"Twiml=" + b"x" * 70_000
    headers = AUTH | {"Content-Type": "application/x-www-form-urlencoded"}
    async with client.post(CALL, data=large, headers=headers) as response:
        assert (response.status, (await response.json())["code"]) == (413, 20001)
    async with client.post(CALL, data=b"x", headers=headers | {"Content-Encoding": "gzip"}) as response:
        assert (response.status, (await response.json())["code"]) == (415, 20001)


async def test_a_base_address_that_ends_with_a_slash(client: Client, pbx: Pbx) -> None:
    assert (await ask(client, 200, None, "/" + CALL))["status"] == "in-progress"
    assert (await ask(client, 200, {"Status": "completed"}, "/" + CALL))["status"] == "completed"
    assert pbx.done == [("hangup", "c1")]
    assert (await ask(client, 401, None, "/" + CALL, headers={}))["code"] == 20003


async def test_a_call_that_has_ended_is_remembered_with_its_duration() -> None:
    pbx = Pbx()
    twilio = config()
    application = build(pbx.backend(channels=pbx, twilio=twilio), [TOKEN], strict=True)
    pbx.add("c7", tm_progressing=NOW - 61)
    pbx.add("c8", "ringing")
    for call in ("c7", "c8"):
        pbx.end(call)
    async with TestClient(TestServer(application)) as client:
        path = CALL.replace(call_sid("c1"), call_sid("c7"))
        body = await ask(client, 200, None, path)
        assert (body["sid"], body["status"], body["duration"]) == (call_sid("c7"), "completed", "61")
        assert (body["from"], body["to"], body["direction"]) == ("1001", "+4930123456", "outbound-api")
        assert parsedate_to_datetime(body["end_time"]).timestamp() == int(NOW)
        assert (await ask(client, 404, {"Status": "completed"}, path))["code"] == 20404
        for reason, status in (
            ("failed", "failed"),
            ("busy", "busy"),
            ("noanswer", "no-answer"),
            ("dialout", "failed"),
        ):
            pbx.records.update("c8", hangup_reason=reason)
            body = await ask(client, 200, None, CALL.replace(call_sid("c1"), call_sid("c8")))
            assert (body["status"], body["duration"]) == (status, "0")


async def test_without_an_account_there_is_no_such_path(pbx: Pbx) -> None:
    async with TestClient(TestServer(application(pbx, TwilioConfig()))) as client:
        async with client.post(CALL, data={"Status": "completed"}, headers=AUTH) as response:
            assert response.status == 401  # of the bridge's own tokens: a stranger does not learn which calls exist
        async with client.post(f"{CALL}?token=0123456789abcdef", data={"Status": "completed"}) as response:
            assert response.status == 404


@pytest.mark.parametrize(
    ("form", "kind", "status", "message"),
    [
        (b"a=1&" * 100, "", 400, "more than 100 fields"),
        (b"a=" + b"x" * 70_000, "", 413, "longer than 65536 bytes"),
        (b"Status=completed", "; charset=punycode", 400, "UTF-8"),
    ],
)
async def test_a_form_that_is_too_much(
    client: Client, pbx: Pbx, form: bytes, kind: str, status: int, message: str
) -> None:
    headers = AUTH | {"Content-Type": f"application/x-www-form-urlencoded{kind}"}
    async with client.post(CALL, data=form, headers=headers) as response:
        assert response.status == status
        assert message in await response.text()
    assert pbx.done == []


WHOLE = TwilioConfig(account_sid=ACCOUNT, auth_token=SecretStr(SECRET), originate=True)
CALLS = f"/2010-04-01/Accounts/{ACCOUNT}/Calls.json"
SAY = "<Response><Say>Hello</Say></Response>"


class Watching:
    """Stands for `bridge.flows.status_callbacks.StatusCallbacks`."""

    def __init__(self) -> None:
        self.watched: list[tuple[Any, ...]] = []

    def watch(self, *what: Any) -> None:
        self.watched.append(what)

    def follow_recording(self, recording: Recording, callback: RecordingCallback) -> None:
        self.watched.append((recording.id, callback))

    def follow_stream(self, stream: Stream, callback: StreamCallback) -> None:
        self.watched.append((stream_sid(stream), callback))


def whole(pbx: Pbx, config: TwilioConfig = WHOLE) -> tuple[web.Application, Watching]:
    watching: Any = Watching()
    backend = pbx.backend(channels=pbx, twilio=config)
    assert backend.calling is not None
    backend = replace(backend, calling=replace(backend.calling, status_callbacks=watching))
    return build(backend, [TOKEN], strict=True), watching


async def test_a_call_is_created() -> None:
    pbx = Pbx()
    application, watching = whole(pbx)
    async with TestClient(TestServer(application)) as client:
        form = {"To": "+49 30 1", "From": "+4940", "Url": "https://app.example/voice?a=b", "Timeout": "20"}
        form |= {"StatusCallback": "https://app.example/s", "StatusCallbackEvent": "answered initiated"}
        body = await ask(client, 201, form, CALLS)
        assert (body["sid"], body["status"], body["direction"]) == (call_sid("placed-1"), "queued", "outbound-api")
        ((_, request, program, _),) = pbx.done
        assert (str(request.destinations[0]), request.source.target, request.timeout_s) == ("tel +49301", "+4940", 20)
        assert program.actions[0].options.url == form["Url"]
        assert watching.watched == [("placed-1", form["StatusCallback"], "POST", ("initiated", "answered"))]
        for to in ("client:1001", "sip:1001@pbx.example"):
            await ask(client, 201, {"To": to, "From": "1", "Twiml": SAY}, CALLS)
            assert str(pbx.done[-1][1].destinations[0]) == "extension 1001"
        for more in ({"Twiml": SAY}, {"Url": form["Url"]}):
            await ask(client, 201, {"To": "1", "From": "2", "SendDigits": "ww1#", **more}, CALLS)
            assert [each.does for each in pbx.done[-1][2].actions][:-1] == ["pause", "pause", "digits_send"]
        found = await ask(client, 200, None, CALL.replace(call_sid("c1"), call_sid("placed-1")))
        assert found["sid"] == call_sid("placed-1")


@pytest.mark.parametrize(
    ("form", "code", "word"),
    [
        ({}, 21201, "To"),
        ({"To": "1"}, 21213, "From"),
        ({"To": "1", "From": "2"}, 21205, "Url or Twiml"),
        ({"To": "1", "From": "2", "Url": "ftp://x"}, 21205, "not an http"),
        ({"To": "1", "From": "2", "Url": "http://x", "Twiml": SAY}, 21205, "either"),
        ({"To": "1", "From": "2", "Twiml": "<Hangup/>"}, 12100, "Response"),
        ({"To": "1", "From": "2", "Twiml": SAY, "Timeout": "0"}, 20001, "Timeout"),
        ({"To": "1", "From": "2", "Twiml": SAY, "Timeout": "soon"}, 20001, "Timeout"),
        ({"To": "1", "From": "2", "Twiml": SAY, "Method": "PUT", "Url": ""}, 0, ""),
        ({"To": "1", "From": "2", "Twiml": SAY, "StatusCallback": "x"}, 21609, "StatusCallback"),
        (
            {"To": "1", "From": "2", "Twiml": SAY, "StatusCallback": "http://x", "StatusCallbackEvent": "busy"},
            21626,
            "busy",
        ),
        ({"To": "1", "From": "2", "Twiml": SAY, "SendDigits": "1p2"}, 20001, "SendDigits"),
        ({"To": "1", "From": "2", "Twiml": SAY, "SendDigits": "w" * 33}, 20001, "SendDigits"),
        ({"To": "1", "From": "2", "Twiml": SAY, "Record": "true"}, 20001, "Record"),
    ],
)
async def test_what_is_not_created(form: dict[str, str], code: int, word: str) -> None:
    pbx = Pbx()
    async with TestClient(TestServer(whole(pbx)[0])) as client:
        body = await ask(client, 400 if code else 201, form, CALLS)
        if code:
            assert body["code"] == code
            assert word in body["message"]
            assert pbx.done == []


async def test_calls_are_created_only_if_the_account_may() -> None:
    pbx = Pbx()
    async with TestClient(TestServer(whole(pbx, config())[0])) as client:
        body = await ask(client, 403, {"To": "1", "From": "2", "Twiml": SAY}, CALLS)
        assert (body["code"], pbx.done) == (20403, [])
        assert "twilio.originate" in body["message"]


async def test_another_document_runs_on_a_call() -> None:
    pbx = Pbx({"c1": make_call("c1")}, lasting=True)
    pbx.add("c1", tm_progressing=NOW - 5)
    async with TestClient(TestServer(whole(pbx)[0])) as client:
        assert (await ask(client, 200, {"Twiml": SAY}))["status"] == "in-progress"
        redirect, (verb, leg, program, principal) = pbx.done
        assert (redirect, verb, leg, principal.id) == (("redirect", "c1"), "run_on", "c1", "twilio")
        assert [action.does for action in program.actions] == ["talk"]
        await ask(client, 200, {"Url": "https://app.example/next", "Method": "GET"})
        (action,) = pbx.done[-1][2].actions
        assert (action.does, action.options.url, action.options.method) == (
            "twiml_document", "https://app.example/next", "GET"
        )  # fmt: skip


async def test_calls_are_listed_by_page_and_by_filter() -> None:
    pbx = Pbx()
    for index in range(5):
        pbx.add(f"c{index}", tm_progressing=NOW - 61)
    pbx.end("c4")
    async with TestClient(TestServer(whole(pbx)[0])) as client:
        first = await ask(client, 200, None, CALLS + "?PageSize=2")
        assert [len(first["calls"]), first["page"], first["previous_page_uri"]] == [2, 0, None]
        second = await ask(client, 200, None, first["next_page_uri"])
        third = await ask(client, 200, None, second["next_page_uri"])
        assert third["next_page_uri"] is None
        sids = [each["sid"] for page in (first, second, third) for each in page["calls"]]
        assert sorted(sids) == sorted(call_sid(f"c{index}") for index in range(5))
        ended = await ask(client, 200, None, CALLS + "?Status=completed")
        assert [each["sid"] for each in ended["calls"]] == [call_sid("c4")]
        assert (await ask(client, 200, None, CALLS + "?To=nobody"))["calls"] == []


async def test_streams_are_started_and_stopped() -> None:
    pbx = Pbx({"c1": make_call("c1")}, lasting=True)
    pbx.add("c1", tm_progressing=NOW - 5)
    base = CALL.removesuffix(".json") + "/Streams"
    application, watching = whole(pbx)
    async with TestClient(TestServer(application)) as client:
        form = {"Url": "wss://app.example/x", "Name": "ears", "Track": "both_tracks"}
        form |= {"StatusCallback": "https://app.example/s", "StatusCallbackMethod": "GET"}
        form |= {"Parameter1.Name": "who", "Parameter1.Value": "${me}"}
        body = await ask(client, 201, form, base + ".json")
        ((verb, leg, wanted),) = pbx.done
        assert (verb, leg, wanted.name, set(wanted.tracks)) == ("stream_start", "c1", "ears", {"inbound", "outbound"})
        assert wanted.target.options["parameters"] == {"who": "${me}"}
        assert (body["call_sid"], body["name"], body["status"]) == (call_sid("c1"), "ears", "in-progress")
        assert watching.watched == [(body["sid"], StreamCallback("https://app.example/s", "GET", "ears"))]
        for stream in ("ears", body["sid"]):
            stopped = await ask(client, 200, {"Status": "stopped"}, f"{base}/{stream}.json")
            assert (stopped["sid"], stopped["status"]) == (body["sid"], "stopped")
            assert pbx.done[-1][0] == "stream_stop"
        assert (await ask(client, 404, {"Status": "stopped"}, base + "/MZ0.json"))["code"] == 20404
        assert (await ask(client, 400, {"Status": "paused"}, base + "/ears.json"))["code"] == 20001
        for wrong in ({"Url": "http://x"}, {}, {"Url": "wss://x", "Track": "left"}, {"Url": "wss://${x}/"}):
            assert (await ask(client, 400, wrong, base + ".json"))["code"] == 20001
        for name, code in (("StatusCallback", 21609), ("StatusCallbackMethod", 20001), ("StatusCallbackEvent", 20001)):
            error = await ask(client, 400, {"Url": "wss://app.example/y", name: "x"}, base + ".json")
            assert (error["code"], error["message"].partition(":")[0]) == (code, name)


async def test_recordings_are_started_and_stopped() -> None:
    pbx = Pbx({"c1": make_call("c1")}, lasting=True)
    pbx.add("c1", tm_progressing=NOW - 5)
    base = CALL.removesuffix(".json") + "/Recordings"
    application, watching = whole(pbx)
    async with TestClient(TestServer(application)) as client:
        form = {"RecordingTrack": "inbound", "RecordingStatusCallback": "https://app.example/rec"}
        form |= {"RecordingStatusCallbackEvent": "completed absent", "RecordingStatusCallbackMethod": "GET"}
        body = await ask(client, 201, form, base + ".json")
        ((verb, call, how),) = pbx.done
        assert (verb, call, how["direction"], how["principal"].id) == ("recording_start", "c1", "in", "twilio")
        assert (body["call_sid"], body["sid"], body["source"]) == (
            call_sid("c1"), recording_sid("r1"), "StartCallRecordingAPI"
        )  # fmt: skip
        ((recording, callback),) = watching.watched
        assert (recording, callback.url, callback.method) == ("r1", form["RecordingStatusCallback"], "GET")
        assert callback.events == ("completed", "absent")
        for which in (recording_sid("r2"), "Twilio.CURRENT"):  # r1 has ended
            stopped = await ask(client, 200, {"Status": "stopped"}, f"{base}/{which}.json")
            assert (stopped["sid"], stopped["status"], stopped["duration"]) == (recording_sid("r2"), "completed", "2")
            assert pbx.done[-1] == ("recordings.stop", "c1", "r2")
        assert (await ask(client, 404, {"Status": "stopped"}, f"{base}/{recording_sid('r1')}.json"))["code"] == 20404
        assert (await ask(client, 400, {"Status": "paused"}, base + "/Twilio.CURRENT.json"))["code"] == 20001
        wrongs = {"RecordingTrack": "left", "RecordingChannels": "dual", "Trim": "trim-silence", "Foo": "1"}
        wrongs |= {"RecordingStatusCallbackEvent": "soon", "RecordingStatusCallback": "x"}
        for name, value in wrongs.items():
            error = await ask(client, 400, {name: value}, base + ".json")
            assert error["message"].startswith(f"{name}:")


async def test_a_recording_is_downloaded() -> None:
    pbx = Pbx()
    sid = recording_sid("r1")
    async with TestClient(TestServer(whole(pbx)[0])) as client:
        for suffix in ("", ".wav"):
            path = f"/2010-04-01/Accounts/{ACCOUNT}/Recordings/{sid}{suffix}"
            async with client.get(path, headers=AUTH) as response:
                assert (response.status, response.content_type) == (200, "audio/wav")
        gone = f"/2010-04-01/Accounts/{ACCOUNT}/Recordings/{recording_sid('r9')}"
        assert (await ask(client, 404, None, gone))["code"] == 20404
