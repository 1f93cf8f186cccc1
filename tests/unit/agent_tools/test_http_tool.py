"""The user's own tools, against a real server: what it receives, what the model gets, and what the caller hears."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks import Webhook

from tests.fakes.virtual_time import pass_time
from tests.unit.agent_tools.house import AgentHouse

SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ORDER = {"type": "object", "properties": {"order": {"type": "integer"}, "pin": {"type": "string", "writeOnly": True}}}


@contextlib.asynccontextmanager
async def house_with(path: str, **table: Any) -> AsyncIterator[tuple[AgentHouse, list[tuple[Any, Any]]]]:
    """Return a house whose model has the tool ``order_status``, and the requests that the server gets."""
    received: list[tuple[Any, Any]] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        received.append((dict(request.headers), body))
        match request.path:
            case "/ok":
                return web.json_response({"state": "sent"})
            case "/slow":
                await pass_time(2.5)
                return web.Response(text="at last")
            case "/large":
                return web.Response(text="x" * 20_000)
            case "/wrong":
                return web.Response(status=422, text="order 7 is unknown")
            case "/moved":
                raise web.HTTPFound("/ok")
            case "/binary":
                return web.Response(body=b"\xff\xfe")
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    tool = {"id": "order_status", "description": "Return the state of an order.", "parameters": ORDER}
    url = f"http://127.0.0.1:{runner.addresses[0][1]}{path}"
    house = AgentHouse([tool | {"url": url, "secret": SECRET} | table])
    await house.answer()
    try:
        yield house, received
    finally:
        await house.close()
        await runner.cleanup()


async def test_the_request_is_signed_and_the_response_is_the_result() -> None:
    async with house_with("/ok") as (house, received):
        assert json.loads(await house.use("order_status", order=7, pin="1234")) == {"state": "sent"}
        ((headers, body),) = received
        assert Webhook(SECRET).verify(body, {name.lower(): value for name, value in headers.items()}) == {
            "tool": "order_status", "arguments": {"order": 7, "pin": "1234"}, "call_id": house.voice.channel_id,
            "stream_id": "p1", "caller": "1001", "callee": "750",
        }  # fmt: skip
        assert house.ended()[-1]["arguments"] == {"order": 7, "pin": "********"}


async def test_nothing_is_sent_with_wrong_arguments() -> None:
    async with house_with("/ok") as (house, received):
        assert "order: expected an integer, got" in await house.failure("order_status", order="seven")
        assert received == []


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/large", "the answer is larger than 16384 bytes"),
        ("/wrong", "status 422: order 7 is unknown"),
        ("/moved", "status 302"),
        ("/binary", "not UTF-8"),
        ("/slow", "no response within 1 s"),
    ],
)
async def test_failures_are_told_to_the_model_in_words(path: str, error: str) -> None:
    async with house_with(path, timeout_s=1.0) as (house, received):
        assert error in await house.failure("order_status", order=7)
        assert len(received) == 1
        assert SECRET not in str(house.ended())


async def test_an_empty_response_is_a_result() -> None:
    async with house_with("/nothing") as (house, _):
        assert await house.use("order_status") == "done"


async def test_a_server_that_the_policy_denies_is_not_asked() -> None:
    async with house_with("/ok", url="http://169.254.169.254/latest") as (house, received):
        assert "denied" in await house.failure("order_status", order=7)
        assert received == []


async def test_the_caller_hears_a_filler_until_the_answer_is_there() -> None:
    async with house_with("/slow", filler="sound:typing.wav", filler_after_s=0.5) as (house, _):
        assert await house.use("order_status", order=7) == "at last"
        heard = len(house.voice.played)
        assert 1.5 < heard / 16000 < 2.5
        await pass_time(1)
        assert len(house.voice.played) == heard


async def test_a_quick_answer_has_no_filler() -> None:
    async with house_with("/ok", filler="sound:typing.wav") as (house, _):
        await house.use("order_status", order=7)
        await pass_time(1.5)
        assert house.voice.played == b""
