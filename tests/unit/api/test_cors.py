"""Pages of configured origins may use the API with a token; no other page, and none by a cookie."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp.test_utils import TestClient, TestServer

from bridge.api.server import build
from bridge.config import load
from bridge.errors import ConfigError

from .asking import Client
from .samples import TOKEN, Pbx

DASHBOARD = "https://dashboard.example.org"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    application = build(Pbx().backend(), [TOKEN], origins=[DASHBOARD])
    async with TestClient(TestServer(application)) as it:
        yield it


def allows(headers: object) -> list[str]:
    """Return the names of headers that allow something."""
    return [name for name in dict(headers) if name.startswith("Access-Control-Allow")]  # type: ignore[call-overload]


async def test_a_preflight_request_needs_no_token(client: Client) -> None:
    async with client.options("/v1.0/calls", headers={"Origin": DASHBOARD, **PREFLIGHT}) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == DASHBOARD
        assert "POST" in response.headers["Access-Control-Allow-Methods"]
        assert "Authorization" in response.headers["Access-Control-Allow-Headers"]
        assert response.headers["Vary"] == "Origin"
        assert "Access-Control-Allow-Credentials" not in response.headers


@pytest.mark.parametrize("headers", [BEARER, {}], ids=["with a token", "refused"])
async def test_the_page_may_read_answers_and_errors(client: Client, headers: dict[str, str]) -> None:
    async with client.get("/v1.0/calls", headers={"Origin": DASHBOARD, **headers}) as response:
        assert response.status == (200 if headers else 401)
        assert allows(response.headers) == ["Access-Control-Allow-Origin"]
        assert response.headers["Access-Control-Allow-Origin"] == DASHBOARD
        assert "X-Request-Id" in response.headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize(
    "origin",
    [
        *("https://dashboard.example.org.evil.example", "http://dashboard.example.org", "https://example.org", "null"),
        *("https://dashboard.example.org:8443", "HTTPS://DASHBOARD.EXAMPLE.ORG", "*", ""),
    ],
)
async def test_other_origins_are_allowed_nothing(client: Client, origin: str) -> None:
    async with client.options("/v1.0/calls", headers={"Origin": origin, **PREFLIGHT}) as response:
        assert response.status == 401
        assert allows(response.headers) == []
    async with client.get("/v1.0/calls", headers={"Origin": origin, **BEARER}) as response:
        assert allows(response.headers) == []
        assert response.headers["Vary"] == "Origin"


async def test_a_cookie_does_not_count_in_its_requests(client: Client) -> None:
    headers = {"Origin": DASHBOARD, "Cookie": f"token={TOKEN}"}
    async with client.get("/v1.0/calls", headers=headers) as response:
        assert response.status == 403
        assert (await response.json())["error"]["reason"] == "ORIGIN_NOT_ALLOWED"


async def test_options_without_a_preflight_are_as_ever(client: Client) -> None:
    async with client.options("/v1.0/calls", headers={"Origin": DASHBOARD}) as response:
        assert response.status == 401


async def test_without_the_setting_nothing_is_added() -> None:
    async with TestClient(TestServer(build(Pbx().backend(), [TOKEN]))) as client:
        async with client.options("/v1.0/calls", headers={"Origin": DASHBOARD, **PREFLIGHT}) as response:
            assert response.status == 401
            assert allows(response.headers) == []
        async with client.get("/v1.0/calls", headers={"Origin": DASHBOARD, **BEARER}) as response:
            assert (allows(response.headers), "Vary" in response.headers) == ([], False)


ENVIRON = {"ASTERISK_BRIDGE_ARI__USER": "u", "ASTERISK_BRIDGE_ARI__PASSWORD": "p"}


@pytest.mark.parametrize(
    ("written", "origin"),
    [
        ("https://Dashboard.example.org/", "https://dashboard.example.org"),
        ("https://dashboard.example.org:443", "https://dashboard.example.org"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[::1]:3000", "http://[::1]:3000"),
    ],
)
def test_origins_are_kept_as_browsers_write_them(written: str, origin: str) -> None:
    config = load(None, ENVIRON | {"ASTERISK_BRIDGE_HTTP__ALLOWED_ORIGINS": written})
    assert config.http.allowed_origins == (origin,)


@pytest.mark.parametrize(
    "wrong",
    [
        *(
            "*",
            "null",
            "https://*.example.org",
            "dashboard.example.org",
            "https://a.example/path",
            "https://u@a.example",
        ),
        *("ftp://a.example", "https://a.example:0", "https://a.example?x", "https://"),
    ],
)
def test_what_is_no_origin(wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"http\.allowed_origins.*is not an origin"):
        load(None, ENVIRON | {"ASTERISK_BRIDGE_HTTP__ALLOWED_ORIGINS": wrong})


def test_origins_need_authentication() -> None:
    more = {"ASTERISK_BRIDGE_HTTP__ALLOWED_ORIGINS": DASHBOARD, "ASTERISK_BRIDGE_HTTP__AUTHENTICATION": "false"}
    with pytest.raises(ConfigError, match=r"http\.allowed_origins: needs tokens"):
        load(None, ENVIRON | more)
