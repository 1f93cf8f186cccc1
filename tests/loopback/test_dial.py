"""Dialed WebSockets that are accepted: everything arrives as it was sent, and the end is reported once."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
import websockets
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request

import bridge
from bridge.media import dial as dial_module
from bridge.media.dial import LISTEN_WAIT_S, clean

from .dialling import MAX_MESSAGE_BYTES, SECRET, Ear, dialed
from .servers import accept, read_frame, request, serving, text_frame, third_party

pytestmark = pytest.mark.usefixtures("nothing_is_left")

# A good server


async def test_both_kinds_of_message_go_both_ways_and_our_close_has_its_code() -> None:
    closed: asyncio.Queue[tuple[int | None, str | None]] = asyncio.Queue()

    async def echo(connection: ServerConnection) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            async for message in connection:
                await connection.send(message)
        closed.put_nowait((connection.close_code, connection.close_reason))

    async with third_party(echo) as port:
        link = await dialed(f"ws://127.0.0.1:{port}/")
        ear = Ear(link)
        for message in (b"\x00\x01" * 160, "häh", b"", ""):
            link.send(message)
            assert await ear.message() == message
        link.close(1000, "call ended")
        link.send(b"after the end")
        assert await asyncio.wait_for(closed.get(), 60) == (1000, "call ended")
        assert await ear.end() == (1000, "call ended")
        assert ear.messages.empty()


async def test_path_query_and_headers_arrive_as_given() -> None:
    seen: list[Request] = []

    async def look(connection: ServerConnection) -> None:
        assert connection.request is not None
        seen.append(connection.request)

    async with third_party(look) as port:
        link = await dialed(
            f"ws://127.0.0.1:{port}/media/1?token=x%20y&b=",
            {"Authorization": SECRET, "X-Odd": "a: b; c \"d\", 'e' = %0d", "x-empty": ""},
        )
        await Ear(link).end()
    assert seen[0].path == "/media/1?token=x%20y&b="
    headers = dict(seen[0].headers.raw_items())
    assert headers["Authorization"] == SECRET
    assert headers["X-Odd"] == "a: b; c \"d\", 'e' = %0d"
    assert headers["x-empty"] == ""
    assert headers["Host"] == f"127.0.0.1:{port}"
    assert "Sec-WebSocket-Extensions" not in headers
    assert headers["User-Agent"] == f"asterisk-bridge/{bridge.__version__}"


async def test_a_user_agent_of_the_configuration_takes_the_place_of_ours() -> None:
    seen: list[list[str]] = []

    async def look(connection: ServerConnection) -> None:
        assert connection.request is not None
        seen.append(connection.request.headers.get_all("User-Agent"))

    async with third_party(look) as port:
        await Ear(await dialed(f"ws://127.0.0.1:{port}/", {"user-agent": "let me in"})).end()
    assert seen == [["let me in"]]


async def test_fragments_are_joined_and_large_messages_go_whole_both_ways() -> None:
    large = bytes(range(256)) * (MAX_MESSAGE_BYTES // 256)

    async def talk(connection: ServerConnection) -> None:
        await connection.send([b"ab", b"", b"cd"])
        await connection.send(["ä", "ö"])
        await connection.send(large)
        await connection.send(await connection.recv())
        await connection.recv()
        await connection.send(b"x" * (MAX_MESSAGE_BYTES + 1))
        with pytest.raises(websockets.ConnectionClosed):
            await connection.recv()
        codes.append(connection.close_code)

    codes: list[int | None] = []
    async with third_party(talk) as port:
        link = await dialed(f"ws://127.0.0.1:{port}/")
        ear = Ear(link)
        assert [await ear.message() for _ in range(3)] == [b"abcd", "äö", large]
        link.send(large[::-1])
        assert await ear.message() == large[::-1]
        link.send("more")
        assert (await ear.end())[0] == 1009
    assert codes == [1009]


@pytest.mark.parametrize("delay_s", [0, 0.2])
async def test_what_the_server_says_at_once_waits_for_a_listener(delay_s: float) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(accept(await request(reader)) + text_frame(b"one") + text_frame(b"two"))
        await asyncio.sleep(0.05)
        writer.write(text_frame(b"three") + b"\x88\x05\x03\xe8bye")
        assert await read_frame(reader) == (8, b"\x03\xe8")
        writer.close()

    async with serving(greet) as port:
        link = await asyncio.ensure_future(dialed(f"ws://127.0.0.1:{port}/"))
        await asyncio.sleep(delay_s)
        ear = Ear(link)
        assert ear.messages.empty()  # never inside the setter: the listener may still be setting up
        assert [await ear.message() for _ in range(3)] == ["one", "two", "three"]
        assert await ear.end() == (1000, "bye")


async def test_a_link_that_nobody_listens_to_is_read_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial_module, "LISTEN_WAIT_S", 0.05)
    async with third_party(ping_interval=0.1, ping_timeout=0.2) as port:
        link = await dialed(f"ws://127.0.0.1:{port}/")
        await asyncio.sleep(0.6)
        ear = Ear(link)
        link.send("its pings were answered")
        assert await ear.message() == "its pings were answered"
        link.abort(1000, "")


async def test_what_is_sent_before_anybody_listens_arrives() -> None:
    async with third_party() as port:
        link = await dialed(f"ws://127.0.0.1:{port}/")
        link.send("first")
        await asyncio.sleep(0.05)
        assert await Ear(link).message() == "first"
        link.abort(1000, "")


async def test_a_link_that_is_closed_before_anybody_listens_ends() -> None:
    async with third_party() as port:
        link = await dialed(f"ws://127.0.0.1:{port}/")
        link.close(1000, "call ended")
        async with asyncio.timeout(LISTEN_WAIT_S / 2):
            while not link.closed:
                await asyncio.sleep(0.01)


# How it ends


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 4321])
async def test_the_servers_close_is_told_and_answered(code: int) -> None:
    answers: list[int | None] = []

    async def end(connection: ServerConnection) -> None:
        await connection.close(code, "bye")
        answers.append(connection.close_code)

    async with third_party(end) as port:
        ear = Ear(await dialed(f"ws://127.0.0.1:{port}/"))
        told = await ear.end()
    assert told == (code, "bye")
    assert clean(told[0]) == (code == 1000)
    assert len(answers) == 1


async def test_a_close_without_a_code_is_one_on_purpose() -> None:
    async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(accept(await request(reader)) + b"\x88\x00")
        await reader.read()

    async with serving(end) as port:
        code, _ = await Ear(await dialed(f"ws://127.0.0.1:{port}/")).end()
    assert code == 1005
    assert clean(code)


async def test_a_server_that_vanishes_is_told_once() -> None:
    async def vanish(connection: ServerConnection) -> None:
        await connection.recv()
        connection.transport.abort()

    async with third_party(vanish) as port:
        link = await dialed(f"ws://127.0.0.1:{port}/")
        ear = Ear(link)
        link.send(b"hello")
        code, _ = await ear.end()
        assert code == 1006
        assert not clean(code)
        assert ear.closed.empty()


async def test_pings_are_answered_both_ways_and_a_dead_server_is_dropped() -> None:
    async with third_party(ping_interval=0.1, ping_timeout=0.2) as port:
        link = await dialed(f"ws://127.0.0.1:{port}/", ping_interval_s=0.1)
        ear = Ear(link)
        await asyncio.sleep(0.6)
        assert ear.closed.empty()
        link.abort(1000, "")

    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(accept(await request(reader)))
        await reader.read()

    async with serving(die) as port:
        ear = Ear(await dialed(f"ws://127.0.0.1:{port}/", ping_interval_s=0.1))
        assert await ear.end() == (1006, "nothing received for 0.2 s")


async def test_a_server_that_breaks_the_protocol_is_left() -> None:
    async def mask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(accept(await request(reader)) + b"\x81\x81\x01\x02\x03\x04x")
        opcode, data = await read_frame(reader)
        seen.append((opcode, int.from_bytes(data[:2], "big")))
        await reader.read()

    seen: list[tuple[int, int]] = []
    async with serving(mask) as port:
        code, _ = await Ear(await dialed(f"ws://127.0.0.1:{port}/")).end()
    assert code == 1002
    assert seen == [(8, 1002)]
