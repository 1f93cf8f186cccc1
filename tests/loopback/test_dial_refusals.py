"""Dialed servers that refuse or fail: their response is reported, without secrets, and whether to try again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from http import HTTPStatus

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from bridge.media.dial import LinkFailed, LinkRefused
from tests.fakes.garbage import uncollected

from .dialling import SECRET, Ear, dialed
from .servers import Authority, accept, answering, request, serving, text_frame, third_party

pytestmark = pytest.mark.usefixtures("nothing_is_left")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        *((status, LinkRefused) for status in (200, 301, 302, 400, 401, 403, 404, 410, 426)),
        *((status, LinkFailed) for status in (408, 425, 429, 500, 502, 503)),
    ],
)
async def test_the_status_says_whether_to_try_again(status: int, error: type[Exception]) -> None:
    phrase = HTTPStatus(status).phrase.encode()
    answer = b"HTTP/1.1 %d %b\r\nContent-Length: 9\r\n\r\nnot so:\r\n" % (status, phrase)
    async with serving(answering(answer)) as port:
        with pytest.raises(error) as raised:
            await dialed(f"ws://127.0.0.1:{port}/")
    assert str(raised.value).startswith(f"127.0.0.1:{port} answers {status} {HTTPStatus(status).phrase}")
    assert str(raised.value).endswith(": not so:")
    if isinstance(raised.value, LinkRefused):
        assert raised.value.status == status


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("stays", [False, True])
async def test_the_body_of_a_refusal_is_waited_for(
    secure: bool, stays: bool, authority: Authority, localhost_tls: ssl.SSLContext
) -> None:
    head = b"HTTP/1.1 401 Unauthorized\r\nContent-Type: text/html\r\n\r\n"
    serve_so = answering(head, b"<html><title>x</title><h1>No\nsuch key</h1>\n<p>" + b"long " * 100, stays=stays)
    async with serving(serve_so, localhost_tls if secure else None) as port:
        with pytest.raises(LinkRefused, match="401") as raised:
            await dialed(f"{'wss' if secure else 'ws'}://localhost:{port}/", ca_file=str(authority.file))
    words = raised.value.reason.split("Unauthorized: ")[1]
    assert words.startswith("No such key long long")
    assert len(words) == 200
    assert words.endswith("...")


async def test_a_refusal_counts_even_if_its_body_never_ends() -> None:
    async with serving(answering(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\nstop")) as port:
        for connect_timeout_s in (0.2, 3):
            with pytest.raises(LinkRefused, match=r"403 Forbidden: stop$"):
                await dialed(f"ws://127.0.0.1:{port}/", connect_timeout_s=connect_timeout_s)


async def test_a_third_partys_refusal() -> None:
    def check(connection: ServerConnection, _: Request) -> Response:
        return connection.respond(HTTPStatus.UNAUTHORIZED, "wrong key\n")

    async with third_party(process_request=check) as port:
        with pytest.raises(LinkRefused, match=r"401 Unauthorized: wrong key$"):
            await dialed(f"ws://127.0.0.1:{port}/")


async def test_redirects_are_told_and_not_followed() -> None:
    asked: list[bytes] = []

    async def elsewhere(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        asked.append(await request(reader))

    async with serving(elsewhere) as other:
        answer = b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:%d/x?key=abc\r\nContent-Length: 0\r\n\r\n" % other
        async with serving(answering(answer)) as port:
            with pytest.raises(LinkRefused) as raised:
                await dialed(f"ws://127.0.0.1:{port}/", {"Authorization": SECRET})
    assert raised.value.reason.endswith(f"302 Found to ws://127.0.0.1:{other}/x (redirects are not followed)")
    assert asked == []


async def test_no_secret_comes_back_in_an_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def repeat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await request(reader)
        writer.write(b"HTTP/1.1 400 %b\r\nContent-Length: %d\r\n\r\n%b" % (head.split(b"\r\n")[0], len(head), head))
        await reader.read()

    async with serving(repeat) as port:
        with pytest.raises(LinkRefused, match="400 GET /x") as raised:
            await dialed(f"ws://127.0.0.1:{port}/x?key=qu3ry-s3cret", {"Authorization": SECRET})
    for told in (str(raised.value), repr(raised.value), caplog.text):
        assert "s3cr3t" not in told
        assert "qu3ry" not in told


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "response is not HTTP"),
        (b"HTTP/2 200\r\n\r\n", "not HTTP/1.1"),
        (b"HTTP/1.1 abc\r\n\r\n", "not HTTP/1.1"),
        (b"HTTP/1.1 200 " + b"x" * 20000, "exceeds 16384 bytes"),
        (b"HTTP/1.1 101 Ok\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "invalid sec-websocket-accept"),
        (b"HTTP/1.1 101 Ok\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", "invalid upgrade header"),
        (b"HTTP/1.1 101 Ok\r\nUpgrade: websocket\r\nConnection: close\r\n\r\n", "invalid connection header"),
    ],
)
async def test_an_answer_that_is_no_handshake(answer: bytes, words: str) -> None:
    async with serving(answering(answer)) as port:
        with pytest.raises(LinkFailed, match=words):
            await dialed(f"ws://127.0.0.1:{port}/")


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\n", "more than 8 responses 1xx"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: " + b"x" * 3000 + b"\r\n\r\n", "exceeds 16384 bytes"),
    ],
)
async def test_informational_answers_without_end(block: bytes, words: str) -> None:
    async def inform(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        while True:
            writer.write(block * (262144 // len(block)))
            await writer.drain()

    async with serving(inform) as port:
        with pytest.raises(LinkFailed, match=words):
            await dialed(f"ws://127.0.0.1:{port}/")


@pytest.mark.parametrize(
    ("header", "block"),
    [
        (b"Content-Length: " + b"9" * 15, b"no "),
        (b"Content-Length: " + b"9" * 15, b"no " * 50_000),
        (b"Transfer-Encoding: chunked", b"1\r\nx\r\n" * 50_000),
        (b"Transfer-Encoding: chunked", b"f" * 200_000),
    ],
)
async def test_a_body_without_end(header: bytes, block: bytes) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(b"HTTP/1.1 403 Forbidden\r\n" + header + b"\r\n\r\n")
        while True:
            writer.write(block)
            await writer.drain()
            await asyncio.sleep(0)

    async with serving(refuse) as port:
        with pytest.raises(LinkRefused, match="answers 403 Forbidden"):
            await dialed(f"ws://127.0.0.1:{port}/")


async def test_a_handshake_whose_content_length_no_number_can_hold() -> None:
    async def agree(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = b"HTTP/1.1 101 Switching Protocols\r\nContent-Length: " + b"9" * 6000
        writer.write(accept(await request(reader), first))
        await reader.read()

    async with serving(agree) as port:
        with pytest.raises(LinkFailed, match=r"not HTTP/1\.1"):
            await dialed(f"ws://127.0.0.1:{port}/")


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        (b"30", 30),
        (b"999999999", 300),
        (b"9" * 5000, 0),
        (b"Fri, 31 Dec 2999 23:59:59 GMT", 300),
        (b"soon", 0),
        (b"-5", 0),
    ],
)
async def test_a_server_says_when_to_come_back(header: bytes, wait_s: float) -> None:
    async with serving(
        answering(b"HTTP/1.1 503 Busy\r\nRetry-After: %b\r\nContent-Length: 0\r\n\r\n" % header)
    ) as port:
        with pytest.raises(LinkFailed) as failed:
            await dialed(f"ws://127.0.0.1:{port}/")
    assert failed.value.retry_after_s == wait_s


@pytest.mark.parametrize(
    ("first", "connection"),
    [
        (b"HTTP/1.1 101 ", b"Upgrade"),
        (b"HTTP/1.1 101", b"upgrade"),
        (b"HTTP/1.1 101 Web Socket Protocol Handshake", b"keep-alive, Upgrade"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 101 Switching Protocols", b"Upgrade"),
    ],
)
async def test_unusual_but_right_handshakes(first: bytes, connection: bytes) -> None:
    async def agree(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in accept(await request(reader), first, connection):
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        writer.write(text_frame(b"welcome"))
        await reader.read()

    async with serving(agree) as port:
        link = await dialed(f"ws://127.0.0.1:{port}/")
        assert await Ear(link).message() == "welcome"
        link.abort(1000, "")


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", b"SSH-2.0\r\n\r\n"]
)
async def test_a_refusal_leaves_nothing_to_the_garbage_collector(answer: bytes) -> None:
    async with serving(answering(answer)) as port:
        with uncollected() as left:
            with contextlib.suppress(LinkFailed):  # pytest.raises would keep the traceback
                await dialed(f"ws://127.0.0.1:{port}/")
                pytest.fail("it was accepted")
            await asyncio.sleep(0)
    assert not left
