"""Destinations are checked when they are configured; waits grow; some Close codes are final."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from bridge.media.dial import Backoff, Destination, clean


@pytest.mark.parametrize(
    ("url", "secure", "host", "port", "resource", "where"),
    [
        ("ws://localhost", False, "localhost", 80, "/", "localhost:80"),
        ("wss://Media.Example/a/b?x=1&y", True, "media.example", 443, "/a/b?x=1&y", "media.example:443"),
        ("wss://media.example.:8443/?", True, "media.example.", 8443, "/", "media.example.:8443"),
        ("ws://[::1]:9000/%20?a=%3F?", False, "::1", 9000, "/%20?a=%3F?", "[::1]:9000"),
        ("ws://10.0.0.1?x", False, "10.0.0.1", 80, "/?x", "10.0.0.1:80"),
    ],
)
def test_the_parts_of_a_url(url: str, secure: bool, host: str, port: int, resource: str, where: str) -> None:
    to = Destination(url)
    assert (to.secure, to.host, to.port, to.resource, to.where) == (secure, host, port, resource, where)
    assert to.authority == url.split("//", 1)[1].split("/", 1)[0].split("?", 1)[0]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://media.example/", "begin with ws://"),
        ("media.example", "begin with ws://"),
        ("wss:///path", "no valid host"),
        ("wss://a..b/", "no valid host"),
        ("wss://.b/", "no valid host"),
        (f"wss://{'a' * 64}.example/", "no valid host"),
        ("wss://user:pw@media.example/", "credentials in a header"),
        ("wss://media.example/#top", "fragment"),
        ("wss://media.example:0/", "port"),
        ("wss://media.example:65536/", "port"),
        ("wss://media.example:x/", "port"),
        ("wss://media.example/a b", "Percent-encode"),
        ("wss://media.example/a\r\nX-Evil: 1", "Percent-encode"),
        ("wss://médiä.example/", "xn--"),
        ("wss://[::1/", "Invalid IPv6"),
    ],
)
def test_a_url_that_cannot_be(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Destination(url)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("X-Key", "s3cr3t\r\nX-Evil: 1", "printable ASCII"),
        ("X-Key", "s3cr3t\n", "printable ASCII"),
        ("X-Key", "s3cr3t\x00", "printable ASCII"),
        ("X-Key", " s3cr3t", "no space at either end"),
        ("X-Key", "s3cr3t\udc80", "printable ASCII"),
        ("X-Key: s", "s3cr3t", "not a header name"),
        ("X-Key\r\n", "s3cr3t", "not a header name"),
        ("", "s3cr3t", "not a header name"),
        ("Schlüssel", "s3cr3t", "not a header name"),
        ("Sec-WebSocket-Extensions", "s3cr3t", "handshake itself"),
        ("HOST", "s3cr3t", "handshake itself"),
    ],
)
def test_a_header_that_cannot_be_is_refused_without_its_value(name: str, value: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as raised:
        Destination("wss://media.example/", {name: value})
    assert "s3cr3t" not in str(raised.value)


def test_nothing_secret_is_ever_shown() -> None:
    to = Destination("wss://media.example/x?key=s3cr3t-one", {"X-Key": "s3cr3t-two"})
    for shown in (repr(to), str(to), f"{to}", repr([to]), repr(replace(to, verify=False)), to.where):
        assert "s3cr3t" not in shown
        assert "media.example" in shown
    assert set(to.secrets) >= {"s3cr3t-one", "s3cr3t-two"}


def test_a_destination_is_a_value() -> None:
    headers = {"X-Key": "one"}
    to = Destination("wss://media.example/", headers)
    headers["X-Key"] = "two\r\n"
    assert to.headers["X-Key"] == "one"
    assert to == Destination("wss://media.example/", {"X-Key": "one"})
    assert to != Destination("wss://media.example/", {"X-Key": "two"})
    assert len({to, replace(to)}) == 1


@pytest.mark.parametrize(
    ("url", "exposed"),
    [
        ("ws://media.example/", True),
        ("ws://192.0.2.1/", True),
        ("ws://[2001:db8::1]/", True),
        ("ws://localhost.example/", True),
        ("wss://media.example/", False),
        ("ws://localhost:8080/", False),
        ("ws://127.0.0.53/", False),
        ("ws://[::1]/", False),
    ],
)
def test_who_can_read_the_headers(url: str, exposed: bool) -> None:
    assert Destination(url, {"X-Key": "abc"}).exposes_headers == exposed
    assert not Destination(url).exposes_headers


def test_waits_double_up_to_the_last_and_begin_anew() -> None:
    backoff = Backoff(0.5, 15, jitter=0)
    waits = [0.5, 1, 2, 4, 8, 15, 15, 15]
    assert [backoff.next_delay() for _ in waits] == waits
    backoff.reset()
    assert backoff.next_delay() == 0.5


def test_chance_takes_away_at_most_its_share() -> None:
    waits = []
    for seed in range(200):
        backoff = Backoff(1, 10, factor=3, jitter=0.4, chance=random.Random(seed))
        waits.append([backoff.next_delay() for _ in range(5)])
    for step, full_s in enumerate((1, 3, 9, 10, 10)):
        at_step = [series[step] for series in waits]
        assert full_s * 0.6 <= min(at_step) < full_s * 0.65
        assert full_s * 0.95 < max(at_step) <= full_s
    assert waits[0] == [
        backoff.next_delay()
        for backoff in [Backoff(1, 10, factor=3, jitter=0.4, chance=random.Random(0))]
        for _ in "12345"
    ]


def test_two_that_begin_together_do_not_stay_together() -> None:
    one, other = Backoff(), Backoff()
    assert [one.next_delay() for _ in range(8)] != [other.next_delay() for _ in range(8)]


def test_a_long_outage_makes_no_number_too_large() -> None:
    backoff = Backoff(jitter=0)
    assert [backoff.next_delay() for _ in range(5000)][-1] == 15


@pytest.mark.parametrize(
    "numbers",
    [{"first_s": 0}, {"first_s": 20}, {"factor": 0.5}, {"jitter": 1.1}, {"jitter": -0.1}, {"last_s": -1}],
)
def test_numbers_that_make_no_series(numbers: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="backoff"):
        Backoff(**numbers)


def test_which_close_codes_are_final() -> None:
    assert [code for code in range(1000, 5000) if clean(code)] == [1000, 1005]
