"""Dialled WebSockets against servers of a third party, and against servers that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from pathlib import Path

import pytest
import websockets
from websockets.asyncio.server import Request, Response, ServerConnection, serve

from bridge.dialects.base import Message
from bridge.media import dial as dial_module
from bridge.media.counters import Counters
from bridge.media.dial import LISTEN_WAIT_S, Destination, LinkFailed, LinkRefused, clean, dial
from bridge.media.websocket import Link

from .servers import Authority, accept, open_sockets, read_frame, request, serving, text_frame

MAX_MESSAGE_BYTES = 1 << 20
SECRET = "Bearer s3cr3t-t0ken"


async def dialled(
    url: str,
    headers: dict[str, str] | None = None,
    *,
    connect_timeout_s: float = 3,
    ping_interval_s: float = 20,
    verify: bool = True,
    ca_file: str = "",
) -> Link:
    return await dial(
        Destination(url, headers or {}, verify, ca_file),
        Counters(),
        connect_timeout_s=connect_timeout_s,
        max_unsent_ms=1000,
        ping_interval_s=ping_interval_s,
        max_message_bytes=MAX_MESSAGE_BYTES,
    )


class Ear:
    """Listens to a link."""

    def __init__(self, link: Link) -> None:
        self.messages: asyncio.Queue[Message] = asyncio.Queue()
        self.closed: asyncio.Queue[tuple[int, str]] = asyncio.Queue()
        link.on_closed = lambda code, reason: self.closed.put_nowait((code, reason))
        link.on_message = self.messages.put_nowait

    async def message(self) -> Message:
        return await asyncio.wait_for(self.messages.get(), 3)

    async def end(self) -> tuple[int, str]:
        return await asyncio.wait_for(self.closed.get(), 3)


@pytest.fixture(autouse=True)
async def _nothing_is_left() -> AsyncIterator[None]:
    """After each test: no socket more than before, and no error that nobody took."""
    loop = asyncio.get_running_loop()
    before = open_sockets()
    unhandled: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: unhandled.append(context))
    yield
    async with asyncio.timeout(3):
        while open_sockets() - before:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0)
    gc.collect()
    loop.set_exception_handler(None)
    assert unhandled == []


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def localhost_tls(authority: Authority) -> ssl.SSLContext:
    return authority.server("DNS:localhost")


@contextlib.asynccontextmanager
async def third_party(handler=None, **options) -> AsyncIterator[int]:  # type: ignore[no-untyped-def]
    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    options.setdefault("max_size", 1 << 22)
    async with serve(handler or echo, "127.0.0.1", 0, **options) as server:
        yield next(iter(server.sockets)).getsockname()[1]


# A good server


async def test_both_kinds_of_message_go_both_ways_and_our_close_has_its_code():
    closed: asyncio.Queue[tuple[int | None, str | None]] = asyncio.Queue()

    async def echo(connection: ServerConnection) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            async for message in connection:
                await connection.send(message)
        closed.put_nowait((connection.close_code, connection.close_reason))

    async with third_party(echo) as port:
        link = await dialled(f"ws://127.0.0.1:{port}/")
        ear = Ear(link)
        for message in (b"\x00\x01" * 160, "häh", b"", ""):
            link.send(message)
            assert await ear.message() == message
        link.close(1000, "call ended")
        link.send(b"after the end")
        assert await asyncio.wait_for(closed.get(), 3) == (1000, "call ended")
        assert await ear.end() == (1000, "call ended")
        assert ear.messages.empty()


async def test_path_query_and_headers_arrive_as_given():
    seen: list[Request] = []

    async def look(connection: ServerConnection) -> None:
        assert connection.request is not None
        seen.append(connection.request)

    async with third_party(look) as port:
        link = await dialled(
            f"ws://127.0.0.1:{port}/media/1?token=x%20y&b=",
            {"Authorization": SECRET, "X-Odd": "a: b;\tc \"d\", 'e' = %0d", "x-empty": ""},
        )
        await Ear(link).end()
    assert seen[0].path == "/media/1?token=x%20y&b="
    headers = dict(seen[0].headers.raw_items())
    assert headers["Authorization"] == SECRET
    assert headers["X-Odd"] == "a: b;\tc \"d\", 'e' = %0d"
    assert headers["x-empty"] == ""
    assert headers["Host"] == f"127.0.0.1:{port}"
    assert "Sec-WebSocket-Extensions" not in headers


async def test_fragments_are_joined_and_large_messages_go_whole_both_ways():
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
        link = await dialled(f"ws://127.0.0.1:{port}/")
        ear = Ear(link)
        assert [await ear.message() for _ in range(3)] == [b"abcd", "äö", large]
        link.send(large[::-1])
        assert await ear.message() == large[::-1]
        link.send("more")
        assert (await ear.end())[0] == 1009
    assert codes == [1009]


@pytest.mark.parametrize("delay_s", [0, 0.2])
async def test_what_the_server_says_at_once_waits_for_a_listener(delay_s: float):
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(accept(await request(reader)) + text_frame(b"one") + text_frame(b"two"))
        await asyncio.sleep(0.05)
        writer.write(text_frame(b"three") + b"\x88\x05\x03\xe8bye")
        assert await read_frame(reader) == (8, b"\x03\xe8")
        writer.close()

    async with serving(greet) as port:
        link = await asyncio.ensure_future(dialled(f"ws://127.0.0.1:{port}/"))
        await asyncio.sleep(delay_s)
        ear = Ear(link)
        assert ear.messages.empty()  # never inside the setter: the listener may still be setting up
        assert [await ear.message() for _ in range(3)] == ["one", "two", "three"]
        assert await ear.end() == (1000, "bye")


async def test_a_link_that_nobody_listens_to_is_read_all_the_same(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dial_module, "LISTEN_WAIT_S", 0.05)
    async with third_party(ping_interval=0.1, ping_timeout=0.2) as port:
        link = await dialled(f"ws://127.0.0.1:{port}/")
        await asyncio.sleep(0.6)
        ear = Ear(link)
        link.send("its pings were answered")
        assert await ear.message() == "its pings were answered"
        link.abort(1000, "")


async def test_what_is_sent_before_anybody_listens_arrives():
    async with third_party() as port:
        link = await dialled(f"ws://127.0.0.1:{port}/")
        link.send("first")
        await asyncio.sleep(0.05)
        assert await Ear(link).message() == "first"
        link.abort(1000, "")


async def test_a_link_that_is_closed_before_anybody_listens_ends():
    async with third_party() as port:
        link = await dialled(f"ws://127.0.0.1:{port}/")
        link.close(1000, "call ended")
        async with asyncio.timeout(LISTEN_WAIT_S / 2):
            while not link.closed:
                await asyncio.sleep(0.01)


# How it ends


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 4321])
async def test_the_servers_close_is_told_and_answered(code: int):
    answers: list[int | None] = []

    async def end(connection: ServerConnection) -> None:
        await connection.close(code, "bye")
        answers.append(connection.close_code)

    async with third_party(end) as port:
        ear = Ear(await dialled(f"ws://127.0.0.1:{port}/"))
        told = await ear.end()
    assert told == (code, "bye")
    assert clean(told[0]) == (code < 1002)
    assert len(answers) == 1


async def test_a_close_without_a_code_is_one_on_purpose():
    async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(accept(await request(reader)) + b"\x88\x00")
        await reader.read()

    async with serving(end) as port:
        code, _ = await Ear(await dialled(f"ws://127.0.0.1:{port}/")).end()
    assert code == 1005
    assert clean(code)


async def test_a_server_that_vanishes_is_told_once():
    async def vanish(connection: ServerConnection) -> None:
        await connection.recv()
        connection.transport.abort()

    async with third_party(vanish) as port:
        link = await dialled(f"ws://127.0.0.1:{port}/")
        ear = Ear(link)
        link.send(b"hello")
        code, _ = await ear.end()
        assert code == 1006
        assert not clean(code)
        assert ear.closed.empty()


async def test_pings_are_answered_both_ways_and_a_dead_server_is_dropped():
    async with third_party(ping_interval=0.1, ping_timeout=0.2) as port:
        link = await dialled(f"ws://127.0.0.1:{port}/", ping_interval_s=0.1)
        ear = Ear(link)
        await asyncio.sleep(0.6)
        assert ear.closed.empty()
        link.abort(1000, "")

    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(accept(await request(reader)))
        await reader.read()

    async with serving(die) as port:
        ear = Ear(await dialled(f"ws://127.0.0.1:{port}/", ping_interval_s=0.1))
        assert await ear.end() == (1006, "nothing heard for 0.2 s")


async def test_a_server_that_breaks_the_protocol_is_left():
    async def mask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(accept(await request(reader)) + b"\x81\x81\x01\x02\x03\x04x")
        opcode, data = await read_frame(reader)
        seen.append((opcode, int.from_bytes(data[:2], "big")))
        await reader.read()

    seen: list[tuple[int, int]] = []
    async with serving(mask) as port:
        code, _ = await Ear(await dialled(f"ws://127.0.0.1:{port}/")).end()
    assert code == 1002
    assert seen == [(8, 1002)]


# A server that does not read


class Stalled:
    """Accepts one WebSocket and then reads only when told; with blocking sockets, as asyncio's TLS reads ahead."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._listening = socket.socket()
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen()
        self.port: int = self._listening.getsockname()[1]
        self._tls = tls
        self._go = threading.Event()
        self.received = b""
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        sock = self._listening.accept()[0]
        self._listening.close()
        sock.settimeout(5)
        if self._tls is not None:
            sock = self._tls.wrap_socket(sock, server_side=True)
        with sock:
            head = b""
            while b"\r\n\r\n" not in head:
                head += sock.recv(4096)
            sock.sendall(accept(head))
            self._go.wait(10)
            with contextlib.suppress(OSError):
                while data := sock.recv(65536):
                    self.received += data

    async def read_what_came(self) -> int:
        """How many bytes there are to be read, now that the other side is gone."""
        self._go.set()
        await asyncio.to_thread(self.thread.join, 5)
        return len(self.received)

    async def read_everything(self, link: Link) -> bytes:
        self._go.set()
        async with asyncio.timeout(5):
            while link.unsent_ms:
                await asyncio.sleep(0.01)
        link.close(1000, "")
        await asyncio.to_thread(self.thread.join, 5)
        return self.received


