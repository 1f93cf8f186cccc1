"""Addresses, paths and the words of errors."""

from __future__ import annotations

import aiohttp
import pytest

from bridge.ari.client import AriClient
from bridge.ari.rest import Rest, api_url, error_message, explain_failure, explain_status, segment
from bridge.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "ari"),
    [
        ("http://127.0.0.1:8088", "http://127.0.0.1:8088/ari"),
        ("http://127.0.0.1:8088/", "http://127.0.0.1:8088/ari"),
        ("http://pbx:8088/ari/", "http://pbx:8088/ari"),
        ("https://pbx.example:8089/asterisk", "https://pbx.example:8089/asterisk/ari"),
        ("http://[::1]:8088", "http://[::1]:8088/ari"),
    ],
)
def test_the_address_of_ari(given: str, ari: str) -> None:
    assert str(api_url(given)) == ari


@pytest.mark.parametrize("given", ["", "pbx:8088", "ws://pbx:8088", "http://", "http://u:secret@pbx:8088"])
def test_unusable_addresses_are_the_administrators_fault_and_are_not_repeated(given: str) -> None:
    with pytest.raises(ConfigError) as caught:
        api_url(given)
    assert caught.value.key == "ari.url"
    assert "secret" not in str(caught.value)


def test_an_application_needs_a_name() -> None:
    with pytest.raises(ConfigError, match=r"ari\.app"):
        AriClient("http://127.0.0.1:8088", "u", "p", "")


def test_ids_stay_one_piece_of_a_path() -> None:
    assert segment("a/../b c?d#e;2") == "a%2F..%2Fb%20c%3Fd%23e%3B2"


def test_credentials_are_in_no_address_and_no_representation() -> None:
    client = AriClient("http://127.0.0.1:8088", "bridge", "s3cret", "app")
    assert "s3cret" not in client.url
    assert "s3cret" not in f"{client!r} {Rest('http://127.0.0.1', 'u', 's3cret')!r}"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"message":"Channel not found"}', "Channel not found"),
        (b'{"error":"Allocation failed"}', "Allocation failed"),
        (b"<html>Not Found</html>", ""),
        (b"", ""),
        (b'["message"]', ""),
        (b"\xff", ""),
    ],
)
def test_asterisks_own_words(body: bytes, words: str) -> None:
    assert error_message(body) == words


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (401, "", "ari.password"),
        (404, "", "ari.conf"),
        (404, "Channel not found", "Channel not found"),
        (403, "", "read_only"),
        (503, "", "sessionlimit"),
        (500, "", "no reason given"),
    ],
)
def test_what_an_administrator_can_do(status: int, message: str, expected: str) -> None:
    assert expected in explain_status(status, message)


def test_why_no_answer_came() -> None:
    assert explain_failure(TimeoutError()) == "no answer in time"
    assert explain_failure(aiohttp.ServerDisconnectedError()) == "Asterisk closed the connection"
