"""Recordings, configured flows and Voxology's request over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr

from bridge.api import recordings
from bridge.api.backend import MAX_READERS
from bridge.api.server import HttpServer
from bridge.api.tokens import Tokens
from bridge.config import HttpConfig
from bridge.errors import AriError
from tests.fakes.virtual_time import until

from .asking import Asker, asking
from .sample_parts import FewRecordings
from .samples import GONE, TOKEN, VOXOLOGY_KEY, Pbx

PATH = "/v1.0/recordings"
DIAL = "/v1/Dials/Connect"
KEY = {"headers": {"x-api-key": VOXOLOGY_KEY}}


@pytest.fixture
def pbx() -> Pbx:
    return Pbx()


@pytest.fixture
async def ask(pbx: Pbx) -> AsyncIterator[Asker]:
    async with asking(pbx) as it:
        yield it


async def test_they_are_listed_and_looked_at(ask: Asker) -> None:
    listed = (await ask("GET", PATH, 200))["result"]
    assert [(each["id"], each["status"]) for each in listed] == [("r2", "recording"), ("r1", "ended")]
    assert await ask("GET", f"{PATH}/r1", 200) == listed[1]
    assert (listed[1]["duration"], listed[1]["tm_end"]) == (2.0, "2026-01-31T10:40:02.500Z")
    assert "tm_end" not in listed[0]


async def test_the_file(ask: Asker) -> None:
    async with ask.client.get(f"{PATH}/r1/file", headers={"Authorization": f"Bearer {TOKEN}"}) as response:
        assert (response.status, await response.read()) == (200, b"RIFFdata")
        assert response.headers["Content-Type"] == "audio/wav"
        assert response.headers["Content-Disposition"] == 'attachment; filename="r1.wav"'
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Request-Id"]


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make recordings endless, and return those that are being read."""
    reading: list[str] = []

    async def read(_: FewRecordings, recording_id: str) -> AsyncGenerator[bytes, None]:
        reading.append(recording_id)
        try:
            while True:
                yield bytes(1 << 20)
        finally:
            reading.remove(recording_id)

    monkeypatch.setattr(FewRecordings, "read", read)
    return reading


@pytest.fixture
async def served(pbx: Pbx, endless: list[str]) -> AsyncIterator[tuple[aiohttp.ClientSession, list[str]]]:
    """Run the real server with endless recordings, and yield it with those that are being read."""
    server = HttpServer(HttpConfig(port=0, authentication=False), pbx.backend())
    await server.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
            yield session, endless
    finally:
        await server.stop()


