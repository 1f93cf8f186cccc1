"""A client of the API with samples behind it, and a way to ask that looks at what every answer must have."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from bridge.access import SCOPES, Grant, Scope
from bridge.api.server import build
from bridge.api.tokens import Tokens, hash_of
from bridge.streams.subscription_catalog import SubscriptionCatalog

from .samples import TOKEN, Pbx

Client = TestClient[web.Request, web.Application]


class Asker:
    """A client that has a token."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def __call__(self, method: str, path: str, status: int, body: object = None, **more: Any) -> Any:
        """Return the response's JSON, of an error the content of ``error``; None if it is empty."""
        arguments: dict[str, Any] = {"headers": {"Authorization": f"Bearer {TOKEN}"}} | more
        if body is not None:
            arguments["json"] = body
        async with self.client.request(method, path, **arguments) as response:
            text = await response.text()
            assert response.status == status, text
            assert response.headers["X-Request-Id"]
            assert "confidential" not in text
            if not text:
                return None
            answer = await response.json()
            if status < 400:
                return answer
            assert set(answer) == {"error"}
            assert answer["error"]["request_id"] == response.headers["X-Request-Id"]
            return answer["error"]


@contextlib.asynccontextmanager
async def asking(pbx: Pbx, **more: Any) -> AsyncIterator[Asker]:
    """Run the API, with its own responses validated."""
    async with TestClient(TestServer(build(pbx.backend(**more), [TOKEN], strict=True))) as client:
        yield Asker(client)


def application_with(catalog: SubscriptionCatalog) -> web.Application:
    """Return an API with these subscriptions."""
    return build(Pbx().plain_backend(subscriptions=catalog), [TOKEN], strict=True)


def headers(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def grant(identity: str, *scopes: Scope, **more: Any) -> Grant:
    return Grant(identity, frozenset(scopes) or SCOPES, **more)


@contextlib.asynccontextmanager
async def clients(pbx: Pbx, *grants: Grant, **more: Any) -> AsyncIterator[Client]:
    """Open a client of the API, where the id of each token is the token itself."""
    backend = pbx.backend(**more)
    tokens = Tokens({hash_of(each.id): each for each in grants})
    async with TestClient(TestServer(build(backend, tokens, strict=True))) as client:
        yield client


async def status_and_reason(client: Client, method: str, path: str, **more: Any) -> tuple[int, str]:
    async with client.request(method, path, **more) as response:
        body = await response.json() if response.content_type == "application/json" else {}
        return response.status, body.get("error", {}).get("reason", "") if isinstance(body, dict) else ""
