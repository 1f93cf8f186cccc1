"""Bodies: what is too long, too wide, too deep or too slow is answered, before it costs the calls their audio."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import aiohttp.helpers
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bridge.api import bodies, plivo, telnyx
from bridge.api.bodies import MAX_DEPTH, MAX_KEYS, check_shape
from bridge.api.errors import ApiError
from bridge.api.models.base import MAX_UNKNOWN_KEYS
from bridge.api.models.calls import CreateCalls
from bridge.api.server import HttpServer
from bridge.api.table import ALWAYS, CALLING, CLUSTER, CONFERENCES, SUBSCRIPTIONS, TWILIO, VOXOLOGY
from bridge.config import HttpConfig, TwilioConfig
from bridge.streams.subscription_catalog import SubscriptionCatalog
from bridge.streams.subscription_store import SubscriptionStore
from tests.fakes.virtual_time import pass_time

from .samples import Pbx

TOKEN = "0123456789abcdef"
ACCOUNT = "AC" + "0" * 32
HEAD = "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Type: {type}\r\n{more}\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"
PLACE, SUBSCRIBE = "/v1.0/calls", "/v1.0/subscriptions"
YEASTAR = f"/openapi/v1.0/websocketaudiostream/update?access_token={TOKEN}"


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[int]:
    pbx = Pbx()
    backend = pbx.backend(
        subscriptions=SubscriptionCatalog([], SubscriptionStore(":memory:")),
        twilio=TwilioConfig.model_validate({"account_sid": ACCOUNT, "auth_token": TOKEN}),
    )
    it = HttpServer(HttpConfig.model_validate({"port": 0, "tokens": [TOKEN]}), backend, strict=True)
    await it.start()
    try:
        yield it.port
    finally:
        await it.stop()


async def post(port: int, path: str, body: bytes, more: str = "", kind: str = "application/json") -> tuple[int, str]:
    """Status and message of the answer to a body, which is sent as it is."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    if "Transfer-Encoding" not in more:
        more += f"Content-Length: {len(body)}\r\n"
    head = HEAD.format(path=path, token=TOKEN, type=kind, more=more + "Connection: close\r\n")
    writer.write(head.encode() + body)
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    first, _, text = answer.partition(b"\r\n\r\n")
    status = int(first.split()[1])
    shown = json.loads(text) if text else {}
    return status, shown.get("message", "") or shown.get("error", {}).get("message", "")


def wide(count: int) -> bytes:
    return json.dumps({"a": [0] * count}).encode()


TOO_MUCH: dict[str, tuple[bytes, str, int, str]] = {
    "long": (json.dumps({"name": "x" * 600_000}).encode(), "", 413, "longer than"),
    "long, chunked": (
        b"c3500\r\n" + b" " * 0xC3500 + b"\r\n0\r\n\r\n",
        CHUNKED,
        413,
        "longer",
    ),
    "a wide list": (wide(10_001), "", 400, "has more than"),
    "a wide object": (json.dumps(dict.fromkeys(map(str, range(10_001)), 0)).encode(), "", 400, "has more than"),
    "many keys": (json.dumps(dict.fromkeys(map(str, range(MAX_KEYS + 1)), 0)).encode(), "", 400, "201 keys"),
    "deep lists": (b'{"a":' + b"[" * 90_000, "", 400, "has more than"),
    "deep objects": (b'{"a":' * 900 + b"0" + b"}" * 900, "", 400, "nested deeper"),
    "a long number": (b'{"a": ' + b"1" * 4000 + b"}", "", 400, "more than 100 digits"),
    "a charset whose decoding is slow": (b"{}", "", 415, "UTF-8"),
}


@pytest.mark.parametrize("path", [PLACE, SUBSCRIBE, YEASTAR])
@pytest.mark.parametrize("case", TOO_MUCH)
async def test_what_is_too_much_is_answered(case: str, path: str, caplog: pytest.LogCaptureFixture) -> None:
    body, more, status, message = TOO_MUCH[case]
    kind = "application/json; charset=punycode" if "charset" in case else "application/json"
    async with serving() as port:
        got, said = await post(port, path, body, more, kind)
    assert got == (200 if path == YEASTAR else status)  # its errors have that status
    assert message in said
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


async def test_a_body_that_comes_slowly_is_answered_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "READ_S", 0.2)
    async with serving() as port:
        assert await post(port, PLACE, b"{", "Content-Length: 100\r\nX: ") == (
            408,
            "the body was not received within 0.2 s",
        )


