"""HTTP requests to other servers, through the gate; redirects are followed only to allowed targets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from bridge.errors import BridgeError
from bridge.outbound.gate import Gate
from bridge.outbound.headers import USER_AGENT
from bridge.outbound.policy import Denied
from bridge.tls import Trust, TrustError, client_context

USUAL = Trust()
"""Certificates of public authorities."""
REDIRECTS = (301, 302, 303, 307, 308)


class RequestFailed(BridgeError):
    """There is no usable response; the message has the reason, without the URL."""


class RequestRefused(RequestFailed):
    """A URL that must not be requested; the message has the reason."""


class ResponseTooLarge(RequestFailed):
    """A response is larger than allowed."""


@dataclass(frozen=True, slots=True)
class Response:
    """A response whose body was read."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    url: URL = field(repr=False)
    """Where it came from, after redirects."""


class Requests:
    """Sends requests; connections are kept for a while, those of configured URLs apart from all others.

    Nothing is decompressed, no cookie is stored, no proxy is used.

    Args:
        gate: opens the connections.
        options: options of aiohttp's connectors: ``limit``, ``keepalive_timeout``.
    """

    def __init__(self, gate: Gate, **options: Any) -> None:
        self._gate = gate
        self._options = options
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def __aenter__(self) -> Requests:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @contextlib.asynccontextmanager
    async def send(
        self,
        method: str,
        url: str | URL,
        *,
        configured: bool,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        max_redirects: int = 0,
        trust: Trust = USUAL,
        **options: Any,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and follow redirects, only to allowed targets and never to plain HTTP.

        Args:
            method: the HTTP method.
            url: as a `yarl.URL` it is sent unchanged; as a string it is normalized as browsers do.
            configured: whether the URL is in the configuration file. The target of a redirect is not, unless it is the
                same server.
            body: the body; None: no body.
            headers: further headers.
            max_redirects: 0: a redirect is returned like any response.
            trust: which certificates are accepted from the server; one to which a redirect leads needs a usual one.
            options: options of aiohttp's request: ``timeout``.

        Raises:
            RequestRefused: the URL is not an HTTP URL without user name and password; or a redirect does not lead to
                such a URL, leads from HTTPS to HTTP, or exceeds the limit.
            Denied: the policy denies its host.
            aiohttp.ClientError, OSError, TimeoutError: no response.
        """
        place = _checked(url)
        origin = place.origin()
        headers = dict(headers or {})
        for left in range(max_redirects, -1, -1):
            known = configured and place.origin() == origin
            self._gate.check(place.raw_host or "", configured=known)
            response = await self._session(known).request(
                *(method, place),
                data=body,
                headers=headers,
                allow_redirects=False,
                ssl=await client_context(trust if place.origin() == origin else USUAL),
                **options,
            )
            try:
                location = response.headers.get("Location", "")
                if not max_redirects or not location or response.status not in REDIRECTS:
                    yield response
                    return
                if not left:
                    raise RequestRefused(f"redirects more than {max_redirects} times")
                target = _redirected(place, location)
            finally:
                response.release()
            if target.scheme != "https" and place.scheme == "https":
                raise RequestRefused("redirects to plain HTTP, which is not followed")
            kept = {*headers} if target.origin() == place.origin() else {"Accept", "Content-Type"}
            if response.status == 303 or (response.status in (301, 302) and method == "POST"):
                method, body = "GET", None
                kept = {"Accept"}
            # A signature is valid only for the server and the body that it was created for.
            headers = {name: value for name, value in headers.items() if name in kept}
            place = target

    async def fetch(
        self,
        method: str,
        url: str | URL,
        *,
        configured: bool,
        trust: Trust,
        timeout_s: float,
        max_bytes: int,
        check: Callable[[aiohttp.ClientResponse], None] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        max_redirects: int = 0,
    ) -> Response:
        """Send a request as `send` does, and read the complete response.

        Args:
            method: the HTTP method.
            url: as for `send`.
            configured: whether the URL is in the configuration file.
            trust: which certificates are accepted.
            timeout_s: the limit for all of it, redirects included.
            max_bytes: the largest body; 0: no body is read.
            check: called with the response before its body is read; may raise.
            body: the body; None: no body.
            headers: further headers.
            max_redirects: 0: a redirect is returned like any response.

        Raises:
            RequestFailed: there is no response, or not in time, or it is too large.
        """
        try:
            async with (
                asyncio.timeout(timeout_s),
                self.send(
                    method,
                    url,
                    configured=configured,
                    body=body,
                    headers=headers,
                    max_redirects=max_redirects,
                    timeout=aiohttp.ClientTimeout(),  # aiohttp's own default ends connecting after 30 s
                    trust=trust,
                ) as response,
            ):
                if check is not None:
                    check(response)
                received = bytearray()
                if max_bytes:
                    async for block in response.content.iter_any():
                        received += block
                        if len(received) > max_bytes:
                            raise ResponseTooLarge(f"the response is larger than {max_bytes} bytes")
                return Response(response.status, response.headers, bytes(received), response.url)
        except TimeoutError:
            raise RequestFailed(f"no response within {timeout_s:g} s") from None
        except TrustError as problem:
            raise RequestFailed(f"ca_file {problem}") from None
        except Denied as problem:
            raise RequestFailed(str(problem)) from None
        except (aiohttp.ClientError, OSError, ValueError) as problem:
            raise RequestFailed(_in_words(problem)) from None

    async def close(self) -> None:
        """Close the connections; pending requests fail."""
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    def _session(self, configured: bool) -> aiohttp.ClientSession:
        session = self._sessions.get(configured)
        if session is None:
            session = self._sessions[configured] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=_Resolver(self._gate, configured), use_dns_cache=False, **self._options
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
                auto_decompress=False,  # a small response could become a large one
            )
        return session


class _Resolver(AbstractResolver):
    """Returns checked addresses to aiohttp. It resolves names only: `Requests.send` checks literal addresses."""

    def __init__(self, gate: Gate, configured: bool) -> None:
        self._gate = gate
        self._configured = configured

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a host.

        Raises:
            Denied: the policy denies it.
            OSError: it has no addresses.
        """
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in await self._gate.addresses(host, configured=self._configured)
            if family in (socket.AF_UNSPEC, socket.AF_INET6 if ":" in address else socket.AF_INET)
        ]

    async def close(self) -> None:
        """Do nothing: names are resolved for the whole process."""