async def test_who_fetches_the_file_may_go_away(
    served: tuple[aiohttp.ClientSession, list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    session, reading = served
    async with session.get(f"{PATH}/r1/file") as response:
        await response.content.read(1000)
        assert reading == ["r1"]
        response.close()
    await until(lambda: not reading)  # the connection to Asterisk is not left open
    assert not [each.message for each in caplog.records if each.levelname in ("ERROR", "WARNING")]


async def test_a_head_request_fetches_no_more_than_it_needs(served: tuple[aiohttp.ClientSession, list[str]]) -> None:
    session, reading = served
    async with session.head(f"{PATH}/r1/file") as response:
        assert (response.status, response.headers["Content-Type"]) == (200, "audio/wav")
    await until(lambda: not reading)


async def test_who_does_not_read_the_file_does_not_keep_it(
    served: tuple[aiohttp.ClientSession, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recordings, "UNREAD_S", 0.2)
    session, reading = served
    async with session.get(f"{PATH}/r1/file"):
        await until(lambda: not reading)


async def test_a_revoked_token_gets_no_more_of_a_file(pbx: Pbx, endless: list[str]) -> None:
    server = HttpServer(HttpConfig(port=0, tokens=(SecretStr(TOKEN),)), pbx.backend())
    await server.start()
    try:
        assert server.tokens is not None
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session,
            session.get(f"http://127.0.0.1:{server.port}{PATH}/r1/file") as response,
        ):
            await response.content.read(1000)
            assert endless == ["r1"]
            server.tokens.take(Tokens({}), 0.0)
            with pytest.raises(aiohttp.ClientPayloadError):
                async with asyncio.timeout(10):
                    async for _ in response.content.iter_any():
                        pass
    finally:
        await server.stop()


async def test_connections_to_asterisk_are_left_for_calls(served: tuple[aiohttp.ClientSession, list[str]]) -> None:
    session, reading = served
    responses = [await session.get(f"{PATH}/r1/file") for _ in range(MAX_READERS)]
    async with session.get(f"{PATH}/r1/file") as response:
        assert (response.status, (await response.json())["error"]["reason"]) == (503, "OVERLOADED")
    assert len(reading) == MAX_READERS
    for each in responses:
        each.close()


async def test_a_file_that_cannot_be_had(ask: Asker, pbx: Pbx) -> None:
    assert (await ask("GET", f"{PATH}/r2/file", 409))["reason"] == "STATE_INVALID"
    pbx.failure = GONE
    assert (await ask("GET", f"{PATH}/r1/file", 404))["reason"] == "RECORDING_NOT_FOUND"
    pbx.failure = AriError(0, "GET", "recordings/stored/r1/file", "no answer in 5 s")
    assert (await ask("GET", f"{PATH}/r1/file", 503))["reason"] == "ASTERISK_FAILED"


async def test_one_is_removed(ask: Asker) -> None:
    assert (await ask("DELETE", f"{PATH}/r1", 200))["id"] == "r1"
    for method, path in (("GET", ""), ("GET", "/file"), ("DELETE", "")):
        assert (await ask(method, f"{PATH}/r1{path}", 404))["reason"] == "RECORDING_NOT_FOUND"


async def test_flows_are_shown_without_their_secrets(ask: Asker) -> None:
    greeting, fetched = (await ask("GET", "/v1.0/flows", 200))["result"]  # `ask` looks for what is confidential
    media = {"url": "wss://app.example/call?key=********", "auth_value": "********"}
    assert greeting["actions"] == [
        {"type": "talk", "option": {"text": "Hello"}},
        {"type": "external_media_start", "option": media},
    ]
    assert (fetched["url"], fetched["auth_value"]) == ("https://app.example/flow?key=********", "********")
    assert await ask("GET", "/v1.0/flows/fetched", 200) == fetched
    assert (await ask("GET", "/v1.0/flows/nothing", 404))["reason"] == "FLOW_NOT_FOUND"


async def test_voxologys_request(ask: Asker, pbx: Pbx) -> None:
    body = {"call": {"no": "+15551234567", "caller_id_no": "+15557654321"}, "session_data": {"a": [1]}}
    answer = await ask("POST", DIAL, 200, body, **KEY)
    assert answer["call_id"] == answer["call"]["id"] == "placed-1"
    more = {"caller_id": "+15557654321", "session_data": {"a": [1]}, "timeout_s": None, "max_call_s": None}
    ((*what, given),) = pbx.done
    assert given.pop("principal").address == "127.0.0.1"
    assert (what, given) == (["dial_connect", "+15551234567"], more)


@pytest.mark.parametrize(
    ("body", "reason", "word"),
    [
        ({}, "INVALID_BODY", "call: is missing"),
        ({"call": {}}, "INVALID_BODY", "call.no: is missing"),
        ({"call": {"no": 5}}, "INVALID_BODY", "call.no: expected a string"),
        ({"call": {"no": "1", "nr": "1"}}, "INVALID_BODY", "call.nr: unknown key"),
        ({"call": {"no": "1"}, "session_data": []}, "INVALID_BODY", "session_data: expected an object"),
        ({"call": {"no": "x"}}, "INVALID_DESTINATION", "call.no: target 'x'"),
    ],
)
async def test_voxologys_request_refused(ask: Asker, pbx: Pbx, body: Any, reason: str, word: str) -> None:
    error = await ask("POST", DIAL, 400, body, **KEY)
    assert error["reason"] == reason
    assert word in error["message"]
    assert pbx.done == []


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "AUTHENTICATION_REQUIRED"),
        ({"Authorization": f"Bearer {TOKEN}"}, "AUTHENTICATION_REQUIRED"),
        ({"x-api-key": TOKEN}, "INVALID_CREDENTIALS"),
        ({"x-api-key": "k\u00e9y"}, "INVALID_CREDENTIALS"),
    ],
)
async def test_voxologys_key(ask: Asker, pbx: Pbx, headers: dict[str, str], reason: str) -> None:
    error = await ask("POST", DIAL, 401, {"call": {"no": "1"}}, headers=headers)
    assert error["reason"] == reason
    assert pbx.done == []


async def test_voxologys_key_opens_nothing_else(ask: Asker) -> None:
    await ask("GET", "/v1.0/calls", 401, **KEY)