@pytest.mark.parametrize("how", ["malformed", "is incomplete"])
async def test_a_body_that_breaks_off_is_no_fault_of_the_bridge(
    how: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "READ_S", 1.0)  # aiohttp 3.14 does not report it to who waits for the rest
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = HEAD.format(path=PLACE, token=TOKEN, type="application/json", more=CHUNKED)
        writer.write(head.encode() + b"2\r\n{}\r\n")
        await pass_time(0.05)
        if how == "malformed":
            writer.write(b"zzz\r\n{}\r\n")
            async with asyncio.timeout(5):
                assert (await reader.readline()).split()[1] in (b"400", b"408")
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        assert await post(port, PLACE, b"[]") == (400, "the body must be a JSON object: {...}")
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR], caplog.text


async def test_a_full_sized_flow_is_taken() -> None:
    actions = [{"type": "talk", "option": {"text": "x, [{" * 80, "language": "en-US"}} for _ in range(1000)]
    body = json.dumps({"destinations": [{"type": "extension", "target": "1002"}], "actions": actions}).encode()
    assert len(body) > 400_000
    async with serving() as port:
        assert (await post(port, PLACE, body))[0] == 200


KEYS = st.text(st.sampled_from('{["\\a,'))


@pytest.mark.slow
@given(
    st.recursive(
        st.none() | st.integers(-9, 9) | st.text(st.sampled_from('[]{},:"\\/ a\u00e9\U0001f600')),
        lambda inner: (
            st.lists(inner, max_size=9) | st.dictionaries(st.text(st.sampled_from('{["\\a,')), inner, max_size=9)
        ),
    ),
    st.booleans(),
)
def test_counting_sees_what_parsing_would(value: Any, ascii_only: bool) -> None:
    text = json.dumps([[0] * MAX_DEPTH, value], ensure_ascii=ascii_only)
    count = _entries(json.loads(text))
    check_shape(text, count)
    with pytest.raises(ApiError, match=f"more than {count - 1} values"):
        check_shape(text, count - 1)


def _entries(value: Any) -> int:
    """Containers, and separators between what they hold."""
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(0, len(value) - 1) + sum(map(_entries, value)) if isinstance(value, list) else 0


def test_depth() -> None:
    for depth in (MAX_DEPTH, MAX_DEPTH + 1):
        text = json.dumps([0] * 40)[:-1] + ", " + "[" * (depth - 1) + "]" * (depth - 1) + "]"
        if depth > MAX_DEPTH:
            with pytest.raises(ApiError, match="nested deeper"):
                check_shape(text, 1000)
        else:
            check_shape(text, 1000)


def test_unknown_keys_are_not_made_an_error_each() -> None:
    few = dict.fromkeys(map(str, range(MAX_UNKNOWN_KEYS)), 0)
    many = dict.fromkeys(map(str, range(100)), 0)
    for body, errors in (
        ({"destinations": [{"target": "1"}]} | few, MAX_UNKNOWN_KEYS),
        ({"destinations": [{"target": "1"}]} | many, 1),
        ({"destinations": [{"target": "1"} | many] * 100}, 100),
        ({"destinations": [{"target": "1"}], "variables": dict.fromkeys(map(str, range(101)), 0)}, 1),
    ):
        with pytest.raises(ValidationError) as raised:
            CreateCalls.model_validate(body)
        assert raised.value.error_count() == errors


def test_only_flows_may_be_longer_than_other_bodies() -> None:
    routes = (
        *ALWAYS,
        *CALLING,
        *VOXOLOGY,
        *CONFERENCES,
        *SUBSCRIPTIONS,
        *CLUSTER,
        *TWILIO,
        *telnyx.ROUTES,
        *plivo.ROUTES,
    )
    assert [each.operation for each in routes if each.limits.size > 200_000 or each.limits.values > 2_000] == [
        "createCalls"
    ]
    assert max(each.limits.size for each in routes) == bodies.LARGEST_BYTES


@pytest.mark.parametrize("path", [PLACE, YEASTAR])
async def test_a_long_media_type_is_not_parsed(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsing it takes time in the square of its parameters' number."""
    parsed: list[str] = []
    parse = aiohttp.helpers.parse_content_type
    monkeypatch.setattr(aiohttp.helpers, "parse_content_type", lambda raw: parsed.append(raw) or parse(raw))
    async with serving() as port:
        await post(port, path, b"{}", kind="application/json" + ";a=b" * 1900)
    assert all(len(raw) <= 200 for raw in parsed)
