"""Who gets in: tokens in every place, and strangers' web pages where there is no token."""

from __future__ import annotations

import pytest

from bridge.access import Grant
from bridge.api.auth import Authenticator, offered_tokens, token_cookies
from bridge.api.errors import ApiError
from bridge.api.tokens import Tokens, hash_of

TOKEN = "0123456789abcdef+/=="
OTHER = "another-good-token"


def gate(*tokens: str) -> Authenticator:
    return Authenticator(Tokens.plain(tokens))


def refusal(it: Authenticator, cookies: dict[str, str], query: dict[str, str], headers: dict[str, str]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        it.check(cookies, query, headers)
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
    gate(OTHER, TOKEN).check(cookies, query, headers)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("", {}),
        (f"token={TOKEN}", {"token": TOKEN}),
        (f'a=b; accesskey="{TOKEN}" ;c', {"accesskey": TOKEN}),
        (" token = a=b; token=c ; xtoken=d; Token=e", {"token": "c"}),
        ("token", {"token": ""}),
        ("a=;" * 2700, {}),
    ],
)
def test_cookies_that_hold_a_token(header: str, found: dict[str, str]) -> None:
    assert token_cookies(header) == found


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
    error = refusal(gate(OTHER, TOKEN), cookies, query, headers)
    assert (error.status, error.reason) == (401, reason)
    assert TOKEN not in error.message
    assert "WWW-Authenticate" in error.headers


def test_tokens_are_taken_in_voipbins_order() -> None:
    found = offered_tokens({"token": "a", "accesskey": "d"}, {"token": "b", "accesskey": "e"}, "Bearer c")
    assert found == ["a", "b", "c", "d", "e"]


ELSEWHERE = {"Host": "bridge.example", "Origin": "https://elsewhere.example"}


@pytest.mark.parametrize(
    ("query", "authorization"), [({"token": "wrong"}, ""), ({}, "Bearer wrong"), ({"accesskey": "wrong"}, "")]
)
@pytest.mark.parametrize(
    ("cookies", "good", "bearer"),
    [
        ({"token": TOKEN}, {}, ""),
        ({}, {"token": TOKEN}, f"Bearer {TOKEN}"),
        ({}, {"accesskey": TOKEN}, f"Bearer {TOKEN}"),
        ({}, {}, f"Bearer {TOKEN}"),
    ],
)
def test_a_wrong_token_beside_a_good_one_is_rejected(
    cookies: dict[str, str], good: dict[str, str], bearer: str, query: dict[str, str], authorization: str
) -> None:
    shown = {"token": TOKEN, **good, **query} if good else query
    error = refusal(gate(TOKEN), cookies, shown, {"Authorization": authorization or bearer})
    assert (error.status, error.reason) == (401, "INVALID_CREDENTIALS")
    assert "is not a configured token" in error.message
    assert "wrong" not in error.message


def test_the_message_says_which_of_several_tokens_is_wrong() -> None:
    headers = {"Authorization": "Bearer wrong"}
    error = refusal(gate(TOKEN), {}, {"token": TOKEN}, headers)
    assert error.message == "token 2 of the 2 in header and query is not a configured token"
    gate(TOKEN).check({}, {"token": TOKEN}, {"Authorization": "Basic d3Jvbmc6d3Jvbmc="})  # a proxy's own: no token


@pytest.mark.parametrize("cookie", ["token", "accesskey"])
def test_a_cookie_counts_for_the_bridges_own_pages_only(cookie: str) -> None:
    it, cookies, query = gate(TOKEN), {cookie: TOKEN}, dict[str, str]()
    headers = {"Host": "bridge.example"}
    it.check(cookies, query, headers | {"Origin": "https://bridge.example"})
    it.check(cookies, query, headers | {"Sec-Fetch-Site": "same-origin"})
    it.check(cookies, query, headers | {"Sec-Fetch-Site": "none"})  # typed into the address bar
    it.check(cookies, query, headers)  # not a browser
    for foreign in (
        {"Origin": "https://elsewhere.example"},
        {"Origin": "https://other.bridge.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    ):
        with pytest.raises(ApiError) as caught:
            it.check(cookies, query, headers | foreign)
        assert (caught.value.status, caught.value.reason) == (403, "ORIGIN_NOT_ALLOWED")


def test_who_shows_a_token_may_be_a_page_from_anywhere() -> None:
    gate(TOKEN).check({"token": TOKEN}, {"token": TOKEN}, ELSEWHERE)
    gate(TOKEN).check({}, {}, ELSEWHERE | {"Authorization": f"Bearer {TOKEN}"})


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
    Authenticator(None).check({}, {}, headers)


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
    error = refusal(Authenticator(None), {}, {}, headers)
    assert (error.status, error.reason) == (403, reason)


@pytest.mark.parametrize("name", ["X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "Via"])
def test_without_authentication_a_proxy_is_refused(name: str) -> None:
    error = refusal(Authenticator(None), {}, {}, {"Host": "127.0.0.1:8080", name: "x"})
    assert (error.status, error.reason) == (403, "PROXY_NOT_ALLOWED")
    assert name in error.message
    gate(TOKEN).check({}, {"token": TOKEN}, {"Host": "127.0.0.1:8080", name: "x"})


def test_where_no_token_is_in_effect_nobody_gets_in() -> None:
    error = refusal(gate(), {}, {"token": ""}, {"Host": "127.0.0.1"})
    assert error.reason == "AUTHENTICATION_REQUIRED"
    assert refusal(gate(), {}, {"token": TOKEN}, {"Host": "127.0.0.1"}).reason == "INVALID_CREDENTIALS"


def test_the_principal_is_the_tokens_and_expires_with_it() -> None:
    now = 1000.0
    tokens = Tokens({hash_of(TOKEN): Grant("crm", frozenset({"calls:read"}), expires=2000.0)})
    it = Authenticator(tokens, lambda: now)
    principal = it.check({}, {"token": TOKEN}, {})
    assert (principal.id, principal.scopes) == ("crm", {"calls:read"})
    now = 2000.0
    error = refusal(it, {}, {"token": TOKEN}, {})
    assert (error.status, error.reason, error.message) == (401, "INVALID_CREDENTIALS", "the token has expired")


def test_an_expired_cookie_does_not_spoil_a_good_token() -> None:
    tokens = Tokens({hash_of(TOKEN): Grant("old", expires=1.0), hash_of(OTHER): Grant("new")})
    assert Authenticator(tokens).check({"token": TOKEN}, {"token": OTHER}, ELSEWHERE).id == "new"
