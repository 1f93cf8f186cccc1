"""The HTTP server: routes, admission, the shape of errors, and the access log."""

from __future__ import annotations

import asyncio
import functools
import logging
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any
from uuid import uuid4

import aiofastnet
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from msgspec import structs
from yarl import URL

from bridge.access import ANONYMOUS, Principal
from bridge.api import protocol
from bridge.api.address import PROXIES, client_address, network_of, networks
from bridge.api.admission import RequestAdmission
from bridge.api.auditing import INNER, audit_request
from bridge.api.auth import Authenticator
from bridge.api.backend import (
    ACCEPTS,
    BACKEND,
    MAX_READERS,
    OPERATE,
    PRINCIPAL,
    READERS,
    SUBSCRIPTIONS,
    TWILIO,
    Backend,
)
from bridge.api.background import BACKGROUND, RequestTasks
from bridge.api.bodies import LARGEST_BYTES, check_encoding
from bridge.api.connections import BoundedListener, Connections, bounded_by_open_files
from bridge.api.cors import CrossOrigin
from bridge.api.documents import DOCUMENTS, Documents
from bridge.api.errors import ApiError, error_body, of_http_status
from bridge.api.health import PROBES
from bridge.api.originated_calls import ORIGINATED, TokenCalls
from bridge.api.ports import PortTls, SharedPort
from bridge.api.protocol import SERVER, Protocol
from bridge.api.routing import LATE, OPERATIONS, LateRoutes, Route, register
from bridge.api.tickets import KEY_BYTES, TICKETS, Tickets
from bridge.api.tokens import Tokens
from bridge.config import HttpConfig, TokenConfig
from bridge.errors import ConfigError
from bridge.logs import cause
from bridge.media.sockets import bind
from bridge.streams.media_stream_endpoint import MediaStreamOptions

log = logging.getLogger(__name__)


SHUTDOWN_S = 1.0
"""How long requests in progress may take when the server stops."""

_ADMISSION = web.AppKey("admission", RequestAdmission)
_REQUEST_ID = web.RequestKey("request_id", str)


def build(
    backend: Backend,
    tokens: Tokens | Iterable[str] | None,
    *,
    strict: bool = False,
    around: Iterable[Middleware] = (),
    middlewares: Iterable[Middleware] = (),
    proxies: Iterable[str] = (),
    origins: Collection[str] = (),
    tickets: Tickets | None = None,
    inner: bool = False,
) -> web.Application:
    """Build the web application.

    Args:
        backend: the services behind the routes.
        tokens: the valid tokens, or some that have every scope; None: authentication is off, for loopback only.
        strict: whether a response that the OpenAPI document does not describe is an error; for tests.
        around: see each request first.
        middlewares: see each request after its token was checked.
        proxies: networks of proxies whose headers name the client.
        origins: origins of foreign web pages that may use the API.
        tickets: those of all workers together; None: it issues its own.
        inner: whether requests come from other workers, which send the principal of each.
    """
    if tokens is not None and not isinstance(tokens, Tokens):
        tokens = Tokens.plain(tokens)
    cross_origin = CrossOrigin(origins)
    application = web.Application(
        client_max_size=LARGEST_BYTES,
        middlewares=[
            *(_answer_errors, *around, cross_origin.answer_preflight),
            *(audit_request, _reject_encoded, _check_token, *middlewares),
        ],
    )
    application.on_response_prepare.append(cross_origin.add_headers)
    application[INNER] = inner
    application[BACKEND] = backend
    gate = Authenticator(tokens)
    application[ACCEPTS] = gate.accepts
    application[_ADMISSION] = RequestAdmission(gate, backend.counters, inner=inner)
    application[PROXIES] = networks(proxies)
    application[ORIGINATED] = TokenCalls()
    application[TICKETS] = tickets or Tickets(secrets.token_bytes(KEY_BYTES), tokens)
    application[OPERATIONS] = {}
    application[BACKGROUND] = background = RequestTasks()
    application[READERS] = asyncio.Semaphore(MAX_READERS)
    application.on_shutdown.append(background.stop)
    application.on_response_prepare.append(_add_headers)
    if backend.subscriptions is not None:
        application[SUBSCRIPTIONS] = backend.subscriptions
    if backend.twilio is not None and backend.channels is not None:
        application[TWILIO] = (backend.twilio, backend.channels)
    register(application.router, application[OPERATIONS], PROBES, strict=strict)
    application[LATE] = late = LateRoutes(
        _load, lambda router: register(router, application[OPERATIONS], _late_routes(backend), strict=strict)
    )
    application.router.register_resource(late)
    application[DOCUMENTS] = Documents(application[OPERATIONS].values(), with_tokens=tokens is not None)
    return application