@pytest.mark.parametrize("secure", [False, True])
async def test_a_slow_server_loses_the_oldest_audio_but_no_text(
    secure: bool, authority: Authority, localhost_tls: ssl.SSLContext
):
    stalled = Stalled(localhost_tls if secure else None)
    link = await dialled(f"{'wss' if secure else 'ws'}://localhost:{stalled.port}/", ca_file=str(authority.file))
    Ear(link)
    for n in range(5000):
        link.send(n.to_bytes(4, "big") * 80, 20)
        if n == 4990:
            link.send("mark")
        if n < 500:
            await asyncio.sleep(0)  # let it fill everything below
    assert link.unsent_ms <= 1000
    unseen_ms = 5000 * 20 - link.dropped_ms - link.unsent_ms
    frames = list(frames_of(await stalled.read_everything(link)))
    numbers = [int.from_bytes(frame[:4], "big") for frame in frames if len(frame) == 320]
    assert numbers == sorted(numbers)
    assert numbers[-49:] == list(range(4951, 5000))
    assert frames.count(b"mark") == 1
    assert len(numbers) * 20 + link.dropped_ms == 5000 * 20
    # What lies in the kernel and the transports cannot be dropped any more: 40 to 60 KB, measured 2.2 s and 3.0 s.
    assert unseen_ms < 4000


