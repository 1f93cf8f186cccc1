"""TLS of the HTTP port: versions, client certificates, and certificates that are replaced while it listens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bridge.api.handshakes import PER_SLICE
from bridge.api.ports import PortTls
from bridge.api.server import HttpServer
from bridge.config import HttpConfig, load
from bridge.errors import ConfigError
from tests.fakes.dialed import dial
from tests.unit.api.samples import Pbx

from .servers import Authority

HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Files:
    """Certificate, key and client authority of a server, in a folder of the test's own."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.certificate, self.key, self.client_ca = folder / "port.pem", folder / "port.key", folder / "clients.pem"
        self.take(authority)

    def take(self, authority: Authority) -> None:
        """Have ``authority`` issue a certificate, and put it in the place of the present one."""
        for source, target in zip(authority.issue("DNS:localhost"), (self.certificate, self.key), strict=True):
            shutil.copy(source, target)

    def config(self, **more: object) -> HttpConfig:
        """Return the configuration that names them."""
        return HttpConfig.model_validate(
            {"port": 0, "tls_certificate": str(self.certificate), "tls_key": str(self.key), **more}
        )


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other"))


@pytest.fixture
def files(tmp_path: Path, authority: Authority) -> Files:
    return Files(tmp_path, authority)


@contextlib.asynccontextmanager
async def serving(config: HttpConfig) -> AsyncIterator[HttpServer]:
    it = HttpServer(config, Pbx().backend())
    await it.start()
    try:
        yield it
    finally:
        await it.stop()


def trusting(authority: Authority, client: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.file))
    if client is not None:
        context.load_cert_chain(*client)
    return context


async def status(it: HttpServer, context: ssl.SSLContext) -> bytes:
    """Return the status line of a health check; empty if the connection was rejected."""
    try:
        async with asyncio.timeout(60):
            reader, writer = await dial("127.0.0.1", it.port, ssl=context, server_hostname="localhost")
            writer.write(HEALTH)
            line = await reader.readline()
            writer.transport.abort()
            return line
    except ssl.SSLCertVerificationError:
        return b"untrusted"
    except (ConnectionError, ssl.SSLError):
        return b""


async def test_a_new_certificate_is_served_after_a_reload(files: Files, authority: Authority, other: Authority) -> None:
    async with serving(files.config()) as it:
        reader, writer = await dial("127.0.0.1", it.port, ssl=trusting(authority), server_hostname="localhost")
        files.take(other)
        assert b" 200 " in await status(it, trusting(authority))
        await it.reload_tls()
        assert await status(it, trusting(authority)) == b"untrusted"
        assert b" 200 " in await status(it, trusting(other))
        writer.write(HEALTH)  # a connection that was open stays
        assert b" 200 " in await reader.readline()
        writer.transport.abort()


@pytest.mark.parametrize("wrong", ["missing", "garbage", "another's key"])
async def test_a_wrong_certificate_leaves_the_previous_one_in_use(
    wrong: str, files: Files, authority: Authority, other: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    async with serving(files.config()) as it:
        if wrong == "missing":
            files.certificate.unlink()
        elif wrong == "garbage":
            files.certificate.write_text("garbage")
        else:
            shutil.copy(other.issue("DNS:localhost")[0], files.certificate)
        with pytest.raises(ConfigError) as raised:
            await it.reload_tls()
        assert raised.value.key == "http.tls_certificate"
        assert "the previous one stays in use" in caplog.text
        assert b" 200 " in await status(it, trusting(authority))


async def test_a_client_certificate_is_required_of_the_configured_authority(
    files: Files, authority: Authority, other: Authority
) -> None:
    shutil.copy(other.file, files.client_ca)
    mine, foreign = other.issue("DNS:client"), authority.issue("DNS:client")
    async with serving(files.config(tls_client_ca=str(files.client_ca))) as it:
        assert await status(it, trusting(authority)) == b""
        assert await status(it, trusting(authority, foreign)) == b""
        assert b" 200 " in await status(it, trusting(authority, mine))
        shutil.copy(authority.file, files.client_ca)
        await it.reload_tls()
        assert await status(it, trusting(authority, mine)) == b""  # an authority that was removed is gone
        assert b" 200 " in await status(it, trusting(authority, foreign))


async def test_a_session_does_not_outlive_its_authority(files: Files, authority: Authority, other: Authority) -> None:
    shutil.copy(other.file, files.client_ca)
    tls = PortTls(files.config(tls_client_ca=str(files.client_ca)))
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        client = trusting(authority, other.issue("DNS:client"))
        client.minimum_version = client.maximum_version = version
        session = _handshake(tls.context, client, None).session
        assert not _handshake(tls.context, client, session).session_reused


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext, session: ssl.SSLSession | None) -> ssl.SSLObject:
    """Let both sides talk in memory until they are done, and give the client's."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(up, down, server_side=True)
    theirs = client.wrap_bio(down, up, server_hostname="localhost", session=session)
    for _ in range(8):
        for side in (theirs, ours):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    ours.write(b"x")
    assert theirs.read(1) == b"x"  # tickets of TLS 1.3 come with it
    return theirs


async def test_nothing_older_than_tls_1_2(files: Files, authority: Authority) -> None:
    assert PortTls(files.config()).context.minimum_version == ssl.TLSVersion.TLSv1_2
    old = trusting(authority)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with serving(files.config()) as it:
        assert await status(it, old) == b""
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            recent = trusting(authority)
            recent.minimum_version = recent.maximum_version = version
            assert b" 200 " in await status(it, recent)


async def test_without_tls_a_reload_does_nothing() -> None:
    async with serving(HttpConfig(port=0)) as it:
        await it.reload_tls()


@pytest.mark.parametrize(
    ("content", "wanted"),
    [(None, "does not exist"), ("garbage", "contains no PEM"), ("", "needs http.tls_certificate")],
)
def test_wrong_client_authorities_are_reported_at_start(
    content: str | None, wanted: str, files: Files, tmp_path: Path
) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    environment = {"ASTERISK_BRIDGE_HTTP__TLS_CLIENT_CA": str(file)}
    environment |= {"ASTERISK_BRIDGE_ARI__USER": "u", "ASTERISK_BRIDGE_ARI__PASSWORD": "p"}
    if content != "":
        environment["ASTERISK_BRIDGE_HTTP__TLS_CERTIFICATE"] = str(files.certificate)
        environment["ASTERISK_BRIDGE_HTTP__TLS_KEY"] = str(files.key)
    with pytest.raises(ConfigError, match=wanted) as caught:
        load(None, environment)
    assert caught.value.key == "http.tls_client_ca"


async def test_of_handshakes_that_begin_together_a_few_take_place_before_the_loop_serves_others(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    turn = 0
    handshakes: list[int] = []
    choose = PortTls._choose

    def next_turn() -> None:
        nonlocal turn
        turn += 1
        loop.call_soon(next_turn)

    def chosen(it: PortTls, *arguments: Any) -> None:
        handshakes.append(turn)
        choose(it, *arguments)

    monkeypatch.setattr(PortTls, "_choose", chosen)
    async with serving(files.config()) as it:
        connections = [await dial("127.0.0.1", it.port) for _ in range(60)]
        next_turn()
        for _, writer in connections:
            writer.write(hello())
        for reader, _ in connections:
            assert (await reader.readexactly(1)) == b"\x16"  # a record of a handshake
        for _, writer in connections:
            writer.close()
        assert len(handshakes) == 60
        assert max(map(handshakes.count, handshakes)) <= PER_SLICE


def hello() -> bytes:
    """Return what a client sends first."""
    sent = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), sent, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return sent.read()
