"""Compressed bodies: rejected on every route before anything is decompressed, and not decompressed by our clients."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import gzip
import http.client
import json
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, web

from bridge.api import protocol
from bridge.api.server import HttpServer
from bridge.config import HttpConfig, SpeechConfig, TwilioConfig
from bridge.outbound.gate import Gate
from bridge.outbound.policy import Policy
from bridge.speech import SoundFetcher, SoundUnavailable
from tests.fakes.virtual_time import pass_time

from .samples import VOXOLOGY_KEY, Pbx

TOKEN = "0123456789abcdef"
BRIDGE = Path(protocol.__file__).parents[1]
DECOMPRESSING = ("AppRunner", "ServerRunner", "ClientSession", "RequestHandler", "Server")
"""Classes of aiohttp that decompress bodies by default; ``run_app`` and ``request`` always do."""


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[str]:
    backend = Pbx().backend(twilio=TwilioConfig(account_sid="AC" + "0" * 32, auth_token="0123456789abcdef"))  # type: ignore[arg-type]
    it = HttpServer(HttpConfig.model_validate({"port": 0, "tokens": [TOKEN]}), backend)
    await it.start()
    try:
        yield f"http://127.0.0.1:{it.port}"
    finally:
        await it.stop()


def calls_of(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            yield function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", ""), node


def test_nothing_in_the_bridge_decompresses_bodies() -> None:
    found = 0
    for path in sorted(BRIDGE.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if "aiohttp" not in source:
            continue
        for name, call in calls_of(ast.parse(source)):
            where = f"{path.relative_to(BRIDGE)}:{call.lineno}"
            assert name not in ("run_app", "DeflateBuffer"), where
            if name in DECOMPRESSING:
                found += 1
                given = {word.arg: word.value for word in call.keywords}
                value = given.get("auto_decompress")
                assert isinstance(value, ast.Constant), f"{where}: {name} without auto_decompress=False"
                assert value.value is False, f"{where}: {name} without auto_decompress=False"
    assert found >= 6


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "deflate", "br", "x-gzip", "identity, gzip", "zstd"])
@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("POST", "/v1.0/calls", {}),
        ("POST", "/v1.0/calls", {"Authorization": f"Bearer {TOKEN}"}),
        ("GET", "/health", {}),
        ("POST", "/no/such/path", {}),
        ("POST", "/v1/Dials/Connect", {"x-api-key": VOXOLOGY_KEY}),
        ("POST", f"/openapi/v1.0/websocketaudiostream/update?access_token={TOKEN}", {}),
        ("POST", "/2010-04-01/Accounts/AC1/Calls/CA1.json", {}),
    ],
)
async def test_an_encoded_body_is_rejected_before_the_token(
    method: str, path: str, headers: dict[str, str], coding: str
) -> None:
    body = zlib.compress(json.dumps({"x": "y"}).encode())
    async with (
        serving() as base,
        ClientSession(base) as session,
        session.request(method, path, data=body, headers=headers | {"Content-Encoding": coding}) as response,
    ):
        assert response.status == 415, await response.text()
        assert (await response.json())["error"]["reason"] == "CONTENT_ENCODING_UNSUPPORTED"
        assert response.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("coding", ["", "identity", "Identity"])
async def test_identity_is_an_encoding_like_none(coding: str) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Encoding": coding, "Content-Type": "application/json"}
    async with (
        serving() as base,
        ClientSession(base) as session,
        session.post("/v1.0/calls", data=b"{", headers=headers) as response,
    ):
        assert (await response.json())["error"]["reason"] == "INVALID_JSON"


@pytest.mark.parametrize("framing", ["chunked", "length"])
async def test_a_body_that_never_ends_is_answered_and_cut_off(framing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "LINGER_S", 0.2)
    bomb = gzip.compress(bytes(1 << 20))
    chunk, head = bomb, b"Content-Length: 100000000\r\n"
    if framing == "chunked":
        chunk, head = b"%x\r\n%b\r\n" % (len(bomb), bomb), b"Transfer-Encoding: chunked\r\n"
    async with serving() as base:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(base.rpartition(":")[2]))
        writer.write(b"POST /v1.0/calls HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\n" + head + b"\r\n")
        assert b" 415 " in await reader.readline()
        ended = asyncio.create_task(_end_of(reader))
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(5):  # by default 10 s would pass
                while not ended.done():
                    writer.write(chunk)
                    await writer.drain()
                    await pass_time(0.01)
        async with asyncio.timeout(5):
            await ended
        writer.close()


async def _end_of(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError):
        await reader.read()


@pytest.mark.parametrize(("headers", "status"), [({}, 401), ({"Authorization": f"Bearer {TOKEN}"}, 413)])
async def test_a_client_that_sends_a_long_body_before_it_reads_gets_the_answer(
    headers: dict[str, str], status: int
) -> None:
    def ask(port: int) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        body = b" " * (4 << 20)
        connection.request("POST", "/v1.0/calls", body, headers | {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return str(answer.status).encode()

    async with serving() as base:
        assert await asyncio.to_thread(ask, int(base.rpartition(":")[2])) == str(status).encode()


async def test_a_sound_that_comes_compressed_is_not_decompressed() -> None:
    asked: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.headers["Accept-Encoding"])
        return web.Response(body=gzip.compress(bytes(1 << 20)), headers={"Content-Encoding": "gzip"})

    application = web.Application()
    application.router.add_get("/", handler)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        with pytest.raises(SoundUnavailable, match="Content-Encoding 'gzip'"):
            await SoundFetcher(SpeechConfig(), Gate(Policy(allow=["localhost"]))).get(
                f"http://127.0.0.1:{runner.addresses[0][1]}/"
            )
    finally:
        await runner.cleanup()
    assert asked == ["identity"]
