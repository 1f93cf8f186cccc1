"""TLS to dialed servers: certificates are verified, errors name the problem, and a warning reports that it is off."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from pathlib import Path

import pytest

from bridge.media.dial import LinkFailed

from .dialling import SECRET, Ear, dialed
from .servers import Authority, free_port, serving, third_party

pytestmark = pytest.mark.usefixtures("nothing_is_left")

# TLS


async def test_tls_is_verified_and_the_server_sees_the_name(authority: Authority) -> None:
    names: list[str | None] = []
    tls = authority.server("DNS:localhost,IP:127.0.0.1")
    tls.sni_callback = lambda _, name, __: names.append(name)
    async with third_party(ssl=tls) as port:
        for host in ("localhost", "127.0.0.1"):
            link = await dialed(f"wss://{host}:{port}/", {"X-Key": SECRET}, ca_file=str(authority.file))
            ear = Ear(link)
            link.send("over TLS")
            assert await ear.message() == "over TLS"
            link.close(1000, "")
            assert await ear.end() == (1000, "")
    assert names == ["localhost", None]  # RFC 6066: an address is not a server name


async def test_a_wrong_name_is_told_in_clear_words_and_can_be_overlooked(authority: Authority) -> None:
    async with third_party(ssl=authority.server("DNS:pbx.example")) as port:
        with pytest.raises(LinkFailed) as raised:
            await dialed(f"wss://localhost:{port}/?k={'q' * 9}", {"X-Key": SECRET}, ca_file=str(authority.file))
        assert str(raised.value) == (
            f"localhost:{port}: the server's certificate was rejected: "
            "Hostname mismatch, certificate is not valid for 'localhost'"
        )
        link = await dialed(f"wss://localhost:{port}/", verify=False)
        ear = Ear(link)
        link.send("all the same")
        assert await ear.message() == "all the same"
        link.abort(1000, "")


async def test_an_unknown_authority_is_told_and_a_renewed_file_is_read_again(
    authority: Authority, tmp_path: Path
) -> None:
    other = Authority(tmp_path)
    async with third_party(ssl=authority.server("DNS:localhost")) as port:
        for ca_file in ("", str(other.file)):
            with pytest.raises(LinkFailed, match="certificate was rejected: unable to get local issuer"):
                await dialed(f"wss://localhost:{port}/", ca_file=ca_file)
        other.file.write_bytes(authority.file.read_bytes())
        (await dialed(f"wss://localhost:{port}/", ca_file=str(other.file))).abort(1000, "")
        os.mkfifo(tmp_path / "pipe")
        for path, words in (
            *(("missing.pem", "does not exist"), ("ca.key", "contains no PEM certificate")),
            *(("pipe", "not a regular file"), ("", "not a regular file")),
        ):
            with pytest.raises(LinkFailed, match=f"ca_file .*{path}' cannot be used: {words}"):
                await dialed(f"wss://localhost:{port}/", ca_file=str(tmp_path / path))


async def test_a_certificate_made_by_hand_can_be_its_own_authority(authority: Authority) -> None:
    tls, file = authority.by_hand("DNS:localhost")
    async with third_party(ssl=tls) as port:
        (await dialed(f"wss://localhost:{port}/", ca_file=str(file))).abort(1000, "")
        for url, ca_file in ((f"wss://127.0.0.1:{port}/", file), (f"wss://localhost:{port}/", authority.file)):
            with pytest.raises(LinkFailed, match="certificate was rejected"):
                await dialed(url, ca_file=str(ca_file))


async def test_a_client_certificate_opens_servers_that_require_one(authority: Authority, tmp_path: Path) -> None:
    tls = authority.server("DNS:localhost")
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(authority.file)
    certificate, key = authority.issue("DNS:bridge.example")
    both = tmp_path / "both.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    async with third_party(ssl=tls) as port:
        url, ca_file = f"wss://localhost:{port}/", str(authority.file)
        with pytest.raises(LinkFailed):
            await dialed(url, ca_file=ca_file)
        for names in ((str(certificate), str(key)), (str(both), "")):
            link = await dialed(url, ca_file=ca_file, client_certificate=names[0], client_key=names[1])
            ear = Ear(link)
            link.send("with a certificate")
            assert await ear.message() == "with a certificate"
            link.abort(1000, "")
        both.write_bytes(certificate.read_bytes())  # replaced, without its key
        with pytest.raises(LinkFailed, match=r"both\.pem' cannot be used: "):
            await dialed(url, ca_file=ca_file, client_certificate=str(both))
        with pytest.raises(LinkFailed, match=r"missing\.pem' cannot be used: does not exist"):
            await dialed(url, ca_file=ca_file, client_certificate=str(tmp_path / "missing.pem"))


async def test_a_server_without_tls() -> None:
    async def complain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()

    async with serving(complain) as port:
        with pytest.raises(LinkFailed, match=f"^localhost:{port}: TLS failed: wrong version number$"):
            await dialed(f"wss://localhost:{port}/")


async def test_a_server_that_closes_within_the_tls_handshake(authority: Authority) -> None:
    async def close(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read(100)

    async with serving(close) as port:
        with pytest.raises(LinkFailed, match=f"^localhost:{port}: .+"):
            await dialed(f"wss://localhost:{port}/", ca_file=str(authority.file))


# Credentials over plain connections


async def test_a_credential_without_tls_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    host = socket.gethostname()
    for _ in range(2):
        with pytest.raises(LinkFailed):
            await dialed(f"ws://{host}:{port}/?key=abc", {"Authorization": SECRET}, connect_timeout_s=1)
    warnings = [record.getMessage() for record in caplog.records if record.name == "bridge.media.dial"]
    assert len(warnings) == 1
    assert f"host={host.lower()}:{port}" in warnings[0]
    assert SECRET not in caplog.text
    caplog.clear()
    with pytest.raises(LinkFailed):
        await dialed(f"ws://{host}:{port}/")
    with pytest.raises(LinkFailed):
        await dialed(f"ws://127.0.0.1:{port}/", {"Authorization": SECRET})
    assert not caplog.records
