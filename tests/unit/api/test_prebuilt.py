"""Documents that are built once, and what responses do not reveal."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession
from pydantic import SecretStr

from bridge import __version__
from bridge.api.server import HttpServer
from bridge.config import HttpConfig

from .samples import Pbx

TOKEN = "0123456789abcdef"
DOCUMENTS = ("/", "/docs", "/openapi.json")


@contextlib.asynccontextmanager
async def serving(*tokens: str) -> AsyncIterator[str]:
    config = HttpConfig(port=0, authentication=bool(tokens), tokens=tuple(map(SecretStr, tokens)))
    it = HttpServer(config, Pbx().backend(), strict=True)
    await it.start()
    try:
        yield f"http://127.0.0.1:{it.port}"
    finally:
        await it.stop()


@pytest.mark.parametrize("path", DOCUMENTS)
async def test_a_client_that_has_a_document_is_not_sent_it_again(path: str) -> None:
    async with serving(TOKEN) as base, ClientSession(base) as session:
        async with session.get(path) as response:
            assert response.status == 200
            tag, body = response.headers["ETag"], await response.read()
            assert tag.startswith('"')  # a strong one
            assert response.headers["Cache-Control"] == "no-cache"
        for present in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            for method in ("GET", "HEAD"):
                async with session.request(method, path, headers={"If-None-Match": present}) as response:
                    assert (response.status, await response.read()) == (304, b"")
                    assert response.headers["ETag"] == tag
        for absent in ('"other"', tag[:-2] + '"', "garbage"):
            async with session.get(path, headers={"If-None-Match": absent}) as response:
                assert (response.status, await response.read()) == (200, body)


async def test_what_changes_is_not_kept() -> None:
    async with serving(TOKEN) as base, ClientSession(base) as session:
        for path in ("/health", f"/v1.0/calls?token={TOKEN}", "/v1.0/calls"):
            async with session.get(path) as response:
                assert response.headers["Cache-Control"] == "no-store"
                assert "ETag" not in response.headers


@pytest.mark.parametrize("path", [*DOCUMENTS, "/health", "/no/such/path"])
async def test_no_response_names_a_version_to_anonymous_clients(path: str) -> None:
    async with serving(TOKEN) as base, ClientSession(base) as session, session.get(path) as response:
        assert response.headers["Server"] == "asterisk-bridge"
        shown = f"{response.headers} {await response.text()}"
    assert __version__ not in shown
    assert "aiohttp" not in shown
    assert "Python/" not in shown


@pytest.mark.parametrize("sent", [b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x00\r\n\r\n", b"GET /" + b"x" * 9000])
async def test_nor_does_the_answer_to_what_is_not_http(sent: bytes) -> None:
    async with serving() as base:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(base.rpartition(":")[2]))
        writer.write(sent)
        async with asyncio.timeout(5):
            answer = await reader.read()
        writer.close()
    assert b" 400 " in answer.splitlines()[0]
    assert b"\r\nServer: asterisk-bridge\r\n" in answer
    assert b"aiohttp/" not in answer


async def test_health_names_the_version_to_a_client_with_a_token() -> None:
    for tokens in ((TOKEN,), ()):  # without tokens this machine is trusted
        async with (
            serving(*tokens) as base,
            ClientSession(base) as session,
            session.get("/health", headers={"Authorization": f"Bearer {TOKEN}"}) as response,
        ):
            assert (await response.json())["version"] == __version__