def _load() -> None:
    from bridge.api import table  # noqa: F401


def _late_routes(backend: Backend) -> Iterable[Route]:
    from bridge.api.table import routes_of

    return (route for route in routes_of(backend) if route not in PROBES)


class HttpServer:
    """Serves the API on one port, with TLS if it is configured."""

    def __init__(
        self,
        config: HttpConfig,
        backend: Backend,
        *,
        tables: Sequence[TokenConfig] = (),
        strict: bool = False,
        shared: SharedPort | None = None,
    ) -> None:
        self._config = config
        self._shared = shared
        self._tls: PortTls | None = None
        self._connections = Connections(bounded_by_open_files(config.max_connections), networks(config.trusted_proxies))
        self._servers: list[asyncio.Server] = []
        backend = self._counting(backend)
        self.tokens = Tokens.of(config, tables) if config.authentication else None
        """The valid tokens; None: authentication is off."""
        tickets = Tickets(shared.ticket_key, self.tokens, shared.claim_ticket) if shared else None
        outer = build(
            backend,
            self.tokens,
            tickets=tickets,
            strict=strict,
            around=[self._connections.watch],
            origins=config.allowed_origins,
            middlewares=[self._connections.vouch, *([shared.middleware] if shared else ())],
            proxies=config.trusted_proxies,
        )
        if shared is not None:
            outer[OPERATE] = shared.operate
        self.accepts: Callable[[Principal], bool] = outer[ACCEPTS]
        """Returns whether a principal still has a valid token."""
        self._runner = _runner(outer)
        self._inner = _runner(self._inner_of(outer, backend, tickets)) if shared else None

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address cannot be bound.
            ConfigError: the certificate, its key or ``tls_client_ca`` is wrong.
        """
        make_protocol = await _protocol_of(self._runner)
        self._tls = PortTls(self._config) if self._config.tls_certificate else None
        shared = self._shared
        for bound in await bind(
            self._config.host, shared.port if shared else self._config.port, shared=shared is not None
        ):
            listener = BoundedListener(bound, self._connections, tls=self._tls is not None)
            loop = asyncio.get_running_loop()
            if self._tls is None:
                # The transport of a request that becomes a stream carries its frames: aiofastnet's costs less per
                # frame.
                server = await aiofastnet.create_server(loop, make_protocol, sock=listener, backlog=1024)
            else:  # not under TLS, for the reason that `bridge.media.dial.dial` gives
                server = await loop.create_server(
                    make_protocol,
                    sock=listener,
                    ssl=self._tls.context,
                    ssl_handshake_timeout=protocol.IDLE_S,
                    ssl_shutdown_timeout=protocol.IDLE_S,
                    backlog=1024,
                )
            self._servers.append(server)
        if shared is not None and self._inner is not None:
            inner = await _protocol_of(self._inner)
            self._servers.append(await asyncio.get_running_loop().create_unix_server(inner, shared.socket))
        self._connections.start()

    async def stop(self) -> None:
        """Stop listening and cancel requests in progress; does nothing if never started."""
        self._connections.stop()
        for server in self._servers:
            server.close()
        await self._runner.cleanup()
        if self._inner is not None:
            await self._inner.cleanup()

    async def reload_tls(self) -> None:
        """Read certificate, key and client authorities again, for connections accepted from now on.

        Does nothing without TLS, or before `start`.

        Raises:
            ConfigError: a file is invalid; the previous certificate stays in use, and an error is logged.
        """
        if self._tls is None:
            return
        try:
            await asyncio.to_thread(self._tls.reload)
        except ConfigError as error:
            log.error("TLS certificate not reloaded, the previous one stays in use error=%s", error)
            raise
        log.info("TLS certificate reloaded certificate=%s", self._config.tls_certificate)

    @property
    def limits_reach(self) -> bool:
        """Return whether a token reaches some calls or conferences only."""
        return self.tokens is not None and self.tokens.limited

    def _inner_of(self, outer: web.Application, backend: Backend, tickets: Tickets | None) -> web.Application:
        """Build the application for other workers' requests, which count for the same limits as direct ones."""
        inner = build(backend, self.tokens, tickets=tickets, inner=True)
        inner[ORIGINATED], inner[READERS] = outer[ORIGINATED], outer[READERS]
        return inner

    def _counting(self, backend: Backend) -> Backend:
        """Return the backend, where connections that become streams are no longer counted."""
        conferences = backend.conferences

        async def accept(request: web.Request, /, *how: Any) -> web.StreamResponse:
            transport = request.transport
            response = await backend.accept_stream(request, *how)
            self._release(request, transport)
            return response

        async def accept_conference(
            request: web.Request, identity: str, options: MediaStreamOptions, principal: Principal, /
        ) -> web.StreamResponse:
            assert conferences is not None
            transport = request.transport
            response = await conferences.accept_stream(request, identity, options, principal)
            self._release(request, transport)
            return response

        if conferences is not None:
            counted = structs.replace(conferences, accept_stream=accept_conference)
            backend = structs.replace(backend, conferences=counted)
        return structs.replace(backend, accept_stream=accept)

    def _release(self, request: web.Request, transport: asyncio.Transport | None) -> None:
        if transport is not None and request.transport is None:  # aiohttp has released it
            self._connections.release(transport)

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return int(self._servers[0].sockets[0].getsockname()[1])