@pytest.mark.parametrize("secure", [False, True])
async def test_what_a_server_has_not_received_is_taken_back(
    secure: bool, authority: Authority, localhost_tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture
):
    stalled = Stalled(localhost_tls if secure else None)
    link = await dialled(f"{'wss' if secure else 'ws'}://localhost:{stalled.port}/", ca_file=str(authority.file))
    ear = Ear(link)
    for _ in range(200):
        link.send(bytes(320), 20)
        await asyncio.sleep(0)
    link.close(1000, "somebody else goes on", take_back_s=0.1)
    assert await asyncio.wait_for(ear.closed.get(), 1) == (1000, "somebody else goes on")
    assert await stalled.read_what_came() < 100 * 320
    assert "bytes or more that an application has not received are thrown away" in caplog.text


def frames_of(data: bytes) -> Iterator[bytes]:
    """Contents of whole masked frames."""
    while data:
        at = 4 if data[1] & 0x7F == 126 else 2
        size = int.from_bytes(data[2:4], "big") if at == 4 else data[1] & 0x7F
        mask, content = data[at : at + 4], data[at + 4 : at + 4 + size]
        data = data[at + 4 + size :]
        if len(content) == size:
            yield bytes(byte ^ mask[n % 4] for n, byte in enumerate(content))


# Servers that refuse or fail


