"""``/openapi.json`` and ``/docs``: the OpenAPI document as JSON and as an HTML page."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection

from aiohttp import web

from bridge.api.prebuilt import Prebuilt, page_headers
from bridge.api.routing import Operation


class Documents:
    """The document as JSON and as an HTML page.

    They are built in a thread on the first request: it takes half a second on a slow core.

    Args:
        operations: the routes of the application, complete at that time.
        with_tokens: whether tokens are configured.
    """

    def __init__(self, operations: Collection[Operation], *, with_tokens: bool) -> None:
        self._operations = operations
        self._with_tokens = with_tokens
        self._built: asyncio.Future[tuple[Prebuilt, Prebuilt]] | None = None

    async def built(self) -> tuple[Prebuilt, Prebuilt]:
        """Return the JSON document and the page."""
        if self._built is None:
            self._built = asyncio.ensure_future(asyncio.to_thread(self._build))
        return await asyncio.shield(self._built)

    def _build(self) -> tuple[Prebuilt, Prebuilt]:
        from bridge.api.docs_page import page_of
        from bridge.api.document import document_of

        described = document_of(self._operations, with_tokens=self._with_tokens)
        html, policy = page_of(described)
        return (
            Prebuilt(json.dumps(described).encode(), "application/json"),
            Prebuilt(html.encode(), "text/html", "utf-8", page_headers(policy)),
        )


DOCUMENTS = web.AppKey("documents", Documents)


async def openapi(request: web.Request) -> web.Response:
    """Serve ``GET /openapi.json``."""
    return (await request.app[DOCUMENTS].built())[0].answer(request)


async def docs(request: web.Request) -> web.Response:
    """Serve ``GET /docs``."""
    return (await request.app[DOCUMENTS].built())[1].answer(request)
