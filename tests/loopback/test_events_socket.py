"""``GET /v1.0/events`` with real WebSocket clients: those that read, those that do not, and those that vanish."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientSession, web
from aiohttp.http_exceptions import HttpProcessingError
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from bridge.api.backend import Backend
from bridge.api.events import EventSockets
from bridge.api.server import HttpServer
from bridge.ari.client import AriClient
from bridge.calls.tracker import CallTracker
from bridge.config import HttpConfig
from bridge.events.hub import Events
from bridge.media.counters import Counters
from tests.fakes.dialed import dial
from tests.waiting import until

TOKEN = "0123456789abcdef"


class Bench:
    """The bridge's own HTTP server with the route, and the events to send."""

    def __init__(self, port: int, events: Events, sockets: EventSockets) -> None:
        self.port = port
        self.events = events
        self.sockets = sockets

    def url(self, query: str = "") -> str:
        return f"ws://127.0.0.1:{self.port}/v1.0/events?token={TOKEN}{query}"

    async def connected(self, clients: int) -> None:
        """Wait until this many clients are connected."""
        await until(lambda: len(self.sockets) == clients)


@contextlib.asynccontextmanager
async def bench(**options: Any) -> AsyncIterator[Bench]:
    events = Events()
    sockets = EventSockets(events, **options)

    async def no_stream(*_: object) -> web.StreamResponse:
        raise AssertionError

    backend = Backend(
        calls=CallTracker(AriClient("http://127.0.0.1:1", "bridge", "secret", "bridge")),
        streams=lambda: (),
        accept_stream=no_stream,
        counters=Counters(),
        ari_connected=lambda: True,
        listening=lambda: True,
        events=sockets.handle,
    )
    server = HttpServer(HttpConfig.model_validate({"port": 0, "tokens": [TOKEN]}), backend)
    await server.start()
    try:
        yield Bench(server.port, events, sockets)
    finally:
        await sockets.close()
        await server.stop()


async def test_one_text_message_for_each_event_in_order() -> None:
    async with bench() as there, connect(there.url()) as one, connect(there.url()) as two:
        for number in range(100):
            there.events.publish("call_updated", {"n": number})
        for client in (one, two):
            got = [json.loads(await client.recv(decode=True)) for _ in range(100)]
            assert [event["data"]["n"] for event in got] == list(range(100))
        assert set(got[0]) == {"id", "type", "tm_create", "data"}


async def test_a_client_may_send_for_long() -> None:
    async with bench() as there, connect(there.url()) as client:
        for _ in range(100):
            await client.send("x" * 4000)
        await (await client.ping())
        there.events.publish("call_updated", {})
        assert json.loads(await client.recv())["type"] == "call_updated"


async def test_a_client_that_sends_without_end_is_closed_and_no_other() -> None:
    """As pings or as messages; also one that reads nothing."""
    async with bench() as there, connect(there.url()) as other:
        for empty_frame in (b"\x89\x80\0\0\0\0", b"\x81\x80\0\0\0\0"):
            async with connect(there.url()) as client:
                await there.connected(2)
                client.transport.pause_reading()
                with contextlib.suppress(OSError, ConnectionClosed):
                    client.transport.write(empty_frame * 100_000)
                await there.connected(1)
        there.events.publish("call_updated", {})
        assert json.loads(await other.recv())["type"] == "call_updated"


async def test_what_comes_before_an_upgrade_is_answered_is_discarded() -> None:
    async with bench() as there:
        reader, writer = await dial("127.0.0.1", there.port)
        gc.collect()
        upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
        writer.write(b"GET /v1.0/events HTTP/1.1\r\nHost: localhost\r\n" + upgrade)
        writer.write(bytes(100_000))
        async with asyncio.timeout(60):
            answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 401 ")
        # Parsed, it would be an error, which holds the whole block until a full garbage collection.
        assert not [each for each in gc.get_objects() if isinstance(each, HttpProcessingError)]


async def test_a_client_that_is_connected_misses_nothing() -> None:
    async with bench() as there:
        connecting = asyncio.create_task(connect(there.url()).__aenter__())
        number = 0
        while not connecting.done():
            there.events.publish("call_updated", {"n": number})
            number += 1
            await asyncio.sleep(0)
        there.events.publish("call_updated", {"n": number})
        client = await connecting
        first = json.loads(await client.recv())["data"]["n"]
        rest = [json.loads(await client.recv())["data"]["n"] for _ in range(number - first)]
        assert rest == list(range(first + 1, number + 1))
        await client.close()


async def test_only_the_types_that_are_asked_for() -> None:
    async with bench() as there, connect(there.url("&types=call_*,%20flow_ended")) as client:
        for type in ("stream_started", "call_created", "flow_started", "flow_ended", "call_hangup"):
            there.events.publish(type, {})
        got = [json.loads(await client.recv())["type"] for _ in range(3)]
        assert got == ["call_created", "flow_ended", "call_hangup"]


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("&types=calls_*", "call_created"),
        ("&types=", "matches no event type"),
        ("&types=call_*,", "matches no event type"),
        ("&types=" + ",".join(["*"] * 51), "50 patterns"),
        ("&type=call_*", "unknown parameter"),
        ("&types=*&types=*", "more than once"),
    ],
)
async def test_a_wrong_query_is_answered_before_the_upgrade(query: str, word: str) -> None:
    async with bench() as there, ClientSession() as session:
        async with session.get(there.url(query).replace("ws:", "http:")) as answer:
            error = (await answer.json())["error"]
        assert (answer.status, error["reason"]) == (400, "INVALID_EVENT_OPTIONS")
        assert word in error["message"]