def answering(answer: bytes, later: bytes = b"", *, stays: bool = True):  # type: ignore[no-untyped-def]
    """A server with this answer, of which ``later`` comes in a packet of its own."""

    async def answer_so(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(answer)
        if later:
            await asyncio.sleep(0.05)
            writer.write(later)
        if stays:
            await reader.read()
        else:
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    return answer_so


@pytest.mark.parametrize(
    ("status", "error"),
    [
        *((status, LinkRefused) for status in (200, 301, 302, 400, 401, 403, 404, 410, 426)),
        *((status, LinkFailed) for status in (408, 425, 429, 500, 502, 503)),
    ],
)
async def test_the_status_says_whether_to_try_again(status: int, error: type[Exception]):
    phrase = HTTPStatus(status).phrase.encode()
    answer = b"HTTP/1.1 %d %b\r\nContent-Length: 9\r\n\r\nnot so:\r\n" % (status, phrase)
    async with serving(answering(answer)) as port:
        with pytest.raises(error) as raised:
            await dialled(f"ws://127.0.0.1:{port}/")
    assert str(raised.value).startswith(f"127.0.0.1:{port} answers {status} {HTTPStatus(status).phrase}")
    assert str(raised.value).endswith(": not so:")
    if isinstance(raised.value, LinkRefused):
        assert raised.value.status == status


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("stays", [False, True])
async def test_the_body_of_a_refusal_is_waited_for(
    secure: bool, stays: bool, authority: Authority, localhost_tls: ssl.SSLContext
):
    head = b"HTTP/1.1 401 Unauthorized\r\nContent-Type: text/html\r\n\r\n"
    serve_so = answering(head, b"<html><title>x</title><h1>No\nsuch key</h1>\n<p>" + b"long " * 100, stays=stays)
    async with serving(serve_so, localhost_tls if secure else None) as port:
        with pytest.raises(LinkRefused, match="401") as raised:
            await dialled(f"{'wss' if secure else 'ws'}://localhost:{port}/", ca_file=str(authority.file))
    words = raised.value.reason.split("Unauthorized: ")[1]
    assert words.startswith("No such key long long")
    assert len(words) == 200
    assert words.endswith("...")


async def test_a_refusal_counts_even_if_its_body_never_ends():
    async with serving(answering(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\nstop")) as port:
        for connect_timeout_s in (0.2, 3):
            with pytest.raises(LinkRefused, match=r"403 Forbidden: stop$"):
                await dialled(f"ws://127.0.0.1:{port}/", connect_timeout_s=connect_timeout_s)


async def test_a_third_partys_refusal():
    def check(connection: ServerConnection, _: Request) -> Response:
        return connection.respond(HTTPStatus.UNAUTHORIZED, "wrong key\n")

    async with third_party(process_request=check) as port:
        with pytest.raises(LinkRefused, match=r"401 Unauthorized: wrong key$"):
            await dialled(f"ws://127.0.0.1:{port}/")


async def test_redirects_are_told_and_not_followed():
    asked: list[bytes] = []

    async def elsewhere(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        asked.append(await request(reader))

    async with serving(elsewhere) as other:
        answer = b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:%d/x?key=abc\r\nContent-Length: 0\r\n\r\n" % other
        async with serving(answering(answer)) as port:
            with pytest.raises(LinkRefused) as raised:
                await dialled(f"ws://127.0.0.1:{port}/", {"Authorization": SECRET})
    assert raised.value.reason.endswith(f"302 Found to ws://127.0.0.1:{other}/x (redirects are not followed)")
    assert asked == []


async def test_no_secret_comes_back_in_an_error(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)

    async def repeat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await request(reader)
        writer.write(b"HTTP/1.1 400 %b\r\nContent-Length: %d\r\n\r\n%b" % (head.split(b"\r\n")[0], len(head), head))
        await reader.read()

    async with serving(repeat) as port:
        with pytest.raises(LinkRefused, match="400 GET /x") as raised:
            await dialled(f"ws://127.0.0.1:{port}/x?key=qu3ry-s3cret", {"Authorization": SECRET})
    for told in (str(raised.value), repr(raised.value), caplog.text):
        assert "s3cr3t" not in told
        assert "qu3ry" not in told


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "something that is not HTTP"),
        (b"HTTP/2 200\r\n\r\n", "not HTTP/1.1"),
        (b"HTTP/1.1 abc\r\n\r\n", "not HTTP/1.1"),
        (b"HTTP/1.1 200 " + b"x" * 20000, "longer than 16384 bytes"),
        (b"HTTP/1.1 101 Ok\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "invalid sec-websocket-accept"),
        (b"HTTP/1.1 101 Ok\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", "invalid upgrade header"),
        (b"HTTP/1.1 101 Ok\r\nUpgrade: websocket\r\nConnection: close\r\n\r\n", "invalid connection header"),
    ],
)
async def test_an_answer_that_is_no_handshake(answer: bytes, words: str):
    async with serving(answering(answer)) as port:
        with pytest.raises(LinkFailed, match=words):
            await dialled(f"ws://127.0.0.1:{port}/")


@pytest.mark.parametrize(
    ("first", "connection"),
    [
        (b"HTTP/1.1 101 ", b"Upgrade"),
        (b"HTTP/1.1 101", b"upgrade"),
        (b"HTTP/1.1 101 Web Socket Protocol Handshake", b"keep-alive, Upgrade"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 101 Switching Protocols", b"Upgrade"),
    ],
)
async def test_unusual_but_right_handshakes(first: bytes, connection: bytes):
    async def agree(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in accept(await request(reader), first, connection):
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        writer.write(text_frame(b"welcome"))
        await reader.read()

    async with serving(agree) as port:
        link = await dialled(f"ws://127.0.0.1:{port}/")
        assert await Ear(link).message() == "welcome"
        link.abort(1000, "")


# Servers that are not there, or fall silent


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


async def test_nobody_listens_and_names_that_nobody_has():
    port = free_port()
    with pytest.raises(LinkFailed, match=rf"^127.0.0.1:{port}: connection refused$"):
        await dialled(f"ws://127.0.0.1:{port}/", {"Authorization": SECRET})
    name = ".".join(["x" * 60] * 5)  # too long for DNS: the resolver knows without asking
    with pytest.raises(LinkFailed, match="the host's name is not known"):
        await dialled(f"ws://{name}/")


async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    while await reader.read(4096):
        pass


def never_accepting() -> socket.socket:
    """A listening socket whose queue is full: Linux answers no further SYN."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(0)
    return sock


@contextlib.contextmanager
def full_queue() -> Iterator[int]:
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(never_accepting())
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


@pytest.mark.parametrize("stage", ["tcp", "tls", "answer", "half an answer", "answer over tls"])
@pytest.mark.parametrize("ending", ["timeout", "cancelled"])
async def test_silence_ends_in_time_and_leaves_no_socket(
    stage: str, ending: str, authority: Authority, localhost_tls: ssl.SSLContext
):
    async with contextlib.AsyncExitStack() as stack:
        if stage == "tcp":
            port = stack.enter_context(full_queue())
        elif stage == "half an answer":
            port = await stack.enter_async_context(serving(answering(b"HTTP/1.1 101 Swit")))
        else:
            port = await stack.enter_async_context(serving(silent, localhost_tls if "over" in stage else None))
        before = open_sockets()
        url = f"{'wss' if 'tls' in stage else 'ws'}://localhost:{port}/"
        began = asyncio.get_running_loop().time()
        if ending == "timeout":
            words = "connected, but no answer" if "answer" in stage else "no connection"
            with pytest.raises(LinkFailed, match=f"{words}.* within 0.4 s"):
                await dialled(url, connect_timeout_s=0.4, ca_file=str(authority.file))
            assert 0.3 < asyncio.get_running_loop().time() - began < 1
        else:
            task = asyncio.create_task(dialled(url, ca_file=str(authority.file)))
            await asyncio.sleep(0.4)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        async with asyncio.timeout(1):  # the server's side of it goes too
            while open_sockets() - before:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("turns", range(0, 40, 3))
async def test_cancelled_at_any_moment_no_socket_is_left(
    turns: int, authority: Authority, localhost_tls: ssl.SSLContext
):
    async with third_party(ssl=localhost_tls) as port:
        before = open_sockets()
        task = asyncio.create_task(dialled(f"wss://localhost:{port}/", ca_file=str(authority.file)))
        for _ in range(turns):
            await asyncio.sleep(0.0005)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            (await task).abort(1000, "")
        async with asyncio.timeout(2):
            while open_sockets() - before:
                await asyncio.sleep(0.01)
                # asyncio (3.11) loses the socket of a create_connection that is cancelled just when the first of the
                # addresses has answered; nobody has it any more, and the collector closes it.
                gc.collect()


@pytest.mark.parametrize("reset", [False, True])
async def test_a_server_that_closes_instead_of_answering(reset: bool):
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        if reset:
            linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    words = "reset by peer" if reset else "closed the connection without an answer"
    async with serving(close) as port:
        with pytest.raises(LinkFailed, match=words):
            await dialled(f"ws://127.0.0.1:{port}/")


# TLS


async def test_tls_is_verified_and_the_server_sees_the_name(authority: Authority):
    names: list[str | None] = []
    tls = authority.server("DNS:localhost,IP:127.0.0.1")
    tls.sni_callback = lambda _, name, __: names.append(name)
    async with third_party(ssl=tls) as port:
        for host in ("localhost", "127.0.0.1"):
            link = await dialled(f"wss://{host}:{port}/", {"X-Key": SECRET}, ca_file=str(authority.file))
            ear = Ear(link)
            link.send("over TLS")
            assert await ear.message() == "over TLS"
            link.close(1000, "")
            assert await ear.end() == (1000, "")
    assert names == ["localhost", None]  # RFC 6066: an address is no server name


async def test_a_wrong_name_is_told_in_clear_words_and_can_be_overlooked(authority: Authority):
    async with third_party(ssl=authority.server("DNS:pbx.example")) as port:
        with pytest.raises(LinkFailed) as raised:
            await dialled(f"wss://localhost:{port}/?k={'q' * 9}", {"X-Key": SECRET}, ca_file=str(authority.file))
        assert str(raised.value) == (
            f"localhost:{port}: the server's certificate is not accepted: "
            "Hostname mismatch, certificate is not valid for 'localhost'"
        )
        link = await dialled(f"wss://localhost:{port}/", verify=False)
        ear = Ear(link)
        link.send("all the same")
        assert await ear.message() == "all the same"
        link.abort(1000, "")


async def test_an_unknown_authority_is_told_and_a_renewed_file_is_read_again(authority: Authority, tmp_path: Path):
    other = Authority(tmp_path)
    async with third_party(ssl=authority.server("DNS:localhost")) as port:
        for ca_file in ("", str(other.file)):
            with pytest.raises(LinkFailed, match="certificate is not accepted: unable to get local issuer"):
                await dialled(f"wss://localhost:{port}/", ca_file=ca_file)
        other.file.write_bytes(authority.file.read_bytes())
        (await dialled(f"wss://localhost:{port}/", ca_file=str(other.file))).abort(1000, "")
        os.mkfifo(tmp_path / "pipe")
        for path, words in (
            *(("missing.pem", "No such file"), ("ca.key", "it holds no certificate")),
            *(("pipe", "it is no file"), ("", "it is no file")),
        ):
            with pytest.raises(LinkFailed, match=f"ca_file .*{path} cannot be used: {words}"):
                await dialled(f"wss://localhost:{port}/", ca_file=str(tmp_path / path))


async def test_a_certificate_made_by_hand_can_be_its_own_authority(authority: Authority):
    tls, file = authority.by_hand("DNS:localhost")
    async with third_party(ssl=tls) as port:
        (await dialled(f"wss://localhost:{port}/", ca_file=str(file))).abort(1000, "")
        for url, ca_file in ((f"wss://127.0.0.1:{port}/", file), (f"wss://localhost:{port}/", authority.file)):
            with pytest.raises(LinkFailed, match="certificate is not accepted"):
                await dialled(url, ca_file=str(ca_file))


async def test_a_server_without_tls():
    async def complain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()

    async with serving(complain) as port:
        with pytest.raises(LinkFailed, match=f"^localhost:{port}: TLS failed: wrong version number$"):
            await dialled(f"wss://localhost:{port}/")


async def test_a_server_that_closes_within_the_tls_handshake(authority: Authority):
    async def close(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read(100)

    async with serving(close) as port:
        with pytest.raises(LinkFailed, match=f"^localhost:{port}: .+"):
            await dialled(f"wss://localhost:{port}/", ca_file=str(authority.file))


# Credentials over plain connections


async def test_a_credential_without_tls_is_warned_of_once(caplog: pytest.LogCaptureFixture):
    port = free_port()
    host = socket.gethostname()
    for _ in range(2):
        with pytest.raises(LinkFailed):
            await dialled(f"ws://{host}:{port}/?key=abc", {"Authorization": SECRET}, connect_timeout_s=1)
    warnings = [record.getMessage() for record in caplog.records if record.name == "bridge.media.dial"]
    assert len(warnings) == 1
    assert f"ws://{host.lower()}:{port}, " in warnings[0]
    assert SECRET not in caplog.text
    caplog.clear()
    with pytest.raises(LinkFailed):
        await dialled(f"ws://{host}:{port}/")
    with pytest.raises(LinkFailed):
        await dialled(f"ws://127.0.0.1:{port}/", {"Authorization": SECRET})
    assert not caplog.records
