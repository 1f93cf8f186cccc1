"""Connections without a token: they end by themselves, and there are never too many of them."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import cast

import pytest
from aiohttp import ClientSession, web

from bridge.access import Principal
from bridge.api import connections, prebuilt, protocol
from bridge.api.connections import Connections, bounded_by_open_files
from bridge.api.server import HttpServer
from bridge.calls.call import Call, Party
from bridge.config import HttpConfig
from bridge.media.takeover import take_over
from bridge.streams.media_stream_endpoint import MediaStreamOptions
from tests.fakes.dialed import dial
from tests.fakes.log_output import log_output
from tests.unit.api.samples import TOKEN, UPGRADE, Pbx, make_call

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
        """Return whether a request is answered; False: the connection was closed."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(request)
            return bool(await asyncio.wait_for(self.reader.read(4096), 60))
        return False

    async def ended(self) -> bool:
        """Wait for the server to close."""
        with contextlib.suppress(ConnectionError):
            return await asyncio.wait_for(self.reader.read(), 60) == b""
        return True


class Taking(Pbx):
    """Takes connections away from aiohttp, as streams do."""

    async def accept(
        self, request: web.Request, call: Call, party: Party, options: MediaStreamOptions, _: Principal, __: object, /
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
    # With every part there is: a long document, of which the kernel does not take thirty.
    everything = Taking({call.id: call}).backend()
    it = HttpServer(HttpConfig.model_validate({"port": 0, "authentication": "tokens" in config, **config}), everything)
    await it.start()
    try:
        yield it
    finally:
        await it.stop()


async def connect(it: HttpServer) -> Connection:
    return Connection(*await dial("127.0.0.1", it.port))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a self-signed certificate of localhost, and its key."""
    folder = tmp_path_factory.mktemp("port")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key


@pytest.fixture
def from_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every connection come from an address of the documentation's network instead of loopback."""
    monkeypatch.setattr(connections, "_host", lambda _: ip_address("192.0.2.7"))


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


@pytest.mark.usefixtures("from_elsewhere")
async def test_further_connections_are_closed_and_there_is_room_again_when_one_has_ended() -> None:
    with log_output() as output:
        await _exceed_the_maximum()
    assert output.getvalue().count("limit of HTTP connections reached") == 1


async def _exceed_the_maximum() -> None:
    async with serving(max_connections=3) as it:
        clients = [await connect(it) for _ in range(3)]
        assert all([await client.answers() for client in clients])
        for _ in range(5):
            assert not await (await connect(it)).answers()
        assert all([await client.answers() for client in clients])
        clients[0].writer.close()
        async with asyncio.timeout(60):
            while not await (await connect(it)).answers():
                await asyncio.sleep(0)


@pytest.mark.usefixtures("from_elsewhere")
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


@pytest.mark.usefixtures("from_elsewhere")
async def test_an_unfinished_tls_handshake_counts_and_ends(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "IDLE_S", 0.5)
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    trusting.check_hostname = False
    async with serving(max_connections=2, tls_certificate=str(certificate[0]), tls_key=str(certificate[1])) as it:
        idle = [await connect(it) for _ in range(2)]
        assert await (await connect(it)).ended()
        assert all([await client.ended() for client in idle])
        client = Connection(*await dial("127.0.0.1", it.port, ssl=trusting))
        assert await client.answers()


@pytest.mark.parametrize(("files", "most"), [(1024, 256), (100_000, 1000), (3, 1), (resource.RLIM_INFINITY, 1000)])
def test_at_most_a_quarter_of_the_descriptors(files: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert bounded_by_open_files(1000) == most


PIPELINED = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 30


def admitted(it: Connections, host: str, kept: list[socket.socket]) -> bool:
    """Return whether a connection of ``host`` is admitted; the sockets stay open in ``kept``."""
    ours, theirs = socket.socketpair()
    kept += ours, theirs
    return it.admit(ours, (host, 40000))


async def test_one_address_gets_a_share_and_this_machine_and_proxies_all() -> None:
    it = Connections(100, proxies=[ip_network("198.51.100.0/24")])
    kept: list[socket.socket] = []
    try:
        assert it.share == 25
        for host in ("192.0.2.1", "192.0.2.2", "::ffff:192.0.2.3"):
            assert [admitted(it, host, kept) for _ in range(26)] == [True] * 25 + [False]
        assert not admitted(it, "192.0.2.3", kept)  # the same address, written in IPv4
        kept[0].close()  # the first of 192.0.2.1
        async with asyncio.timeout(60):
            while not admitted(it, "192.0.2.1", kept):
                await asyncio.sleep(0.01)
        assert [admitted(it, "198.51.100.9", kept) for _ in range(26)] == [True] * 25 + [False]  # the maximum
    finally:
        for each in kept:
            each.close()
    assert len(it) == 0
    assert all(admitted(it, host, kept) for host in ("127.0.0.1",) * 60 + ("::1",) * 40)
    for each in kept:
        each.close()


async def test_an_ipv6_network_of_one_customer_is_one_address() -> None:
    it, kept = Connections(100), list[socket.socket]()
    hosts = [f"2001:db8:0:1::{number:x}" for number in range(26)]
    assert [admitted(it, host, kept) for host in hosts] == [True] * 25 + [False]
    assert admitted(it, "2001:db8:0:2::1", kept)
    for each in kept:
        each.close()


@pytest.mark.usefixtures("from_elsewhere")
async def test_a_client_with_a_token_has_no_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MIN_ADDRESS_SHARE", 2)
    request = b"GET /v1.0/streams HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n\r\n"
    async with serving(max_connections=8, tokens=[TOKEN]) as it:
        good = [await connect(it) for _ in range(1)]
        for _ in range(3):
            assert await good[-1].answers(request % TOKEN.encode())
            good.append(await connect(it))
        strangers = [good.pop(), await connect(it)]
        assert await strangers[0].answers(request % b"a-wrong-token-00")
        assert await strangers[1].answers()
        assert not await (await connect(it)).answers()
        assert all([await client.answers(request % TOKEN.encode()) for client in good])


async def test_health_probes_of_this_machine_get_through_when_the_port_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(max_connections=2) as it:
        full = [await connect(it) for _ in range(2)]
        assert all([await client.answers() for client in full])
        for _ in range(5):
            probe = await connect(it)
            assert await probe.answers()
            assert await probe.ended()
        other = await connect(it)
        other.writer.write(HEALTH.replace(b"/health", b"/"))
        assert b" 503 " in (await asyncio.wait_for(other.reader.read(), 60)).splitlines()[0]
        monkeypatch.setattr(connections, "RESERVED_IDLE_S", 3600)
        silent = [await connect(it) for _ in range(connections.RESERVED)]
        assert not await (await connect(it)).answers()
        monkeypatch.setattr(connections, "RESERVED_IDLE_S", 0)
        assert await (await connect(it)).answers()  # in the place of one that is silent
        monkeypatch.setattr(connections, "RESERVED_S", 0.2)
        assert all([await client.ended() for client in silent])
        assert await (await connect(it)).answers()


@pytest.mark.usefixtures("from_elsewhere")
async def test_who_is_elsewhere_gets_nothing_of_the_reserve() -> None:
    async with serving(max_connections=2) as it:
        full = [await connect(it) for _ in range(2)]
        assert all([await client.answers() for client in full])
        assert not await (await connect(it)).answers()


def unread_connection(port: int, tls: ssl.SSLContext | None = None) -> socket.socket:
    """Return a client that requests a lot and reads almost nothing."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    client.connect(("127.0.0.1", port))
    if tls is not None:
        client = tls.wrap_socket(client, server_hostname="localhost")
    client.sendall(PIPELINED)
    return client


def unsent(it: HttpServer) -> list[int]:
    """Return the number of unsent bytes for each client that has sent a request."""
    return [connections._unsent(each.transport) for each in it._connections._open.values() if each.transport]


@pytest.mark.parametrize("how", ["reads nothing", "reads a byte from time to time", "over TLS"])
async def test_who_does_not_read_its_responses_is_closed(
    how: str, monkeypatch: pytest.MonkeyPatch, certificate: tuple[Path, Path]
) -> None:
    # Without the kernel's help, which does not see a client that reads a byte from time to time.
    monkeypatch.setattr(connections, "USER_TIMEOUT_MS", 0)
    monkeypatch.setattr(connections, "UNREAD_S", 0.5)
    monkeypatch.setattr(connections, "SWEEP_S", 0.1)
    config, tls = {}, None
    if how == "over TLS":
        tls = ssl.create_default_context(cafile=str(certificate[0]))
        config = dict(zip(("tls_certificate", "tls_key"), map(str, certificate), strict=True))
    async with serving(max_connections=3, **config) as it:
        clients = [await asyncio.to_thread(unread_connection, it.port, tls) for _ in range(3)]
        async with asyncio.timeout(60):
            while sum(size > 0 for size in unsent(it)) < 3:
                await asyncio.sleep(0.01)
            while len(it._connections):
                for client in clients if how == "reads a byte from time to time" else ():
                    with contextlib.suppress(ConnectionError):
                        client.recv(1, socket.MSG_DONTWAIT)
                await asyncio.sleep(0.05)
        assert tls or await (await connect(it)).answers()
        for client in clients:
            client.close()


async def test_of_a_response_that_is_not_read_only_a_part_is_in_memory() -> None:
    async with serving() as it:
        client = unread_connection(it.port)
        async with asyncio.timeout(60):
            while not any(unsent(it)):
                await asyncio.sleep(0.01)
        assert sum(unsent(it)) <= protocol.MAX_UNSENT_BYTES + prebuilt.BLOCK_BYTES
        client.close()


async def test_a_response_that_is_read_slowly_but_whole_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "UNREAD_S", 30.0)
    monkeypatch.setattr(connections, "SWEEP_S", 0.05)
    async with serving() as it:
        client = unread_connection(it.port)
        client.setblocking(False)
        loop, received = asyncio.get_running_loop(), b""
        while received.count(b"HTTP/1.1 200 OK") < 3:
            received += await asyncio.wait_for(loop.sock_recv(client, 4096), 60)
        client.close()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="an option of Linux")
async def test_the_kernel_ends_what_the_peer_acknowledges_no_longer_but_not_streams() -> None:
    async with serving() as it:
        plain, stream = await connect(it), await connect(it)
        assert await plain.answers()
        assert await stream.answers(STREAM)
        here = [each.socket for each in it._connections._open.values()]
        assert [each.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) for each in here] == [10_000]
        stream.writer.close()


@pytest.mark.parametrize("first", [b"", b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 16])
async def test_requests_that_are_sent_ahead_are_bounded_in_bytes(first: bytes) -> None:
    """Behind responses that are not read, 32 heads of 1 MiB each would wait in memory; so is one such head."""
    head = b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: %b\r\n" % (b"x" * 8000) * 120 + b"\r\n"
    async with serving() as it:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.connect(("127.0.0.1", it.port))
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        with pytest.raises(ConnectionError):
            async with asyncio.timeout(60):
                await loop.sock_sendall(client, first + head * 30)
                while True:
                    await loop.sock_sendall(client, head)
        client.close()


async def test_long_bodies_one_after_the_other_are_not_sent_ahead() -> None:
    actions = [{"type": "talk", "option": {"text": "x" * 900}}] * 400
    body = {"destinations": [{"type": "extension", "target": "1002"}], "actions": actions}
    async with serving() as it, ClientSession(f"http://127.0.0.1:{it.port}") as session:
        for _ in range(5):
            async with session.post("/v1.0/calls", json=body) as response:
                assert response.status == 200, await response.text()
        assert len(it._connections) == 1


async def test_in_a_flood_from_this_machine_a_probe_is_recognized_by_its_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "RESERVED_IDLE_S", 3600)
    it, kept = Connections(5), list[socket.socket]()
    assert [admitted(it, "127.0.0.1", kept) for _ in range(20)] == [True] * 8 + [False] * 12
    for request, expected in ((b"GET /docs HTTP/1.1", False), (HEALTH, True), (b"HEAD" + HEALTH[3:], True)):
        ours, theirs = socket.socketpair()
        kept += ours, theirs
        theirs.send(request)
        assert it.admit(ours, ("127.0.0.1", 40000)) is expected
        assert not it.admit(theirs, ("127.0.0.1", 40000))
    assert len(it) == 8
    for each in kept:
        each.close()