async def test_no_token_and_no_websocket() -> None:
    async with bench() as there, ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{there.port}/v1.0/events") as answer:
            assert answer.status == 401
        async with session.get(there.url().replace("ws:", "http:")) as answer:
            assert answer.status == 426
        assert len(there.sockets) == 0


async def test_there_is_room_for_so_many_clients_and_again_when_one_has_left() -> None:
    async with bench(max_clients=1) as there, ClientSession() as session:
        async with connect(there.url()):
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await session.ws_connect(there.url())
            assert caught.value.status == 503
            assert caught.value.headers is not None
            assert caught.value.headers["Retry-After"] == "5"
        await there.connected(0)
        async with connect(there.url()):
            await there.connected(1)


async def test_a_slow_client_is_closed_with_1013_and_nobody_else_notices() -> None:
    async with bench(max_waiting=100) as there, connect(there.url()) as quick, ClientSession() as session:
        # aiohttp's client reads only when asked, once its buffer is full.
        slow = await session.ws_connect(there.url(), autoping=False, max_msg_size=0)
        await there.connected(2)
        got = 0
        text = ["x" * 400] * 50
        for _ in range(2000):
            there.events.publish("call_updated", {"text": text})
            await quick.recv()
            got += 1
            if len(there.sockets) == 1 or slow.closed:
                break
        assert got == 2000 or len(there.sockets) == 1
        read = 0
        while (message := await slow.receive()).type is aiohttp.WSMsgType.TEXT:
            read += 1
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1013)
        assert 0 < read < got
        await there.connected(1)
        there.events.publish("call_hangup", {})
        assert json.loads(await quick.recv())["type"] == "call_hangup"


async def test_a_client_that_never_reads_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.api.events.CLOSE_S", 0.3)
    async with bench(max_waiting=50) as there:
        reader, writer = await dial("127.0.0.1", there.port, limit=1024)
        writer.write(
            f"GET /v1.0/events?token={TOKEN} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        await there.connected(1)
        await reader.readline()
        slowest = 0.0
        for _ in range(2000):
            started = time.perf_counter()
            there.events.publish("call_updated", {"text": ["x" * 400] * 50})
            slowest = max(slowest, time.perf_counter() - started)
            await asyncio.sleep(0)
        await there.connected(0)
        assert slowest < 0.1
        await asyncio.sleep(0.5)
        # What was sent before is not waiting for it any more: it reads what its kernel has, and no close frame.
        received = b""
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(60):
                while part := await reader.read(1 << 20):
                    received = (received + part)[-1000:]
        assert b"not read fast enough" not in received
        writer.close()


async def test_what_waits_for_a_client_is_bounded_in_bytes_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("bridge.api.events.MAX_WAITING_BYTES", 100_000)
    async with bench() as there, connect(there.url()) as client:
        await there.connected(1)
        for _ in range(5):  # in one turn of the loop: nothing is sent in between
            there.events.publish("call_updated", {"text": ["x" * 400] * 75})
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1013
    assert "dropped=4" in caplog.text


async def test_a_stop_sends_what_waits_and_closes_with_1001() -> None:
    async with bench() as there, connect(there.url()) as client:
        for number in range(20):
            there.events.publish("call_hangup", {"n": number})
        closing = asyncio.create_task(there.sockets.close())
        got = []
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                got.append(json.loads(await client.recv())["data"]["n"])
        assert got == list(range(20))
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1001
        async with asyncio.timeout(1):
            await closing
        async with ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await session.ws_connect(there.url())


async def test_a_stop_does_not_wait_for_a_client_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.api.events.STOP_S", 0.3)
    monkeypatch.setattr("bridge.api.events.MAX_WAITING_BYTES", 1 << 30)  # more than the kernel takes
    async with bench() as there, ClientSession() as session:
        slow = await session.ws_connect(there.url(), autoping=False, max_msg_size=0)
        for _ in range(900):
            there.events.publish("call_updated", {"text": ["x" * 400] * 50})
        started = time.monotonic()
        await there.sockets.close()
        assert 0.2 < time.monotonic() - started < 1
        await slow.close()


async def test_a_client_that_does_not_answer_pings_is_gone() -> None:
    async with bench(ping_s=0.2) as there, ClientSession() as session:
        dead = await session.ws_connect(there.url(), autoping=False)
        async with connect(there.url()) as alive:
            await there.connected(2)
            await there.connected(1)
            there.events.publish("call_created", {})
            await alive.recv()
        await dead.close()


@pytest.mark.parametrize("what", ["text", "huge", "vanish"])
async def test_what_a_client_says_means_nothing(what: str) -> None:
    async with bench() as there, ClientSession() as session:
        client = await session.ws_connect(there.url())
        await there.connected(1)
        if what == "vanish":
            assert client._response.connection is not None
            assert client._response.connection.transport is not None
            client._response.connection.transport.abort()
            await there.connected(0)
        elif what == "huge":
            await client.send_str("x" * 10_000)
            assert (await client.receive()).data == 1009
            await there.connected(0)
        else:
            await client.send_str("hello")
            there.events.publish("call_created", {})
            assert json.loads((await client.receive()).data)["type"] == "call_created"
        await client.close()
