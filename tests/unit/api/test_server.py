"""The HTTP server as clients see it: statuses, the one shape of errors, and what the log does not hold."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestClient, TestServer
from pydantic import SecretStr

from bridge.api.server import HttpServer, build
from bridge.config import HttpConfig
from bridge.errors import AriError, Overloaded
from bridge.streams.media_stream_endpoint import MediaStreamOptions

from .samples import STREAM, TOKEN, UPGRADE, Pbx, make_call

Client = TestClient[web.Request, web.Application]


@pytest.fixture
def pbx() -> Pbx:
    calls = [make_call("c1"), make_call("c2", answered=False, peer="Ringing")]
    return Pbx({call.id: call for call in calls}, open_streams=[{**STREAM, "id": "s1"}, {**STREAM, "id": "s2"}])


@pytest.fixture
async def client(pbx: Pbx) -> AsyncIterator[Client]:
    """With a token configured."""
    async with TestClient(TestServer(build(pbx.plain_backend(), [TOKEN], strict=True))) as it:
        yield it


@pytest.fixture
async def open_client(pbx: Pbx) -> AsyncIterator[Client]:
    """Without tokens."""
    async with TestClient(TestServer(build(pbx.plain_backend(), None, strict=True))) as it:
        yield it


async def error_of(
    client: Client, path: str, status: int, headers: dict[str, str] | None = None, method: str = "GET"
) -> dict[str, Any]:
    async with client.request(method, path, headers=headers) as response:
        body = await response.json()
        assert response.status == status, body
        assert set(body) == {"error"}
        assert set(body["error"]) == {"status", "reason", "message", "request_id"}
        assert body["error"]["request_id"] == response.headers["X-Request-Id"]
        return dict(body["error"])


async def test_calls_are_listed_with_their_streams(client: Client) -> None:
    async with client.get(f"/v1.0/calls?token={TOKEN}") as response:
        assert response.status == 200
        body = await response.json()
    assert body["next_page_token"] == ""
    assert [(call["id"], call["status"], call["streams"]) for call in body["result"]] == [
        ("c2", "ringing", 0),
        ("c1", "progressing", 2),
    ]


async def test_calls_come_in_pages(client: Client) -> None:
    async with client.get(f"/v1.0/calls?token={TOKEN}&page_size=1") as response:
        first = await response.json()
    async with client.get(
        "/v1.0/calls", params={"token": TOKEN, "page_size": "1", "page_token": first["next_page_token"]}
    ) as response:
        second = await response.json()
    assert [call["id"] for call in first["result"] + second["result"]] == ["c2", "c1"]
    assert second["next_page_token"] == ""


async def test_one_call_by_its_id_or_a_partys(client: Client) -> None:
    for identity in ("c1", "c1.peer"):
        async with client.get(f"/v1.0/calls/{identity}?token={TOKEN}") as response:
            assert (await response.json())["id"] == "c1"


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/v1.0/calls/nobody", 404, "CALL_NOT_FOUND"),
        ("/v1.0/calls/%2e%2e%2fc1", 404, "CALL_NOT_FOUND"),
        ("/v1.0/calls/%ff%00%0a", 404, "CALL_NOT_FOUND"),
        ("/v1.0/calls?page_size=x", 400, "INVALID_PAGE_SIZE"),
        ("/v1.0/calls?page_token=x", 400, "INVALID_PAGE_TOKEN"),
        ("/v1.0", 404, "RESOURCE_NOT_FOUND"),
        ("/v1.0/calls/c1/", 404, "RESOURCE_NOT_FOUND"),
        ("/v1.0/calls/c1/media_stream", 400, "INVALID_STREAM_OPTIONS"),
        ("/v1.0/calls/nobody/media_stream?encapsulation=opus", 400, "INVALID_STREAM_OPTIONS"),
        ("/v1.0/calls/c1/media_stream?encapsulation=rtp&encapsulation=sln", 400, "INVALID_STREAM_OPTIONS"),
        ("/v1.0/calls/nobody/media_stream?encapsulation=rtp", 404, "CALL_NOT_FOUND"),
        ("/v1.0/calls/c2/media_stream?encapsulation=rtp", 409, "STATE_INVALID"),
    ],
)
async def test_what_is_refused(client: Client, path: str, status: int, reason: str) -> None:
    # The same answer to a WebSocket client and to curl: the upgrade is looked at last.
    for headers in ({"Authorization": f"Bearer {TOKEN}"}, UPGRADE | {"Authorization": f"Bearer {TOKEN}"}):
        assert (await error_of(client, path, status, headers))["reason"] == reason


async def test_a_party_that_only_rings_in_an_answered_call_is_refused(client: Client, pbx: Pbx) -> None:
    pbx.calls["c3"] = make_call("c3", peer="Ringing")  # its caller is in a menu, which has answered
    headers = UPGRADE | {"Authorization": f"Bearer {TOKEN}"}
    error = await error_of(client, "/v1.0/calls/c3.peer/media_stream?encapsulation=rtp", 409, headers)
    assert error["reason"] == "STATE_INVALID"
    assert "PJSIP/1002-c3" in error["message"]
    assert "Ringing" in error["message"]
    async with client.ws_connect(f"/v1.0/calls/c3/media_stream?encapsulation=rtp&token={TOKEN}") as socket:
        await socket.receive()
    assert [party for _, party, _ in pbx.accepted] == ["c3"]


async def test_a_wrong_method(client: Client) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    for method in ("POST", "DELETE", "PUT"):
        assert (await error_of(client, "/v1.0/calls", 405, headers, method))["reason"] == "METHOD_NOT_ALLOWED"


@pytest.mark.parametrize(
    "path", ["/v1.0/calls", "/v1.0/calls/c1/media_stream", "/metrics", "/no/such/path", "/v1.0/streams"]
)
async def test_a_token_is_needed(client: Client, path: str) -> None:
    assert (await error_of(client, path, 401))["reason"] == "AUTHENTICATION_REQUIRED"
    assert (await error_of(client, f"{path}?token=wrong", 401))["reason"] == "INVALID_CREDENTIALS"
    # What browsers and broken clients may send instead of text.
    assert (await error_of(client, f"{path}?token=%ff%fe", 401))["reason"] == "INVALID_CREDENTIALS"


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"Upgrade": "h2c"}, 426, "WEBSOCKET_REQUIRED"),
        ({"Connection": "keep-alive"}, 426, "WEBSOCKET_REQUIRED"),
        ({"Sec-WebSocket-Version": "8"}, 426, "WEBSOCKET_VERSION"),
        ({"Sec-WebSocket-Key": "short"}, 400, "INVALID_WEBSOCKET_KEY"),
        ({"Sec-WebSocket-Key": "ä"}, 400, "INVALID_WEBSOCKET_KEY"),
    ],
)
async def test_a_handshake_that_is_none(
    client: Client, pbx: Pbx, changes: dict[str, str], status: int, reason: str
) -> None:
    path = f"/v1.0/calls/c1/media_stream?encapsulation=rtp&token={TOKEN}"
    assert (await error_of(client, path, status, UPGRADE | changes))["reason"] == reason
    assert pbx.accepted == []


async def test_a_good_request_is_handed_over(client: Client, pbx: Pbx) -> None:
    path = f"/v1.0/calls/c1.peer/media_stream?encapsulation=sln&rate=16000&direction_listen=in&token={TOKEN}"
    async with client.ws_connect(path, origin="https://elsewhere.example") as socket:
        await socket.receive()
    assert pbx.accepted == [
        ("c1", "c1.peer", MediaStreamOptions("voipbin", {"encapsulation": "sln", "rate": 16000}, "in"))
    ]


@pytest.mark.parametrize(
    ("failure", "status", "reason"),
    [
        (Overloaded("full"), 503, "OVERLOADED"),
        (AriError(0, "GET", "/channels", "no answer"), 503, "ASTERISK_FAILED"),
        (AriError(404, "POST", "/channels/c1/snoop", "gone"), 404, "CALL_NOT_FOUND"),
        (RuntimeError("secret detail"), 500, "INTERNAL_ERROR"),
    ],
)
async def test_failures_before_the_upgrade(
    client: Client, pbx: Pbx, failure: Exception, status: int, reason: str
) -> None:
    pbx.failure = failure
    error = await error_of(client, f"/v1.0/calls/c1/media_stream?encapsulation=rtp&token={TOKEN}", status, UPGRADE)
    assert error["reason"] == reason
    assert "secret" not in error["message"]


async def test_overload_says_when_to_come_again(client: Client, pbx: Pbx) -> None:
    pbx.failure = Overloaded("full")
    path = f"/v1.0/calls/c1/media_stream?encapsulation=rtp&token={TOKEN}"
    async with client.get(path, headers=UPGRADE) as response:
        assert int(response.headers["Retry-After"]) > 0


async def test_without_asterisk_nothing_is_claimed_about_calls(client: Client, pbx: Pbx) -> None:
    pbx.connected = False
    for path in ("/v1.0/calls", "/v1.0/calls/c1", "/v1.0/calls/c1/media_stream?encapsulation=rtp"):
        error = await error_of(client, path, 503, {"Authorization": f"Bearer {TOKEN}"})
        assert error["reason"] == "ASTERISK_UNREACHABLE"


async def test_health(client: Client, pbx: Pbx) -> None:
    async with client.get("/health") as response:
        assert response.status == 200
        assert (await response.json())["faults"] == []
    pbx.connected = False
    pbx.listening = False
    async with client.get("/health") as response:
        assert response.status == 503
        body = await response.json()
    assert (body["ari"], body["audiosocket"], len(body["faults"])) == ("disconnected", "closed", 2)
    assert "10.0.0.7" not in str(body)
    async with client.get(f"/health?token={TOKEN}") as response:
        assert "10.0.0.7" in await response.text()


async def test_metrics(client: Client) -> None:
    async with client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}) as response:
        assert response.headers["Content-Type"].startswith("text/plain")
        text = await response.text()
    assert "asterisk_bridge_calls 2\n" in text
    assert "asterisk_bridge_streams 2\n" in text
    assert "asterisk_bridge_frames_from_asterisk_total 5\n" in text
    assert "asterisk_bridge_ari_events_undecodable_total 3\n" in text


async def test_streams(client: Client) -> None:
    async with client.get("/v1.0/streams", headers={"Authorization": f"Bearer {TOKEN}"}) as response:
        assert [stream["id"] for stream in (await response.json())["result"]] == ["s1", "s2"]


async def test_the_page_needs_no_token_and_nothing_from_elsewhere(client: Client) -> None:
    async with client.get("/") as response:
        assert response.status == 200
        policy = response.headers["Content-Security-Policy"]
        text = await response.text()
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "://" not in text
    assert 'href="docs"' in text


async def test_without_tokens_a_strangers_page_is_refused(open_client: Client, pbx: Pbx) -> None:
    async with open_client.get("/v1.0/calls") as response:
        assert response.status == 200
    path = "/v1.0/calls/c1/media_stream?encapsulation=rtp"
    error = await error_of(open_client, path, 403, UPGRADE | {"Origin": "https://elsewhere.example"})
    assert error["reason"] == "ORIGIN_NOT_ALLOWED"
    error = await error_of(open_client, path, 403, UPGRADE | {"Host": "rebound.example"})
    assert error["reason"] == "HOST_NOT_LOCAL"
    assert pbx.accepted == []


async def test_the_log_holds_no_token_and_no_line_of_a_clients_making(
    pbx: Pbx, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = HttpServer(HttpConfig(port=0, tokens=(SecretStr(TOKEN),)), pbx.plain_backend())
    await server.start()
    try:
        async with ClientSession(f"http://127.0.0.1:{server.port}") as session:
            async with session.get(f"/v1.0/calls/x%0aINFO+forged?token={TOKEN}") as response:
                assert response.status == 404
            async with session.get("/v1.0/calls?token=a-wrong-secret") as response:
                assert response.status == 401
            for malformed in (b"GET /?token=a-wrong-secret HTTP/9.9\r\n\r\n", b"\x16\x03\x01a-wrong-secret\r\n\r\n"):
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.write(malformed)
                assert b" 400 " in await reader.readline()
                writer.close()
    finally:
        await server.stop()
    assert "a-wrong-secret" not in caplog.text
    assert TOKEN not in caplog.text
    assert not any("\n" in record.getMessage() for record in caplog.records)
    assert "/v1.0/calls/x%0AINFO" in caplog.text


async def test_stopping_a_server_that_never_started_is_harmless(pbx: Pbx) -> None:
    await HttpServer(HttpConfig(), pbx.plain_backend()).stop()


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v1.0/calls/c1/media_stream/", "/v1.0/calls/c1/media_stream"),
        ("//v1.0//calls", "/v1.0/calls"),
        ("/v1.0/cals/", ""),
        ("/v1.0/cals", ""),
    ],
)
async def test_a_path_with_a_slash_too_many_is_answered_with_a_hint(path: str, meant: str) -> None:
    async with TestClient(TestServer(build(Pbx().backend(), [TOKEN], strict=True))) as client:
        base = str(client.make_url("/")).rstrip("/")
        async with client.session.get(f"{base}{path}?token={TOKEN}") as response:
            assert response.status == 404
            message = (await response.json())["error"]["message"]
        assert message == "this path does not exist" + (f"; did you mean {meant!r}?" if meant else "")
        async with client.session.get(base + path) as response:
            assert response.status == 401
            assert "did you mean" not in await response.text()
