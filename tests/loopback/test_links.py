"""WebSockets taken over from aiohttp, framed by picows; the client is a third party."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable

import pytest
import websockets
from aiohttp import web
from websockets.asyncio.client import connect

from bridge.media.counters import Counters
from bridge.media.picows_link import PicowsLink
from bridge.media.takeover import take_over
from bridge.media.websocket import Link
from tests.fakes.dialed import dial

MAX_MESSAGE_BYTES = 1 << 20


class Server:
    """An aiohttp application with one WebSocket route, and the links that it made."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.links: list[PicowsLink] = []
        self.messages: list[bytes | str] = []
        self.closed: asyncio.Queue[tuple[int, str]] = asyncio.Queue()
        self.ping_interval_s = 20.0
        self.port = 0

    async def upgrade(self, request: web.Request) -> web.Response:
        link = PicowsLink(
            self.counters,
            max_unsent_ms=1000,
            ping_interval_s=self.ping_interval_s,
            max_message_bytes=MAX_MESSAGE_BYTES,
        )
        link.on_message = self.messages.append
        link.on_closed = lambda code, reason: self.closed.put_nowait((code, reason))
        self.links.append(link)
        assert take_over(request, link.protocol())
        return web.Response()

    async def plain(self, _: web.Request) -> web.Response:
        return web.Response(text="plain")

    def url(self, path: str = "/stream?token=x%20y") -> str:
        return f"ws://127.0.0.1:{self.port}{path}"

    async def got(self, count: int) -> None:
        async with asyncio.timeout(60):
            while len(self.messages) < count:
                await asyncio.sleep(0.005)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    application = web.Application()
    application.router.add_get("/stream", made.upgrade)
    application.router.add_get("/plain", made.plain)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.port = runner.addresses[0][1]
    yield made
    for link in made.links:
        link.abort(1001, "test over")
    await runner.cleanup()
    tasks = {task for task in asyncio.all_tasks() if "RequestHandler" in repr(task)}
    assert not tasks, tasks


def link_of(server: Server) -> Link:
    return server.links[-1]


async def test_both_kinds_of_message_go_both_ways(server: Server) -> None:
    async with connect(server.url()) as client:
        await client.send(b"\x00\x01")
        await client.send("häh")
        await client.send(b"")
        await server.got(3)
        assert server.messages == [b"\x00\x01", "häh", b""]
        link_of(server).send(b"\x02" * 320, 20)
        link_of(server).send("text ü")
        assert await client.recv() == b"\x02" * 320
        assert await client.recv() == "text ü"
    assert await server.closed.get() == (1000, "")


async def test_fragments_are_joined(server: Server) -> None:
    async with connect(server.url()) as client:
        await client.send([b"ab", b"cd", b"ef"])
        await client.send(["ä", "ö"])
        await client.send(b"whole")
        await server.got(3)
    assert server.messages == [b"abcdef", "äö", b"whole"]


async def test_a_large_message_arrives_whole_and_a_larger_one_closes(server: Server) -> None:
    large = bytes(range(256)) * (MAX_MESSAGE_BYTES // 256 - 1)
    async with connect(server.url()) as client:
        await client.send(large)
        await server.got(1)
        assert server.messages == [large]
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await client.send(b"x" * (MAX_MESSAGE_BYTES + 1))
            await client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
    assert len(server.messages) == 1
    await asyncio.wait_for(server.closed.get(), 60)


@pytest.mark.parametrize(("code", "reason"), [(1000, "call ended"), (1011, "ü" * 200), (1008, ""), (1013, "later")])
async def test_our_close_has_its_code_and_reason(server: Server, code: int, reason: str) -> None:
    async with connect(server.url()) as client:
        await client.send(b"hello")
        await server.got(1)
        link_of(server).close(code, reason)
        link_of(server).close(1002, "too late")
        link_of(server).send(b"after the end")
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == code
        assert reason.startswith(closed.value.rcvd.reason)
        assert len(closed.value.rcvd.reason.encode()) >= min(len(reason.encode()), 122)
    assert (await asyncio.wait_for(server.closed.get(), 60))[0] == code
    assert link_of(server).closed


@pytest.mark.parametrize("code", [1000, 1001, 4321])
async def test_the_clients_close_is_told_and_answered(server: Server, code: int) -> None:
    client = await connect(server.url())
    await client.send(b"hello")
    await server.got(1)
    await client.close(code, "bye")
    assert await asyncio.wait_for(server.closed.get(), 60) == (code, "bye")
    assert client.close_code in (code, 1000)


async def test_a_client_that_vanishes_is_told_once(server: Server) -> None:
    client = await connect(server.url())
    await client.send(b"hello")
    await server.got(1)
    client.transport.abort()
    code, _ = await asyncio.wait_for(server.closed.get(), 60)
    assert code == 1006
    assert server.closed.empty()


async def test_pings_are_answered_and_a_dead_client_is_dropped(server: Server) -> None:
    server.ping_interval_s = 0.1
    alive = await connect(server.url(), ping_interval=None)
    await asyncio.sleep(0.5)
    assert server.closed.empty()
    await asyncio.wait_for(await alive.ping(), 1)
    await alive.close()
    await server.closed.get()

    reader, writer = await dial("127.0.0.1", server.port)
    writer.write(HANDSHAKE)
    await reader.readuntil(b"\r\n\r\n")
    code, reason = await asyncio.wait_for(server.closed.get(), 60)
    assert (code, reason) == (1006, "nothing received for 0.2 s")
    writer.close()


async def test_a_message_that_takes_longer_than_two_pings_is_a_sign_of_life(server: Server) -> None:
    server.ping_interval_s = 0.1
    reader, writer = await dial("127.0.0.1", server.port)
    writer.write(HANDSHAKE)
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"\x82" + bytes([0x80 | 126]) + (50 * 1000).to_bytes(2, "big") + bytes(4))
    for _ in range(50):
        writer.write(bytes(1000))
        await asyncio.sleep(0.02)
    await server.got(1)
    assert server.messages == [bytes(50 * 1000)]
    assert server.closed.empty()
    code, _ = await asyncio.wait_for(server.closed.get(), 60)  # then it sends nothing, and does not answer pings
    assert code == 1006
    writer.close()


