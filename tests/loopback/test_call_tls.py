"""``asterisk-bridge call`` over TLS: by the configuration's own certificate, or by an authority that is named."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from .servers import Authority

NAME = "DNS:pbx.example.org"


@asynccontextmanager
async def bridge(tls: ssl.SSLContext) -> AsyncIterator[int]:
    """Serve what `call` needs of a bridge: a call that is answered and ends; yield the port."""

    async def place(_: web.Request) -> web.Response:
        return web.json_response({"calls": [{"id": "c1", "destination": {"target": "1001"}}]})

    async def report(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json({"type": "call_progressing", "data": {"id": "c1"}})
        await socket.send_json({"type": "call_hangup", "data": {"id": "c1", "hangup_reason": "normal"}})
        await socket.receive()
        return socket

    application = web.Application()
    application.add_routes([web.post("/v1.0/calls", place), web.get("/v1.0/events", report)])
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def call(*arguments: object) -> tuple[int | None, str]:
    """Run the program; return its exit code, and what it complains of."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bridge", "call", "1001", *map(str, arguments)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if not name.startswith("SSL_CERT")},
    )
    _, complaints = await process.communicate()
    return process.returncode, complaints.decode()


def context(certificate: Path, key: Path) -> ssl.SSLContext:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    return tls


def configured(folder: Path, port: int, certificate: Path, key: Path) -> Path:
    file = folder / "bridge.toml"
    file.write_text(
        f'[http]\nport = {port}\ntls_certificate = "{certificate}"\ntls_key = "{key}"\n'
        'tokens = ["0123456789abcdef"]\n[ari]\nuser = "u"\npassword = "p"\n'
    )
    return file


async def test_the_certificate_of_the_configuration_is_trusted_by_any_address(
    authority: Authority, tmp_path: Path
) -> None:
    certificate, key = authority.issue(NAME)
    chain = tmp_path / "chain.pem"
    chain.write_bytes(certificate.read_bytes() + authority.file.read_bytes())
    async with bridge(context(certificate, key)) as port:
        assert await call("--config", configured(tmp_path, port, chain, key)) == (0, "")


async def test_no_other_certificate_of_its_authority_is(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue(NAME)
    chain = tmp_path / "chain.pem"
    chain.write_bytes(certificate.read_bytes() + authority.file.read_bytes())
    async with bridge(authority.server("DNS:localhost,IP:127.0.0.1")) as port:
        code, complaint = await call("--config", configured(tmp_path, port, chain, key))
    assert code == 1
    assert "certificate rejected" in complaint


async def test_an_authority_may_be_named(authority: Authority, tmp_path: Path) -> None:
    token = ("--token", "0123456789abcdef")
    async with bridge(authority.server("DNS:localhost")) as port:
        assert await call("--url", f"https://localhost:{port}", "--ca-file", authority.file, *token) == (0, "")
        for more in (
            ("--url", f"https://localhost:{port}"),
            ("--url", f"https://127.0.0.1:{port}", "--ca-file", authority.file),
        ):
            code, complaint = await call(*more, *token)
            assert code == 1
            assert "certificate rejected" in complaint
            assert "--ca-file names the authority to trust, and --url must be a name" in complaint
        nothing = tmp_path / "nothing.pem"
        code, complaint = await call("--url", f"https://localhost:{port}", "--ca-file", nothing, *token)
        assert (code, "does not exist" in complaint) == (2, True)
