"""A server that webhooks are sent to, and the configuration of a webhook that sends to it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import web

from bridge.config import WebhookConfig

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
QUICK = {"retry_first_s": 0.05, "retry_last_s": 0.1, "timeout_s": 2.0}

Answer = Callable[[int], Awaitable[web.StreamResponse] | web.StreamResponse]


class Receiver:
    """A server that keeps what it gets; ``answer`` makes the answer of the request with that number, from 0."""

    def __init__(self, answer: Answer = lambda _: web.Response(status=204)) -> None:
        self.answer = answer
        self.requests: list[tuple[float, dict[str, str], bytes]] = []
        self.paths: list[str] = []
        self.port = 0

    @contextlib.asynccontextmanager
    async def serving(self, tls: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[Receiver]:
        async def handle(request: web.Request) -> web.StreamResponse:
            number = len(self.requests)
            headers = {name.lower(): value for name, value in request.headers.items()}
            self.paths.append(request.raw_path)
            self.requests.append((time.monotonic(), headers, await request.read()))
            answer = self.answer(number)
            return answer if isinstance(answer, web.StreamResponse) else await answer

        application = web.Application()
        application.router.add_route("*", "/{tail:.*}", handle)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls)
        await site.start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, _, body in self.requests]

    @property
    def numbers(self) -> list[int]:
        return [event["data"]["n"] for event in self.events]

    async def got(self, count: int, timeout_s: float = 60) -> None:
        async with asyncio.timeout(timeout_s):
            while len(self.requests) < count:
                await asyncio.sleep(0.005)


def hook(port: int, scheme: str = "http", **keys: Any) -> WebhookConfig:
    values = {"id": "a", "url": f"{scheme}://127.0.0.1:{port}/hook?k=v", "secret": SECRET} | QUICK | keys
    return WebhookConfig.model_validate(values)
