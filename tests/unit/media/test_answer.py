"""What a server's refusal tells the administrator."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.media.answer import EXCERPT_CHARS, MAX_BODY_BYTES, Answer, NotHttp


def answer(*headers: str, first: str = "HTTP/1.1 401 Unauthorized") -> Answer:
    return Answer.parse("\r\n".join([first, *headers]).encode("latin-1"))


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


@pytest.mark.parametrize(
    "first", ["", "HTTP/2 200 OK", "HTTP/1.1 20 OK", "HTTP/1.1 0200 OK", "HTTP/1.1  200 OK", "GET /"]
)
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
        (["Transfer-Encoding: chunked"], b"3;x=y\r\nno \r\n4\r\nkey!\r\n0\r\n\r\n", "no key!"),
        (["Transfer-Encoding: chunked"], b"3\r\nno \r\n40\r\nkey", "no key"),
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


def test_when_the_body_is_all_there() -> None:
    assert not answer().complete(b"")
    assert answer().complete(b"x" * MAX_BODY_BYTES)
    assert [answer("content-length: 3").complete(b"x" * n) for n in (2, 3)] == [False, True]
    assert not answer("content-length: many").complete(b"x")
    chunked = answer("transfer-encoding: chunked")
    assert [chunked.complete(body) for body in (b"1\r\nx\r\n", b"1\r\nx\r\n0\r\n\r\n")] == [False, True]


@pytest.mark.parametrize("block", [b"1\r\nx\r\n", b"<", b"<style", b"0;"])
def test_only_the_beginning_of_a_long_body_is_read(block: bytes) -> None:
    refusal = answer("Transfer-Encoding: chunked", "Content-Type: text/html")
    begun = (block * MAX_BODY_BYTES)[:MAX_BODY_BYTES]
    assert refusal.words(begun + block * 50_000, []) == refusal.words(begun, [])


def test_a_length_that_no_number_can_hold_is_never_reached() -> None:
    assert not answer("content-length: " + "9" * 6000).complete(b"x")


def test_an_upgrade_is_brought_into_the_form_that_picows_knows() -> None:
    head = answer("CONNECTION: keep-alive, Upgrade", "Sec-WebSocket-Accept: a=", first="HTTP/1.1 101 ").upgrade()
    assert head == (b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nsec-websocket-accept: a=\r\n\r\n")
    assert b"connection: close\r\n" in answer("Connection: close", first="HTTP/1.1 101 ").upgrade()


@given(st.binary(max_size=300), st.sampled_from([[], ["Transfer-Encoding: chunked"], ["Content-Type: text/html"]]))
def test_any_body_gives_one_short_line(body: bytes, headers: list[str]) -> None:
    words = answer(*headers).words(body, [])
    assert words.isprintable()
    assert len(words) <= len("401 Unauthorized: ") + EXCERPT_CHARS
