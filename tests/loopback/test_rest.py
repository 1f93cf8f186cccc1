"""Requests to an Asterisk that never answers, and those that nobody waits for any more."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bridge.ari.rest import Rest
from bridge.errors import AriError
from bridge.outbound.headers import USER_AGENT


@pytest.fixture
async def hanging() -> AsyncIterator[str]:
    """Yield the address of a server that reads requests and sends nothing."""
    let_go = asyncio.Event()

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read(1)
            await let_go.wait()
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    let_go.set()
    server.close()


async def test_what_is_under_way_and_what_comes_later_ends_at_the_deadline(hanging: str) -> None:
    loop = asyncio.get_running_loop()
    async with Rest(hanging, "user", "password") as rest:
        under_way = asyncio.create_task(rest.request("DELETE", "/channels/x"))
        await asyncio.sleep(0.05)
        began = loop.time()
        rest.finish_within(0.3)
        with pytest.raises(AriError, match="no answer in time"):
            await under_way
        for _ in range(3):  # one after the other: they share the time, and do not have it each
            with pytest.raises(AriError) as caught:
                await rest.request("DELETE", "/channels/x")
            assert caught.value.status == 0
        assert 0.25 < loop.time() - began < 2
        rest.finish_within(100)
        with pytest.raises(AriError):
            await rest.request("DELETE", "/channels/x")


async def test_a_closed_client_opens_no_session_again(hanging: str) -> None:
    rest = Rest(hanging, "user", "password")
    assert not rest.session.closed
    await rest.close()
    await rest.close()
    with pytest.raises(AriError, match="closed") as caught:
        await rest.request("GET", "/channels")
    assert caught.value.status == 0
    with pytest.raises(AriError, match="closed"):
        _ = rest.session


async def test_what_changes_something_is_carried_to_its_end_however_often_its_caller_is_cancelled() -> None:
    made: list[str] = []

    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(0.3)
        made.append(request.path)
        return web.json_response({})

    application = web.Application()
    application.router.add_route("*", "/ari/bridges", slow)
    async with TestServer(application) as server, Rest(str(server.make_url("")), "user", "password") as rest:
        task = asyncio.create_task(rest.request("POST", "/bridges"))
        for _ in range(3):
            await asyncio.sleep(0.05)
            task.cancel()
        await asyncio.sleep(0.05)
        assert not task.done()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert made == ["/ari/bridges"]
        asking = asyncio.create_task(rest.request("GET", "/bridges"))
        await asyncio.sleep(0.05)
        asking.cancel()
        await asyncio.sleep(0.01)
        assert asking.done()


async def test_asterisk_sees_who_asks() -> None:
    seen: list[str] = []

    async def look(request: web.Request) -> web.Response:
        seen.append(request.headers["User-Agent"])
        return web.json_response([])

    application = web.Application()
    application.router.add_get("/ari/channels", look)
    async with TestServer(application) as server, Rest(str(server.make_url("")), "user", "password") as rest:
        await rest.request("GET", "/channels")
    assert seen == [USER_AGENT]
