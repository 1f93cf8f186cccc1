"""Asking other servers: flows that are fetched, webhooks that a flow sends. Bounded in size and time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import aiohttp

from bridge.config.values import server_of
from bridge.errors import BridgeError
from bridge.events.signing import signature
from bridge.json_shape import check_shape
from bridge.outbound.gate import Gate
from bridge.outbound.http import REDIRECTS, RequestFailed, Requests
from bridge.tls import Trust

MAX_ANSWER_BYTES = 1024 * 1024
TIMEOUT_S = 10.0
MAX_REDIRECTS = 5
MAX_VALUES = 10_000
"""Values in a flow that a server answers with: as many as in a request's."""
MAX_DEPTH = 100
"""Objects and lists within each other."""
MAX_SENDING_BYTES = 32 << 20
"""Bodies of all requests that have no answer yet: servers may take ten seconds for one."""


class WebFailed(BridgeError):
    """A server could not be asked, or its answer cannot be used; the message says why and quotes no secret."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said."""

    status: int
    body: bytes = field(repr=False)

    @property
    def text(self) -> str:
        """The body as text; what is no UTF-8 is replaced."""
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            WebFailed: it is none or holds too much, or the status tells of no success.
        """
        if not 200 <= self.status < 300:
            raise WebFailed(f"the server answered {self.status}")
        try:
            text = self.body.decode(json.detect_encoding(self.body))
        except ValueError:
            raise WebFailed("the server's answer is no JSON") from None
        try:
            check_shape(text, MAX_VALUES, MAX_DEPTH)
        except ValueError as problem:
            raise WebFailed(f"the server's answer {problem}") from None
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise WebFailed("the server's answer is no JSON") from None


class Web:
    """Makes requests; its connections are kept for a while.

    A request is signed as a webhook is (Standard Webhooks) if there is a key for it. A GET has no body, so its
    signature covers only its id and time.

    Args:
        gate: what may be connected to.
        timeout_s: for a request as a whole, redirects included.
        keys: see `keys`.
        clock: seconds since 1970.
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
        """Keys of signatures by the id of the flow; "": of flows that have none of their own."""
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
    ) -> Answer:
        """Make a request.

        Args:
            flow_id: of the ``[[flows]]`` table for which the request is made, if any: its secret signs it.
            configured: the URL is in the configuration file, its host at least.
            secrets: headers that hold a credential. With them no redirect is followed: it might lead to somebody else.

        Raises:
            WebFailed: no answer, not in time, or too large a one; or the bodies of other requests take all the room.
        """
        size = len(body or b"")
        if size and self._sending_bytes + size > MAX_SENDING_BYTES:
            raise WebFailed(f"{server_of(url)}: not sent, as {self._sending_bytes} bytes wait for answers already")
        self._sending_bytes += size

        def check(response: aiohttp.ClientResponse) -> None:
            if secrets and response.status in REDIRECTS:
                raise RequestFailed(
                    f"answered {response.status}, a redirect, which is not followed with a credential: "
                    "configure the address that it leads to"
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
            return Answer(response.status, response.body)
        finally:
            self._sending_bytes -= size

    def _signature(self, flow_id: str, body: bytes) -> dict[str, str]:
        key = self.keys.get(flow_id) or self.keys.get("")
        if not key:
            return {}
        identity, timestamp = f"req_{uuid4().hex}", int(self._clock())
        return {
            "webhook-id": identity,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(key, identity, timestamp, body),
        }

    async def close(self) -> None:
        """Close the connections; a request that runs fails."""
        await self._requests.close()
