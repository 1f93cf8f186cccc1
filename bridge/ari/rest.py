"""ARI requests: one HTTP session, credentials in a header only, and errors with Asterisk's own messages."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec
import yarl

from bridge.errors import AriError, ConfigError
from bridge.outbound.headers import USER_AGENT
from bridge.tasks import shield_until_done
from bridge.tls import Trust, TrustError, client_context

CONNECT_TIMEOUT_S = 5.0
"""Time limit for connecting to Asterisk's HTTP server."""
REQUEST_TIMEOUT_S = 15.0
"""Time limit of a request. ``externalMedia`` alone blocks up to 2 s for each address that does not respond."""
MAX_CONNECTIONS = 40
"""Limit of connections. Asterisk's ``sessionlimit`` is 100 by default, and other clients need some of them."""
IDLE_CONNECTION_S = 10.0
"""Below Asterisk's ``session_keep_alive`` of 15 s, to use no connection that Asterisk is closing."""
CLOSED = "the ARI client is closed"

Parameter = str | int | bool | None


def segment(text: str) -> str:
    """Return a percent-encoded path segment; ids may contain any character, slashes included."""
    return quote(text, safe="")


def api_url(url: str) -> yarl.URL:
    """Return the base URL of ARI: that of Asterisk's HTTP server with ``/ari`` appended if it is missing.

    Raises:
        ConfigError: not an HTTP URL, or it holds credentials (URLs are logged).
    """
    try:
        base = yarl.URL(url)
    except ValueError as exc:
        raise ConfigError("ari.url", f"not a URL: {exc}") from None
    if base.scheme not in ("http", "https") or not base.host:
        raise ConfigError("ari.url", "expected http://HOST:PORT or https://HOST:PORT")
    if base.user or base.password:
        raise ConfigError("ari.url", "must not hold credentials. Set ari.user and ari.password")
    path = base.path.rstrip("/")
    return base.with_path(path if path.endswith("/ari") else f"{path}/ari")


def explain_status(status: int, message: str) -> str:
    """Return the remedy for a response that makes ARI unusable."""
    if status == 401:
        return "wrong ARI user or password (ari.user, ari.password; ari.conf)"
    if status == 403:
        return message or "forbidden for this ARI user (ari.conf: read_only, permit, deny)"
    if status == 404 and not message:
        return "ARI not found: check ari.url, enabled=yes in http.conf and ari.conf, and that res_ari is loaded"
    if status == 503 and not message:
        return "Asterisk's HTTP session limit is reached: raise sessionlimit in http.conf"
    return message or "no reason given"


