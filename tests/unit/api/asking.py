"""A client of the API with samples behind it, and a way to ask that looks at what every answer must have."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from bridge.api.server import build

from .samples import Pbx

TOKEN = "0123456789abcdef"

Client = TestClient[web.Request, web.Application]


class Asker:
    """Asks as somebody who knows a token."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def __call__(self, method: str, path: str, status: int, body: object = None, **more: Any) -> Any:
        """The answer's JSON, of an error what is in ``error``; None if it holds nothing."""
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
    """The interface, strict about its own answers."""
    async with TestClient(TestServer(build(pbx.backend(**more), [TOKEN], strict=True))) as client:
        yield Asker(client)
