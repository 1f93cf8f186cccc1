"""Connections without a token: they end by themselves, and there are never too many of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
from aiohttp import web

from bridge.access import Principal
from bridge.api import protocol
from bridge.api.connections import bounded_by_open_files
from bridge.api.server import HttpServer
from bridge.calls.model import Call, Party
from bridge.config import HttpConfig
from bridge.media.takeover import take_over
from bridge.streams.clients import MediaStreamOptions

from .samples import make_call
from .test_server import UPGRADE, Pbx

HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
STREAM = (
    b"GET /v1.0/calls/c1/media_stream?encapsulation=sln HTTP/1.1\r\nHost: localhost\r\n"
    + "".join(f"{name}: {value}\r\n" for name, value in UPGRADE.items()).encode()
    + b"\r\n"
)


class Connection:
    """A client's end, without any library's opinion."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def answers(self, request: bytes = HEALTH) -> bool:
        """Whether a request is answered; False: the connection was closed."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(request)
            return bool(await asyncio.wait_for(self.reader.read(4096), 5))
        return False

    async def ended(self) -> bool:
        """Waits for the server to close."""
        with contextlib.suppress(ConnectionError):
            return await asyncio.wait_for(self.reader.read(), 5) == b""
        return True


class Taking(Pbx):
    """Takes connections away from aiohttp, as streams do."""

    async def accept(
        self, request: web.Request, call: Call, party: Party, options: MediaStreamOptions, _: Principal, /
    ) -> web.StreamResponse:
        assert take_over(request, _Greeter())
        self.accepted.append((call.id, party.id, options))
        return web.Response()


class _Greeter(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(b"taken")


@contextlib.asynccontextmanager
async def serving(**config: object) -> AsyncIterator[HttpServer]:
    call = make_call("c1")
    it = HttpServer(HttpConfig.model_validate({"port": 0, **config}), Taking({call.id: call}).backend())
    await it.start()
    try:
        yield it
    finally:
        await it.stop()


async def connect(it: HttpServer) -> Connection:
    return Connection(*await asyncio.open_connection("127.0.0.1", it.port))


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-"])
async def test_who_sends_no_whole_head_is_closed(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "IDLE_S", 0.2)
    async with serving() as it:
        client = await connect(it)
        client.writer.write(said)
        assert await client.ended()


async def test_a_head_that_trickles_in_is_no_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "IDLE_S", 0.2)
    async with serving() as it:
        client = await connect(it)

        async def trickle() -> None:
            for byte in HEALTH[:-2] + b"X: " + bytes(b"x" * 4000):
                client.writer.write(bytes([byte]))
                await asyncio.sleep(0.01)

        task = asyncio.create_task(trickle())
        assert await client.ended()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_connection_that_asks_nothing_further_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "IDLE_S", 0.2)
    async with serving() as it:
        client = await connect(it)
        assert await client.answers()
        assert await client.ended()


async def test_further_connections_are_closed_and_there_is_room_again_when_one_has_ended(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    async with serving(max_connections=3) as it:
        clients = [await connect(it) for _ in range(3)]
        assert all([await client.answers() for client in clients])
        for _ in range(5):
            assert not await (await connect(it)).answers()
        assert all([await client.answers() for client in clients])
        assert caplog.text.count("http.max_connections") == 1
        clients[0].writer.close()
        async with asyncio.timeout(5):
            while not await (await connect(it)).answers():
                await asyncio.sleep(0)


async def test_streams_do_not_count() -> None:
    async with serving(max_connections=2) as it:
        streams = []
        for _ in range(5):
            streams.append(await connect(it))
            assert await streams[-1].answers(STREAM)
        last = [await connect(it) for _ in range(2)]
        assert all([await client.answers() for client in last])
        assert not await (await connect(it)).answers()
        for stream in streams:
            stream.writer.close()


async def test_an_unfinished_tls_handshake_counts_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "IDLE_S", 0.5)
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "1", "-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)  # noqa: ASYNC221 - a moment, and nothing else runs
    trusting = ssl.create_default_context(cafile=str(certificate))
    trusting.check_hostname = False
    async with serving(max_connections=2, tls_certificate=str(certificate), tls_key=str(key)) as it:
        idle = [await connect(it) for _ in range(2)]
        assert await (await connect(it)).ended()
        assert all([await client.ended() for client in idle])
        client = Connection(*await asyncio.open_connection("127.0.0.1", it.port, ssl=trusting))
        assert await client.answers()


@pytest.mark.parametrize(("files", "most"), [(1024, 256), (100_000, 1000), (3, 1), (resource.RLIM_INFINITY, 1000)])
def test_at_most_a_quarter_of_the_descriptors(files: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert bounded_by_open_files(1000) == most
