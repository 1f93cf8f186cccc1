"""The user's own tools: a POST request to the user's server, signed like a webhook, whose response the model gets."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

import aiohttp

from bridge.agent_tools.filler import fill
from bridge.agent_tools.tool import AgentCall, Tool, ToolFailed
from bridge.config.agent_tools import ToolConfig
from bridge.config.webhooks import signing_key
from bridge.events.signing import signed_headers
from bridge.outbound.gate import Gate
from bridge.outbound.http import RequestFailed, Requests, ResponseTooLarge
from bridge.texts import cut

MAX_ERROR_CHARACTERS = 500
"""Of a response with an error status, for the model."""


class HttpTools:
    """Sends the requests of all such tools, with connections kept alive.

    Args:
        gate: which hosts may be connected to.
        clock: returns seconds since 1970.
    """

    def __init__(self, gate: Gate, clock: Callable[[], float] = time.time) -> None:
        self._requests = Requests(gate)
        self._clock = clock

    def tool(self, config: ToolConfig) -> Tool:
        """Return a configured tool."""

        async def run(call: AgentCall, arguments: Mapping[str, Any]) -> str:
            filler = None
            if config.filler:
                filler = call.spawn(fill(call, config.filler, config.filler_after_s))
            try:
                return await self._ask(config, call, arguments)
            finally:
                if filler is not None:
                    filler.cancel()

        return Tool(config.id, config.description, config.parameters, run)

    async def close(self) -> None:
        """Close the connections."""
        await self._requests.close()

    async def _ask(self, config: ToolConfig, call: AgentCall, arguments: Mapping[str, Any]) -> str:
        voice = call.voice
        body = json.dumps(
            {
                "tool": config.id,
                "arguments": arguments,
                "call_id": voice.call.call_id,
                "stream_id": voice.stream_id,
                "caller": voice.call.caller,
                "callee": voice.call.callee,
            }
        ).encode()
        key = signing_key(config.secret.get_secret_value())
        signed = signed_headers(key, f"tool_{uuid4().hex}", self._clock(), body)
        try:
            response = await self._requests.fetch(
                "POST",
                config.url,
                configured=True,
                trust=config.trust(),
                timeout_s=config.timeout_s,
                max_bytes=config.max_answer_bytes,
                check=_check_encoding,
                body=body,
                headers={"Content-Type": "application/json", **signed},
            )
        except ResponseTooLarge:
            raise ToolFailed(f"the answer is larger than {config.max_answer_bytes} bytes") from None
        except RequestFailed as problem:
            raise ToolFailed(f"the server of {config.id} failed: {problem}") from None
        try:
            text = response.body.decode()
        except UnicodeDecodeError:
            raise ToolFailed("the answer is not UTF-8") from None
        if not 200 <= response.status < 300:
            raise ToolFailed(f"the server responded with status {response.status}: {cut(text, MAX_ERROR_CHARACTERS)}")
        return text or "done"


def _check_encoding(response: aiohttp.ClientResponse) -> None:
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise RequestFailed(f"the response has Content-Encoding {encoding[:40]!r}; expected identity")