def _runner(application: web.Application) -> web.AppRunner:
    return web.AppRunner(application, shutdown_timeout=SHUTDOWN_S, auto_decompress=False)


async def _protocol_of(runner: web.AppRunner) -> Callable[[], Protocol]:
    """Set up ``runner`` and return a function that creates the protocol of each connection."""
    await runner.setup()
    server = runner.server
    assert server is not None  # setup has created it
    return functools.partial(Protocol, server)


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Convert every error into the common JSON shape, and log the request without its query."""
    if isinstance(request.protocol, Protocol):
        request.protocol.begin()
    request_id = request[_REQUEST_ID] = uuid4().hex
    started = time.monotonic()
    try:
        response = await handler(request)
    except ApiError as error:
        response = _response(request, error)
    except web.HTTPException as error:
        plain = of_http_status(error.status, await _similar_path(request) if error.status == 404 else "")
        if "Allow" in error.headers:
            plain.headers["Allow"] = error.headers["Allow"]
        response = _response(request, plain)
    except Exception:
        log.exception("request failed with an internal error request=%s", request_id)
        response = _response(
            request, ApiError(500, "INTERNAL_ERROR", "an internal error; the log has the details under this request_id")
        )
    # A probe repeats every few seconds, and the state that it gets is in the log already.
    level = logging.INFO if response.status >= 400 and request.path != "/health" else logging.DEBUG
    elapsed_ms = (time.monotonic() - started) * 1000
    path = request.rel_url.raw_path[:200]
    # Requests without a token, which anyone can send, are counted by client address.
    stranger = request.get(PRINCIPAL, ANONYMOUS) is ANONYMOUS
    repeats = cause(f"{response.status} {network_of(client_address(request))}") if stranger else None
    log.log(
        level,
        "request handled request=%s method=%s path=%s status=%d ms=%.0f",
        *(request_id, request.method, path, response.status, elapsed_ms),
        extra=repeats,
    )
    return response


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Add the headers that every response has, also one that is sent in blocks."""
    response.headers["X-Request-Id"] = request.get(_REQUEST_ID, "")
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Server"] = SERVER
    response.headers.setdefault("Cache-Control", "no-store")


@web.middleware
async def _reject_encoded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Respond 415 to any encoded body, for every route, before a token is compared or a byte of the body is read."""
    check_encoding(request)
    return await handler(request)


@web.middleware
async def _check_token(request: web.Request, handler: Handler) -> web.StreamResponse:
    return await request.app[_ADMISSION].admit(request, handler)


async def _similar_path(request: web.Request) -> str:
    """Return the path that was probably intended: without duplicate slashes. Empty: there is none."""
    path = re.sub("/{2,}", "/", request.path).rstrip("/") or "/"
    if path == request.path:
        return ""
    meant = request.clone(rel_url=URL.build(path=path))
    return path if (await request.app.router.resolve(meant)).http_exception is None else ""


def _response(request: web.Request, error: ApiError) -> web.Response:
    from bridge.api.vendors import vendor_response  # loaded with the routes of vendors

    response = vendor_response(request, error)
    if response is None:
        body = error_body(error, request[_REQUEST_ID])
        response = web.json_response(body, status=error.status, headers=error.headers)
    return response
