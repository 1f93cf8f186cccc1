"""An ARI on loopback that misbehaves on request, for what a real Asterisk does too rarely to be waited for."""

from __future__ import annotations

import asyncio
from types import TracebackType

from aiohttp import WSCloseCode, web


class FakeAri:
    """The events connection and the application resource of ARI."""

    def __init__(self) -> None:
        self.sockets: list[web.WebSocketResponse] = []
        """Events connections in the order in which they came, ended ones included."""
        self.requests: list[str] = []
        """Method, path and query of every other request."""
        self.known = True
        """Whether the application of the newest connection is registered with Asterisk."""
        self.subscription_status = 200
        self.version = "22.10.1"
        self.ends_applications = True
        """Whether an application ends with its connection."""
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> FakeAri:
        app = web.Application()
        app.router.add_get("/ari/events", self._events)
        app.router.add_get("/ari/asterisk/info", self._info)
        app.router.add_route("*", "/ari/applications/{app}{rest:.*}", self._application)
        self._runner = web.AppRunner(app, shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        assert site._server is not None
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.drop()
        if self._runner is not None:
            await self._runner.cleanup()

    async def tell(self, event: str | bytes) -> None:
        """Send one event on the newest connection."""
        if isinstance(event, bytes):
            await self.sockets[-1].send_bytes(event)
        else:
            await self.sockets[-1].send_str(event)

    async def drop(self) -> None:
        """End every events connection."""
        for socket in self.sockets:
            await socket.close(code=WSCloseCode.GOING_AWAY)

    @property
    def open(self) -> list[web.WebSocketResponse]:
        return [socket for socket in self.sockets if not socket.closed]

    async def _events(self, request: web.Request) -> web.WebSocketResponse:
        self.requests.append(f"GET {request.path_qs}")
        socket = web.WebSocketResponse(protocols=("ari",))
        await socket.prepare(request)
        self.sockets.append(socket)
        async for _ in socket:
            pass
        return socket

    async def _info(self, request: web.Request) -> web.Response:
        self.requests.append(f"GET {request.path_qs}")
        return web.json_response({"system": {"version": self.version}})

    async def _application(self, request: web.Request) -> web.Response:
        self.requests.append(f"{request.method} {request.path_qs}")
        if not self.known or (self.ends_applications and not self.open):
            return web.json_response({"message": "Application not found"}, status=404)
        if request.path.endswith("/subscription") and self.subscription_status != 200:
            return web.json_response({"message": "Forbidden by the test"}, status=self.subscription_status)
        await asyncio.sleep(0)
        return web.json_response({"name": request.match_info["app"]})
