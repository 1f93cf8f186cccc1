"""Requests to other servers: fetched flows, and webhooks that flows send. Limited in size and time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import aiohttp
from yarl import URL

from bridge.config.values import server_of
from bridge.errors import BridgeError
from bridge.events.signing import signed_headers
from bridge.json_shape import check_shape, strict_json
from bridge.outbound.gate import Gate
from bridge.outbound.http import REDIRECTS, RequestFailed, Requests
from bridge.tls import Trust

MAX_ANSWER_BYTES = 1024 * 1024
TIMEOUT_S = 10.0
MAX_REDIRECTS = 5
MAX_VALUES = 10_000
"""Limit of values in a fetched flow, the same as in API requests."""
MAX_DEPTH = 100
"""Limit of nested objects and lists."""
MAX_SENDING_BYTES = 32 << 20
"""Limit of the bodies of all pending requests: a server may take ten seconds to respond."""


class WebFailed(BridgeError):
    """A request failed, or its response cannot be used; the message gives the reason without secrets."""


@dataclass(frozen=True, slots=True)
class ServerResponse:
    """A response from a server."""

    status: int
    body: bytes = field(repr=False)
    moved_to: str = field(default="", repr=False)
    """The URL that it came from, if a redirect led to another server; otherwise empty."""

    @property
    def text(self) -> str:
        """The body as a string; invalid UTF-8 is replaced."""
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """Return the body as JSON.

        Raises:
            WebFailed: the status is not 2xx, or the body is not JSON or too large.
        """
        if not 200 <= self.status < 300:
            raise WebFailed(f"the server responded with status {self.status}")
        try:
            text = self.body.decode(json.detect_encoding(self.body))
        except ValueError:
            raise WebFailed("the server's response is not JSON") from None
        try:
            check_shape(text, MAX_VALUES, MAX_DEPTH)
        except ValueError as problem:
            raise WebFailed(f"the server's response {problem}") from None
        try:
            return strict_json(text)
        except json.JSONDecodeError:
            raise WebFailed("the server's response is not JSON") from None
        except ValueError as problem:  # an extension of Python's, or what other programs do not accept
            raise WebFailed(f"the server's response is not JSON: {problem}") from None


class Web:
    """Sends requests, with connections kept alive.

    A request is signed like a webhook (Standard Webhooks) if there is a key. A GET has no body, so its signature covers
    only its id and time.

    Args:
        gate: which hosts may be connected to.
        timeout_s: limit for a request, including redirects, in seconds.
        max_answer_bytes: limit of a response's body.
        keys: see `keys`.
        clock: returns seconds since 1970.
    """

    def __init__(
        self,
        gate: Gate | None = None,
        timeout_s: float = TIMEOUT_S,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        *,
        keys: Mapping[str, bytes] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._timeout_s = timeout_s
        self._max_answer_bytes = max_answer_bytes
        self._requests = Requests(gate or Gate())
        self.keys = keys or {}
        """Signing keys by the id of the flow; ``""``: of flows without a key of their own."""
        self._clock = clock
        self._sending_bytes = 0

    async def ask(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
        trust: Trust | None = None,
        configured: bool = False,
        flow_id: str = "",
    ) -> ServerResponse:
        """Send a request.

        Args:
            method: HTTP method.
            url: where to send it.
            body: the body, if any.
            headers: additional headers.
            secrets: headers that hold a credential. With these, redirects are not followed: they might lead to others.
            trust: which certificates to trust.
            configured: the URL, at least its host, is in the configuration file.
            flow_id: id of the ``[[flows]]`` table of the request, if any; its secret signs the request.

        Returns:
            The response, of any status.

        Raises:
            WebFailed: the response is missing, late or too large; or pending requests have reached `MAX_SENDING_BYTES`.
        """
        size = len(body or b"")
        if size and self._sending_bytes + size > MAX_SENDING_BYTES:
            raise WebFailed(
                f"{server_of(url)}: not sent, as {self._sending_bytes} bytes of requests are pending already"
            )
        self._sending_bytes += size

        def check(response: aiohttp.ClientResponse) -> None:
            if secrets and response.status in REDIRECTS:
                raise RequestFailed(
                    f"HTTP status {response.status}: redirects are not followed with a credential. "
                    "Configure the final URL"
                )

        try:
            response = await self._requests.fetch(
                method,
                url,
                configured=configured,
                trust=trust or Trust(),
                timeout_s=self._timeout_s,
                max_bytes=self._max_answer_bytes,
                check=check,
                body=body,
                headers={**(headers or {}), **self._signature(flow_id, body or b""), **(secrets or {})},
                max_redirects=0 if secrets else MAX_REDIRECTS,
            )
        except RequestFailed as problem:
            raise WebFailed(f"{server_of(url)}: {problem}") from None
        else:
            moved = response.url.origin() != URL(url).origin()
            return ServerResponse(response.status, response.body, str(response.url) if moved else "")
        finally:
            self._sending_bytes -= size

    def _signature(self, flow_id: str, body: bytes) -> dict[str, str]:
        key = self.keys.get(flow_id) or self.keys.get("")
        if not key:
            return {}
        return signed_headers(key, f"req_{uuid4().hex}", self._clock(), body)

    async def close(self) -> None:
        """Close the connections; running requests fail."""
        await self._requests.close()