async def test_a_client_that_does_not_read_loses_the_oldest_audio_but_no_text(server: Server) -> None:
    reader, writer = await small_window_client(server.port)
    link = link_of(server)
    for n in range(5000):
        link.send(n.to_bytes(4, "big") * 80, 20)
        if n == 4990:
            link.send("mark")
    assert link.unsent_ms <= 1000
    assert link.dropped_ms > 50_000
    assert server.counters.messages_dropped * 20 == server.counters.dropped_to_application_ms
    before_close = asyncio.get_running_loop().time()
    received = await read_messages(reader, until=lambda m: m == (4999).to_bytes(4, "big") * 80)
    numbers = [int.from_bytes(m[:4], "big") for m in received if isinstance(m, bytes)]
    assert numbers == sorted(numbers)
    assert numbers[-49:] == list(range(4951, 5000))
    assert [m for m in received if isinstance(m, str)] == ["mark"]
    assert len(numbers) * 20 + link.dropped_ms == 5000 * 20
    assert asyncio.get_running_loop().time() - before_close < 3
    writer.close()


ENDS: dict[str, Callable[[Link], None]] = {
    "giving way": lambda link: link.close(1000, "somebody else goes on", discard_unacked_after_s=0.1),
    "dropped": lambda link: link.abort(1008, "too slow"),
}


@pytest.mark.parametrize("how", ENDS)
async def test_what_a_client_has_not_taken_is_taken_back(server: Server, how: str) -> None:
    reader, writer = await small_window_client(server.port)
    link = link_of(server)
    for _ in range(100):
        link.send(bytes(320), 20)
    ENDS[how](link)
    assert (await asyncio.wait_for(server.closed.get(), 1))[0] == (1000 if how == "giving way" else 1008)
    taken = 0
    with pytest.raises(ConnectionResetError):
        while some := await asyncio.wait_for(reader.read(1024), 60):
            taken += len(some)
    assert taken < 50 * (4 + 320)
    writer.close()


async def test_a_client_that_has_taken_all_is_closed_in_order_though_it_is_slow_to_answer(server: Server) -> None:
    reader, writer = await dial("127.0.0.1", server.port)
    writer.write(HANDSHAKE)
    await reader.readuntil(b"\r\n\r\n")
    link = link_of(server)
    for n in range(100):
        link.send(n.to_bytes(2, "big") * 160, 20)
    link.close(1000, "somebody else goes on", discard_unacked_after_s=0.05)
    await asyncio.sleep(0.3)
    assert not link.closed
    received = await read_messages(reader, until=lambda m: m == (99).to_bytes(2, "big") * 160)
    assert len(received) == 100
    assert await asyncio.wait_for(reader.readexactly(2), 1) == b"\x88\x17"
    assert await reader.readexactly(0x17) == (1000).to_bytes(2, "big") + b"somebody else goes on"
    writer.write(b"\x88\x82" + bytes(4) + (1000).to_bytes(2, "big"))
    assert await asyncio.wait_for(server.closed.get(), 1) == (1000, "somebody else goes on")
    writer.close()


async def test_other_requests_on_the_same_port_are_aiohttps(server: Server) -> None:
    async with connect(server.url()) as client:
        await client.send(b"hello")
        await server.got(1)
        reader, writer = await dial("127.0.0.1", server.port)
        writer.write(b"GET /plain HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).endswith(b"plain")
        writer.close()
        await client.send(b"still here")
        await server.got(2)


HANDSHAKE = (
    b"GET /stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


async def small_window_client(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a client with a tiny receive window that reads only on request."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await dial(sock=sock, limit=2048)
    writer.write(HANDSHAKE)
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def read_messages(reader: asyncio.StreamReader, until: Callable[[bytes | str], bool]) -> list[bytes | str]:
    """Unmasked, unfragmented messages, up to and including one."""
    messages: list[bytes | str] = []
    while not messages or not until(messages[-1]):
        head = await asyncio.wait_for(reader.readexactly(2), 60)
        size = head[1] if head[1] < 126 else int.from_bytes(await reader.readexactly(2), "big")
        payload = await reader.readexactly(size)
        if head[0] in (0x81, 0x82):
            messages.append(payload.decode() if head[0] == 0x81 else payload)
    return messages