def error_message(body: bytes) -> str:
    """Return Asterisk's message from the body of an error; empty if there is none (its web server sends HTML)."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    if not isinstance(found, dict):
        return ""
    return str(found.get("message") or found.get("error") or "")


def explain_failure(exc: BaseException) -> str:
    """Return why there is no response, without URLs that may hold secrets."""
    if isinstance(exc, TimeoutError):
        return "no answer in time"
    if isinstance(exc, TrustError):
        return f"ari.ca_file {exc}"
    if isinstance(exc, aiohttp.ClientConnectorCertificateError):
        return f"TLS certificate rejected: {exc.certificate_error}"
    if isinstance(exc, aiohttp.ClientConnectorError):
        return f"cannot connect to {exc.host}:{exc.port}: {exc.os_error.strerror or exc.os_error}"
    if isinstance(exc, aiohttp.ServerDisconnectedError):
        return "Asterisk closed the connection"
    return f"{type(exc).__name__}: {exc}"


class Rest:
    """The HTTP requests of an ARI client.

    Args:
        url: URL of Asterisk's HTTP server, for example ``http://127.0.0.1:8088``.
        user: ARI user of ari.conf.
        password: the user's password; sent in a header, never part of a URL or a log line.
        ca_file: PEM file with the only authorities to trust for ``https://``; empty: those of the system.

    Raises:
        ConfigError: the URL is invalid.
    """

    def __init__(self, url: str, user: str, password: str, ca_file: str = "") -> None:
        self.url = api_url(url)
        self._trust = Trust(ca_file=ca_file)
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._headers = {
            "Authorization": f"Basic {token}",
            "Accept-Encoding": "identity",
            "User-Agent": USER_AGENT,
        }
        self._session: aiohttp.ClientSession | None = None
        self._closed = False
        self._allows: Callable[[str], bool] = lambda _: True
        self._deadline: float | None = None  # in seconds on the event loop's clock
        self._limits: set[asyncio.Timeout] = set()
        """Timeouts of the requests in progress."""

    @property
    def session(self) -> aiohttp.ClientSession:
        """The HTTP session, created at first use because it belongs to the running event loop.

        Raises:
            AriError: the client is closed.
        """
        if self._closed:
            raise AriError(0, "GET", "/", CLOSED)
        if self._session is None:
            self._session = aiohttp.ClientSession(
                auto_decompress=False,
                headers=self._headers,
                connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS, keepalive_timeout=IDLE_CONNECTION_S),
                timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def tls(self) -> ssl.SSLContext | bool:
        """Return the ``ssl`` argument of a request.

        Raises:
            TrustError: ``ca_file`` cannot be used.
        """
        return await client_context(self._trust) if self.url.scheme == "https" else True

    async def close(self) -> None:
        """Close the session; later requests fail. Closing twice is harmless."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def finish_within(self, seconds: float) -> None:
        """Limit all requests, running ones included, to end within ``seconds``.

        Used for shutdown: with an unresponsive Asterisk each deletion would otherwise take its whole timeout.
        """
        if self._deadline is not None:
            return
        self._deadline = asyncio.get_running_loop().time() + seconds
        for limit in self._limits:
            limit.reschedule(self._deadline)

    def allow_only(self, allows: Callable[[str], bool]) -> None:
        """Refuse requests from now on as if the client were closed, except to paths that ``allows`` accepts."""
        self._allows = allows

    async def __aenter__(self) -> Rest:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def request(
        self,
        method: str,
        path: str,
        params: Mapping[str, Parameter] | None = None,
        body: Any = None,
    ) -> bytes:
        """Send one request and return the body of the response (empty for 204).

        A request that changes something completes even if its caller is cancelled; the cancellation takes effect after
        the response. Otherwise Asterisk could create an object just after the caller has deleted it.

        Args:
            method: HTTP method.
            path: below ``/ari``, beginning with ``/``, its segments already passed through ``segment``.
            params: query parameters; those that are None are omitted.
            body: sent as JSON unless None.

        Returns:
            The body of the response.

        Raises:
            AriError: the response is not 2xx, or missing (status 0), or the client is closed (status 0).
        """
        act = self._send(method, path, params, body)
        return await (act if method == "GET" else shield_until_done(act))

    async def _send(self, method: str, path: str, params: Mapping[str, Parameter] | None, body: Any) -> bytes:
        if self._closed or not self._allows(path):
            raise AriError(0, method, path, CLOSED)
        query = {name: _text(value) for name, value in (params or {}).items() if value is not None}
        url = yarl.URL(f"{self.url}{path}", encoded=True).with_query(query)
        data = None if body is None else msgspec.json.encode(body)
        headers = None if body is None else {"Content-Type": "application/json"}
        failure = ""
        try:
            async with (
                self._within_deadline(),
                self.session.request(
                    method, url, data=data, headers=headers, allow_redirects=False, ssl=await self.tls()
                ) as answer,
            ):
                content = await answer.read()
        except (TimeoutError, TrustError, aiohttp.ClientError, OSError) as exc:
            failure = explain_failure(exc)
        if failure:  # raised here, as aiohttp's exceptions and their frames refer to this task: a cycle
            raise AriError(0, method, path, failure)
        if not 200 <= answer.status < 300:
            raise AriError(answer.status, method, path, explain_status(answer.status, error_message(content)))
        return content

    @contextlib.asynccontextmanager
    async def _within_deadline(self) -> AsyncIterator[None]:
        async with asyncio.timeout_at(self._deadline) as limit:
            self._limits.add(limit)
            try:
                yield
            finally:
                self._limits.discard(limit)


def _text(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
