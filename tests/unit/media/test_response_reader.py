"""What the administrator reads if a server rejects a connection."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.media.response_head import EXCERPT_CHARS, MAX_BODY_BYTES, NotHttp, ResponseHead
from bridge.media.response_reader import MAX_BODY_PARTS, MAX_HEAD_BYTES, AnswerReader


def read(data: bytes, step: int = 0) -> AnswerReader:
    """Return a reader's result for ``data``, which arrives in pieces of ``step`` bytes; 0: in one."""
    reader = AnswerReader()
    for at in range(0, len(data), step or len(data)):
        if not reader.complete:
            reader.feed(data[at : at + (step or len(data))])
    return reader


def answer(*headers: str, first: str = "HTTP/1.1 401 Unauthorized") -> ResponseHead:
    made = read("\r\n".join([first, *headers, "", ""]).encode("latin-1")).answer
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("first", "words"),
    [
        ("HTTP/1.1 401 Unauthorized", "401 Unauthorized"),
        ("HTTP/1.0 403 No, thank you", "403 No, thank you"),
        ("HTTP/1.1 503 ", "503"),
        ("HTTP/1.1 503", "503"),
    ],
)
def test_the_status_line(first: str, words: str) -> None:
    assert answer(first=first).words(b"", []) == words


@pytest.mark.parametrize("first", ["HTTP/2 200 OK", "HTTP/1.1 20 OK", "HTTP/1.1 0200 OK", "HTTP/1.1  200 OK", "GET /"])
def test_what_is_no_status_line(first: str) -> None:
    with pytest.raises(NotHttp):
        answer(first=first)


@pytest.mark.parametrize(
    ("headers", "body", "words"),
    [
        ([], b"plain", "plain"),
        ([], b" two\r\n\tlines\x00\x1b[31m ", "two lines [31m"),
        ([], "häh \u202e!".encode(), "häh !"),
        ([], b"\xff\xfe", "\ufffd\ufffd"),
        (["Content-Type: text/html"], b"<style>p{}</style><h1>No</h1><p class='x'>key", "No key"),
        (["Content-Type: text/html"], b"No key<style>p{} that never ends", "No key"),
        (["Content-Type: application/json"], b'{"error": "<no key>"}', '{"error": "<no key>"}'),
        (["Content-Encoding: gzip"], b"\x1f\x8b\x08", ""),
    ],
)
def test_the_excerpt_is_one_readable_line(headers: list[str], body: bytes, words: str) -> None:
    assert answer(*headers).words(body, []) == f"401 Unauthorized: {words}".removesuffix(": ")


def test_the_excerpt_is_short() -> None:
    words = answer().words(b"x" * 10_000, [])
    assert words == "401 Unauthorized: " + "x" * (EXCERPT_CHARS - 3) + "..."
    assert len(answer(first="HTTP/1.1 401 " + "y" * 10_000).words(b"", [])) == len("401 ") + EXCERPT_CHARS


def test_secrets_are_hidden_whole_and_in_parts_even_at_the_cut() -> None:
    secret = "Bearer abcdef123456"
    for said in (secret, "abcdef123456", "key=abcdef123456&", "x" * (EXCERPT_CHARS - 6) + "abcdef123456"):
        words = answer(first=f"HTTP/1.1 400 {said}").words(said.encode(), [secret])
        assert "abcdef" not in words
        assert "***" in words
    # Short values would turn everything else into asterisks.
    assert answer().words(b"no key 1", ["1", ""]) == "401 Unauthorized: no key 1"


def test_a_redirect_says_where_to_but_not_with_which_query() -> None:
    for location, shown in (
        ("wss://new.example/x?key=1#f", "wss://new.example/x"),
        ("/login", "/login"),
        ("http://[::1", "http://[::1"),
    ):
        words = answer(f"Location: {location}", first="HTTP/1.1 301 Moved").words(b"", [])
        assert words == f"301 Moved to {shown} (redirects are not followed)"