def _in_words(problem: Exception) -> str:
    """Return a message: some of aiohttp's errors have none, others repeat the URL and with it a secret."""
    match problem:
        case aiohttp.ClientConnectorCertificateError():
            return f"its certificate is rejected: {problem.certificate_error}"
        case aiohttp.ClientConnectorDNSError():
            return "its name cannot be resolved"
        case aiohttp.ClientConnectorError():
            return f"cannot be reached: {problem.os_error.strerror or type(problem.os_error).__name__}"
        case aiohttp.ServerDisconnectedError():
            return "the server closed the connection without a response"
        case aiohttp.ClientResponseError():
            return "the server sent invalid HTTP"
        case OSError():
            return f"cannot be reached: {problem.strerror or type(problem).__name__}"
        case _:
            return type(problem).__name__


def _checked(url: str | URL) -> URL:
    try:
        place = url if isinstance(url, URL) else URL(url)
        _ = place.port
    except ValueError:
        raise RequestRefused("not a URL") from None
    if place.scheme not in ("http", "https") or not place.host:
        raise RequestRefused("not an http:// or https:// URL")
    if place.raw_user is not None or place.raw_password is not None:
        raise RequestRefused("the URL contains a user name or password, which is not sent")
    return place


def _redirected(place: URL, location: str) -> URL:
    try:
        return _checked(place.join(URL(location)))
    except (ValueError, RequestRefused) as problem:
        reason = str(problem) if isinstance(problem, RequestRefused) else "not a URL"
        raise RequestRefused(f"redirects to an invalid target: {reason}") from None
