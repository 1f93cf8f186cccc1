"""Frameworks hang up calls by the requests of other vendors, and decide by what comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import encode_basic_auth, web
from aiohttp.test_utils import TestClient, TestServer

from bridge.api.server import build
from bridge.config import Vendors
from bridge.dialects.plivo import call_uuid
from bridge.dialects.telnyx import call_control_id
from bridge.errors import AriError

from .samples import GONE, TOKEN, VENDORS, Pbx, make_call

Client = TestClient[web.Request, web.Application]


@dataclass(frozen=True)
class Vendor:
    """A vendor's request.

    Args:
        method: HTTP method.
        path: of the call ``c1``.
        unknown: the path of a call that was never known.
        headers: the credential.
        wrong: credentials that are not accepted.
        done: status of success.
        over: status for a call that has ended, and a word of the body.
        error: a key of the body of each error.
    """

    method: str
    path: str
    unknown: str
    headers: Mapping[str, str]
    wrong: tuple[Mapping[str, str], ...]
    done: int
    over: tuple[int, str]
    error: str
    prefix: str = field(default="")


def telnyx() -> Vendor:
    path = "/v2/calls/{}/actions/hangup"
    key = VENDORS.telnyx.api_key.get_secret_value()
    return Vendor(
        "POST",
        path.format(call_control_id("c1")),
        path.format("v3:x"),
        {"Authorization": f"Bearer {key}"},
        (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": f"Basic {key}"},
            {"Authorization": f"Bearer {TOKEN}"},
        ),
        200,
        (422, '"90018"'),
        "errors",
        "/v2/calls/",
    )


def plivo() -> Vendor:
    config = VENDORS.plivo
    path, token = f"/v1/Account/{config.auth_id}/Call/{{}}/", config.auth_token.get_secret_value()

    def basic(user: str, password: str) -> Mapping[str, str]:
        return {"Authorization": encode_basic_auth(user, password)}

    return Vendor(
        "DELETE",
        path.format(call_uuid("c1")),
        path.format("x"),
        basic(config.auth_id, token),
        ({}, basic(config.auth_id, "wrong"), basic("MA1", token), {"Authorization": f"Bearer {token}"}),
        204,
        (404, "call_uuid"),
        "error",
        "/v1/Account/",
    )


EACH = pytest.mark.parametrize("vendor", [telnyx(), plivo()], ids=["telnyx", "plivo"])


@pytest.fixture
def pbx() -> Pbx:
    return Pbx({name: make_call(name) for name in ("c0", "c1")}, lasting=True)


@pytest.fixture
async def client(pbx: Pbx) -> AsyncIterator[Client]:
    application = build(pbx.plain_backend(channels=pbx, vendors=VENDORS), [TOKEN], strict=True)
    async with TestClient(TestServer(application)) as it:
        yield it


async def ask(client: Client, vendor: Vendor, path: str = "", **more: Any) -> tuple[int, str]:
    arguments: dict[str, Any] = {"headers": vendor.headers} | more
    async with client.request(vendor.method, path or vendor.path, **arguments) as response:
        text = await response.text()
        if response.status >= 400:
            assert vendor.error in await response.json()
        return response.status, text


@EACH
async def test_a_call_ends(client: Client, pbx: Pbx, vendor: Vendor) -> None:
    status, _ = await ask(client, vendor)
    assert status == vendor.done
    assert pbx.done == [("hangup", "c1")]


@EACH
async def test_a_call_that_has_ended(client: Client, pbx: Pbx, vendor: Vendor) -> None:
    pbx.failure = GONE
    status, text = await ask(client, vendor)
    assert (status, vendor.over[1] in text) == (vendor.over[0], True)
    pbx.failure = None
    pbx.done.clear()
    del pbx.calls["c1"]
    status, text = await ask(client, vendor)
    assert (status, vendor.over[1] in text) == (vendor.over[0], True)
    assert pbx.done == []


@EACH
async def test_a_call_that_never_was(client: Client, pbx: Pbx, vendor: Vendor) -> None:
    assert (await ask(client, vendor, vendor.unknown))[0] == 404
    assert pbx.done == []


@EACH
async def test_a_wrong_credential(client: Client, pbx: Pbx, vendor: Vendor) -> None:
    for headers in vendor.wrong:
        status, _ = await ask(client, vendor, headers=headers)
        assert status == 401, headers
    assert pbx.done == []


@EACH
async def test_a_credential_that_is_not_utf_8(client: Client, pbx: Pbx, vendor: Vendor) -> None:
    scheme = vendor.headers["Authorization"].partition(" ")[0]
    reader, writer = await asyncio.open_connection(client.host, client.port)
    request = f"{vendor.method} {vendor.path} HTTP/1.1\r\nHost: pbx\r\nConnection: close\r\nAuthorization: {scheme} "
    writer.write(request.encode() + b"\xff\r\n\r\n")
    assert (await reader.readline()).split()[1] == b"401"
    writer.close()
    assert pbx.done == []


@EACH
async def test_errors_of_asterisk(client: Client, pbx: Pbx, vendor: Vendor) -> None:
    pbx.failure = AriError(500, "DELETE", "channels/c1", "no")
    assert (await ask(client, vendor))[0] == 503
    pbx.failure = None
    pbx.connected = False
    assert (await ask(client, vendor))[0] == 503


@EACH
async def test_other_paths_and_methods_have_errors_of_the_same_shape(client: Client, vendor: Vendor) -> None:
    assert (await ask(client, vendor, vendor.prefix + "x"))[0] == 404
    async with client.get(vendor.path, headers=vendor.headers) as response:
        assert response.status == 405
        assert vendor.error in await response.json()


@EACH
async def test_without_a_credential_there_is_no_route(pbx: Pbx, vendor: Vendor) -> None:
    application = build(pbx.plain_backend(channels=pbx, vendors=Vendors()), [TOKEN], strict=True)
    async with (
        TestClient(TestServer(application)) as client,
        client.request(vendor.method, vendor.path, headers={"Authorization": f"Bearer {TOKEN}"}) as response,
    ):
        assert response.status == 404
        assert "error" in await response.json()
