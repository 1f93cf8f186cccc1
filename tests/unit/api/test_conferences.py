"""Conferences over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from bridge.errors import AriError

from .asking import Asker, asking
from .samples import Pbx

PATH = "/v1.0/conferences"


@pytest.fixture
def pbx() -> Pbx:
    return Pbx()


@pytest.fixture
async def ask(pbx: Pbx) -> AsyncIterator[Asker]:
    async with asking(pbx) as it:
        yield it


async def test_they_are_listed_newest_first(ask: Asker) -> None:
    page = await ask("GET", f"{PATH}?page_size=1", 200)
    assert [(each["id"], each["kind"]) for each in page["result"]] == [("room", "confbridge")]
    page = await ask("GET", f"{PATH}?page_size=1&page_token={page['next_page_token']}", 200)
    assert [(each["id"], each["kind"]) for each in page["result"]] == [("sales", "bridge")]
    assert page["next_page_token"] == ""


async def test_one_is_looked_at(ask: Asker) -> None:
    conference = await ask("GET", f"{PATH}/sales", 200)
    assert [(each["channel_id"], each["muted"]) for each in conference["participants"]] == [
        ("p1", False),
        ("p2", False),
    ]
    assert conference["tm_create"] == "2026-01-31T10:40:00.500Z"
    assert await ask("GET", f"{PATH}/sales/participants", 200) == {"result": conference["participants"]}


async def test_one_is_made_and_ended(ask: Asker) -> None:
    made = await ask("POST", PATH, 200, {"id": "new", "name": "New", "auto_delete": True})
    assert (made["id"], made["name"], made["auto_delete"], made["participants"]) == ("new", "New", True, [])
    assert (await ask("POST", PATH, 409, {"id": "new"}))["reason"] == "CONFERENCE_EXISTS"
    assert await ask("DELETE", f"{PATH}/new", 200) == made
    assert (await ask("GET", f"{PATH}/new", 404))["reason"] == "CONFERENCE_NOT_FOUND"


async def test_a_request_of_voipbins_clients(ask: Asker) -> None:
    none = "00000000-0000-0000-0000-000000000000"
    body = {"type": "conference", "name": "Sales", "detail": "of the north", "timeout": 0, "data": {"a": 1}}
    assert (await ask("POST", PATH, 200, body | {"pre_flow_id": none, "post_flow_id": ""}))["name"] == "Sales"


@pytest.mark.parametrize(
    ("body", "reason", "word"),
    [
        ({"id": "a/b"}, "INVALID_CONFERENCE", "slashes"),
        ({"id": ""}, "INVALID_BODY", "id"),
        ({"nmae": "x"}, "INVALID_BODY", "did you mean name?"),
        ({"timeout": 60}, "INVALID_BODY", "timeout"),
        ({"timeout": False}, "INVALID_BODY", "timeout"),
        ({"pre_flow_id": "greeting"}, "INVALID_BODY", "pre_flow_id"),
        ({"type": "queue"}, "INVALID_BODY", "type"),
    ],
)
async def test_what_is_refused(ask: Asker, body: dict[str, Any], reason: str, word: str) -> None:
    error = await ask("POST", PATH, 400, body)
    assert error["reason"] == reason
    assert word in error["message"]
    assert len((await ask("GET", PATH, 200))["result"]) == 2


async def test_participants_are_muted_and_sent_away(ask: Asker, pbx: Pbx) -> None:
    assert (await ask("POST", f"{PATH}/sales/participants/p1/mute", 200))["muted"] is True
    assert (await ask("GET", f"{PATH}/sales", 200))["participants"][0]["muted"] is True
    assert (await ask("DELETE", f"{PATH}/sales/participants/p1/mute", 200))["muted"] is False
    assert (await ask("POST", f"{PATH}/sales/participants/p2/mute", 409))["reason"] == "STATE_INVALID"
    await ask("DELETE", f"{PATH}/sales/participants/p1", 204)
    assert pbx.done == [("kick", "sales", "p1")]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/participants"),
        ("DELETE", "/participants/p1"),
        ("POST", "/participants/p1/mute"),
        ("DELETE", "/participants/p1/mute"),
        ("GET", "/media_stream?encapsulation=sln"),
    ],
)
async def test_what_is_not_there(ask: Asker, pbx: Pbx, method: str, path: str) -> None:
    assert (await ask(method, f"{PATH}/nothing{path}", 404))["reason"] == "CONFERENCE_NOT_FOUND"
    if "p1" in path:
        error = await ask(method, f"{PATH}/sales{path.replace('p1', 'p9')}", 404)
        assert "'p9'" in error["message"]
    pbx.connected = False
    assert (await ask(method, f"{PATH}/sales{path}", 503))["reason"] == "ASTERISK_UNREACHABLE"
    assert pbx.done == []


async def test_asterisk_does_not_do_it(ask: Asker, pbx: Pbx) -> None:
    pbx.failure = AriError(500, "POST", "bridges/x/removeChannel", "Internal Server Error")
    assert (await ask("DELETE", f"{PATH}/sales/participants/p1", 503))["reason"] == "ASTERISK_FAILED"


@pytest.mark.parametrize(
    ("query", "word"), [("", "encapsulation"), ("?encapsulation=sln&direction_listen=in", "direction_listen")]
)
async def test_bad_streams(ask: Asker, query: str, word: str) -> None:
    error = await ask("GET", f"{PATH}/sales/media_stream{query}", 400)
    assert error["reason"] == "INVALID_STREAM_OPTIONS"
    assert word in error["message"]


async def test_a_stream_needs_a_handshake(ask: Asker) -> None:
    error = await ask("GET", f"{PATH}/sales/media_stream?encapsulation=sln", 426)
    assert error["reason"] == "WEBSOCKET_REQUIRED"
