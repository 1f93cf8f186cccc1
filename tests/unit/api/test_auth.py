"""Who gets in: tokens in every place, and strangers' web pages where there is no token."""

from __future__ import annotations

import pytest

from bridge.api.auth import Gate, offered_tokens
from bridge.api.errors import ApiError

TOKEN = "0123456789abcdef+/=="
OTHER = "another-good-token"


def refusal(gate: Gate, cookies: dict[str, str], query: dict[str, str], headers: dict[str, str]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        gate.check(cookies, query, headers)
    return caught.value


@pytest.mark.parametrize(
    ("cookies", "query", "headers"),
    [
        ({"token": TOKEN}, {}, {}),
        ({}, {"token": TOKEN}, {}),
        ({}, {"token": TOKEN.replace("+", " ")}, {}),  # "+" sent without percent-encoding
        ({}, {}, {"Authorization": f"Bearer {TOKEN}"}),
        ({}, {}, {"Authorization": f"bearer   {TOKEN} "}),
        ({"accesskey": TOKEN}, {}, {}),
        ({}, {"accesskey": TOKEN}, {}),
        ({}, {"accesskey": OTHER}, {}),
        ({"token": "stale"}, {"token": TOKEN}, {}),
        ({}, {"token": TOKEN}, {"Origin": "https://elsewhere.example", "Host": "bridge.example"}),
    ],
)
def test_a_good_token_is_good_wherever_it_is(
    cookies: dict[str, str], query: dict[str, str], headers: dict[str, str]
) -> None:
    Gate([OTHER, TOKEN]).check(cookies, query, headers)


@pytest.mark.parametrize(
    ("cookies", "query", "headers", "reason"),
    [
        ({}, {}, {}, "AUTHENTICATION_REQUIRED"),
        ({"token": ""}, {"token": ""}, {"Authorization": ""}, "AUTHENTICATION_REQUIRED"),
        ({}, {}, {"Authorization": f"Basic {TOKEN}"}, "AUTHENTICATION_REQUIRED"),
        ({}, {}, {"Authorization": TOKEN}, "AUTHENTICATION_REQUIRED"),
        ({}, {"token": TOKEN[:-1]}, {}, "INVALID_CREDENTIALS"),
        ({}, {"token": TOKEN + "="}, {}, "INVALID_CREDENTIALS"),
        ({}, {"token": TOKEN.upper()}, {}, "INVALID_CREDENTIALS"),
        *(
            ({}, {}, {"Authorization": f"Bearer {odd}"}, "INVALID_CREDENTIALS")
            for odd in ("\ud800", "\udcff", "ü", "\0")
        ),
        ({}, {"token": "tökén"}, {}, "INVALID_CREDENTIALS"),
        ({}, {"token": "\udcff\x00"}, {}, "INVALID_CREDENTIALS"),
        ({"other": TOKEN}, {"accesskey": "x"}, {}, "INVALID_CREDENTIALS"),
    ],
)
def test_nothing_else_gets_in(
    cookies: dict[str, str], query: dict[str, str], headers: dict[str, str], reason: str
) -> None:
    error = refusal(Gate([OTHER, TOKEN]), cookies, query, headers)
    assert (error.status, error.reason) == (401, reason)
    assert TOKEN not in error.message
    assert "WWW-Authenticate" in error.headers


def test_tokens_are_taken_in_voipbins_order() -> None:
    found = offered_tokens({"token": "a", "accesskey": "d"}, {"token": "b", "accesskey": "e"}, "Bearer c")
    assert found == ["a", "b", "c", "d", "e"]


ELSEWHERE = {"Host": "bridge.example", "Origin": "https://elsewhere.example"}


@pytest.mark.parametrize(
    ("query", "authorization"), [({}, ""), ({"token": "wrong"}, ""), ({}, "Bearer wrong"), ({"accesskey": "wrong"}, "")]
)
def test_a_cookie_lets_no_page_from_elsewhere_change_anything(query: dict[str, str], authorization: str) -> None:
    gate, cookies = Gate([TOKEN]), {"token": TOKEN}
    headers = {"Authorization": authorization}
    gate.check(cookies, query, ELSEWHERE | headers)
    gate.check(cookies, query, {"Host": "bridge.example", "Origin": "https://bridge.example"} | headers, changes=True)
    gate.check(cookies, query, {"Host": "bridge.example"} | headers, changes=True)  # no browser
    for from_elsewhere in (ELSEWHERE, {"Host": "bridge.example", "Sec-Fetch-Site": "cross-site"}):
        with pytest.raises(ApiError) as caught:
            gate.check(cookies, query, from_elsewhere | headers, changes=True)
        assert (caught.value.status, caught.value.reason) == (403, "ORIGIN_NOT_ALLOWED")


def test_who_shows_a_token_may_be_a_page_from_anywhere() -> None:
    Gate([TOKEN]).check({"token": TOKEN}, {"token": TOKEN}, ELSEWHERE, changes=True)
    Gate([TOKEN]).check({}, {}, ELSEWHERE | {"Authorization": f"Bearer {TOKEN}"}, changes=True)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "127.0.0.1:8080"},
        {"Host": "localhost"},
        {"Host": "[::1]:8080"},
        {"Host": "localhost:8080", "Origin": "http://localhost:8080"},
        {"Host": "localhost", "Origin": "http://localhost:80"},
        {"Host": "localhost:443", "Origin": "https://localhost"},
        {"Host": "localhost:8080", "Origin": "http://LOCALHOST:8080"},
        {"Host": "localhost:8080", "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"},
        {"Host": "localhost:8080", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},  # a clicked link
    ],
)
def test_without_tokens_this_machine_gets_in(headers: dict[str, str]) -> None:
    Gate([]).check({}, {}, headers)


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "HOST_NOT_LOCAL"),
        ({"Host": "rebound.example:8080"}, "HOST_NOT_LOCAL"),
        ({"Host": "127.0.0.1.rebound.example"}, "HOST_NOT_LOCAL"),
        ({"Host": "user@127.0.0.1@rebound.example"}, "HOST_NOT_LOCAL"),
        ({"Host": "[::1"}, "HOST_NOT_LOCAL"),
        ({"Host": "127.0.0.1:8080", "Origin": "https://elsewhere.example"}, "ORIGIN_NOT_ALLOWED"),
        ({"Host": "127.0.0.1:8080", "Origin": "http://127.0.0.1:9999"}, "ORIGIN_NOT_ALLOWED"),
        ({"Host": "127.0.0.1:8080", "Origin": "http://localhost:8080"}, "ORIGIN_NOT_ALLOWED"),
        ({"Host": "127.0.0.1:8080", "Origin": "null"}, "ORIGIN_NOT_ALLOWED"),
        ({"Host": "127.0.0.1:8080", "Origin": ""}, "ORIGIN_NOT_ALLOWED"),
        ({"Host": "127.0.0.1:8080", "Origin": "http://[::1"}, "ORIGIN_NOT_ALLOWED"),
        ({"Host": "127.0.0.1:8080", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, "ORIGIN_NOT_ALLOWED"),
    ],
)
def test_without_tokens_strangers_are_refused(headers: dict[str, str], reason: str) -> None:
    error = refusal(Gate([]), {}, {}, headers)
    assert (error.status, error.reason) == (403, reason)