REFUSAL = b"HTTP/1.1 401 Unauthorized\r\n"
CHUNKED = REFUSAL + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("step", [0, 1, 7])
@pytest.mark.parametrize(
    ("data", "body", "complete"),
    [
        (REFUSAL + b"\r\nno key", b"no key", False),
        (REFUSAL + b"Content-Length: 6\r\n\r\nno key", b"no key", True),
        (REFUSAL + b"Content-Length: 100\r\n\r\nno key", b"no key", False),
        (CHUNKED + b"3;x=y\r\nno \r\n4\r\nkey!\r\n0\r\n\r\n", b"no key!", True),
        (CHUNKED + b"3\r\nno \r\n40\r\nkey", b"no key", False),
        (CHUNKED + b"3\r\nno \r\nnot a size\r\n", b"no ", True),  # what there is of it
        (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + REFUSAL + b"Content-Length: 0\r\n\r\n", b"", True),
    ],
)
def test_a_response_is_read_however_it_arrives(data: bytes, body: bytes, complete: bool, step: int) -> None:
    reader = read(data, step)
    assert reader.answer is not None
    assert (reader.answer.status, reader.body, reader.complete) == (401, body, complete)


@pytest.mark.parametrize("step", [0, 1, 7])
def test_what_follows_an_upgrade_is_the_websockets(step: int) -> None:
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    reader = AnswerReader()
    data = head + b"\x81\x05hello" * 10_000
    for at in range(0, len(data), step or len(data)):
        reader.feed(data[at : at + (step or len(data))])
        if reader.answer is not None:
            break
    assert reader.answer is not None
    assert reader.answer.status == 101
    assert data.startswith(head + reader.body)
    if not step:
        assert head + reader.body == data


@pytest.mark.parametrize("head", [REFUSAL + b"X: ", b"HTTP/1.1 103 Early Hints\r\nLink: ", b"HTTP/1.1 4"])
@pytest.mark.parametrize("step", [0, 1000, MAX_HEAD_BYTES])
def test_the_head_is_bounded(head: bytes, step: int) -> None:
    with pytest.raises(NotHttp, match=f"exceeds {MAX_HEAD_BYTES} bytes"):
        read(head + b"x" * 100_000, step)


def test_the_body_is_bounded_in_bytes_and_in_chunks() -> None:
    reader = read(REFUSAL + b"\r\n" + b"x" * 1_000_000, step=65536)
    assert reader.complete
    assert MAX_BODY_BYTES <= len(reader.body) <= MAX_HEAD_BYTES
    reader = read(CHUNKED + b"1\r\nx\r\n" * 100_000, step=262144)
    assert (reader.complete, len(reader.body)) == (True, MAX_BODY_PARTS)
    reader = read(CHUNKED + b"f" * 100_000)
    assert (reader.complete, reader.body) == (True, b"")


def test_a_head_that_no_number_can_hold_is_no_http() -> None:
    with pytest.raises(NotHttp):
        read(REFUSAL + b"Content-Length: " + b"9" * 6000 + b"\r\n\r\nx")


@given(st.lists(st.binary(max_size=60), max_size=8), st.sampled_from([b"", REFUSAL, CHUNKED, b"HTTP/1.1 101 x\r\n"]))
def test_anything_is_read_or_refused(pieces: list[bytes], begin: bytes) -> None:
    reader = AnswerReader()
    try:
        for piece in filter(None, [begin, *pieces]):
            reader.feed(piece)
    except NotHttp:
        return
    assert reader.answer is None or 101 <= reader.answer.status <= 999


@pytest.mark.parametrize("block", [b"<", b"<style"])
def test_only_the_beginning_of_a_long_body_is_read(block: bytes) -> None:
    refusal = answer("Content-Type: text/html")
    begun = (block * MAX_BODY_BYTES)[:MAX_BODY_BYTES]
    assert refusal.words(begun + block * 50_000, []) == refusal.words(begun, [])


def test_an_upgrade_is_brought_into_the_form_that_picows_knows() -> None:
    head = answer("CONNECTION: keep-alive, Upgrade", "Sec-WebSocket-Accept: a=", first="HTTP/1.1 101 ").upgrade()
    assert head == (b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nsec-websocket-accept: a=\r\n\r\n")
    assert b"connection: close\r\n" in answer("Connection: close", first="HTTP/1.1 101 ").upgrade()


@given(st.binary(max_size=300), st.sampled_from([[], ["Content-Type: text/html"]]))
def test_any_body_gives_one_short_line(body: bytes, headers: list[str]) -> None:
    words = answer(*headers).words(body, [])
    assert words.isprintable()
    assert len(words) <= len("401 Unauthorized: ") + EXCERPT_CHARS
