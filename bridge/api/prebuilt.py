"""Documents that are the same for every client while the process runs: built once, with an entity tag."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import BytesPayload

BLOCK_BYTES = 16384


class Prebuilt:
    """One document.

    Args:
        body: the content.
        content_type: its media type, without a charset.
        charset: of the media type; empty: none is sent.
        headers: more HTTP headers.
    """

    def __init__(self, body: bytes, content_type: str, charset: str = "", headers: Mapping[str, str] | None = None):
        self.body = body
        self.content_type = content_type
        self.charset = charset
        self.headers = headers or {}
        self.tag = hashlib.sha256(body).hexdigest()[:32]
        """A strong entity tag, without quotes (RFC 9110, 8.8.3)."""

    def answer(self, request: web.Request) -> web.Response:
        """Return 200 with the document, or 304 if the client has it.

        Clients may cache it, but must revalidate it: it can change with the version of asterisk-bridge.
        """
        # Tags are compared weakly here (RFC 9110, 13.1.2).
        present = request.if_none_match or ()
        headers = {**self.headers, "Cache-Control": "no-cache"}
        if any(tag.value in (self.tag, "*") for tag in present):
            response = web.Response(status=304, headers=headers)
        else:
            response = web.Response(
                body=_Blocks(self.body), content_type=self.content_type, charset=self.charset or None, headers=headers
            )
        response.etag = self.tag
        return response


class _Blocks(BytesPayload):
    """Bytes that are written in blocks: a client that does not read takes the memory of one block, not of all."""

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write, and wait for the client; overrides aiohttp's."""
        view = memoryview(self._value)
        for start in range(0, len(view), BLOCK_BYTES):
            await writer.write(view[start : start + BLOCK_BYTES])
            await writer.drain()


def page_headers(policy: str) -> dict[str, str]:
    """Return the headers of an HTML page.

    Args:
        policy: its Content-Security-Policy.
    """
    return {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY"}
