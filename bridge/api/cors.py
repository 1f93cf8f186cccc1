"""Cross-origin requests: which web pages of other servers may use the API from a browser (``http.allowed_origins``).

A page gets access to what its token allows, and to nothing by a cookie: responses never allow credentials, and
`bridge.api.auth` rejects cookies of foreign pages. Origins are compared exactly; patterns are not supported.
"""

from __future__ import annotations

from collections.abc import Collection

from aiohttp import web
from aiohttp.typedefs import Handler

METHODS = "GET, POST, PUT, PATCH, DELETE"
HEADERS = "Authorization, Content-Type"
"""Request headers that the API reads, except those that need no permission."""
EXPOSED = "Retry-After, X-Request-Id, X-Worker"
MAX_AGE_S = 600
"""How long a browser may cache the response to a preflight request."""


class CrossOrigin:
    """Responds to preflight requests, and adds the CORS headers to responses.

    Args:
        origins: the allowed origins, as browsers write them.
    """

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = frozenset(origins)

    @web.middleware
    async def answer_preflight(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a preflight request of an allowed origin, which cannot carry a token; pass all others on."""
        asks = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        if not asks or request.headers.get("Origin") not in self._origins:
            return await handler(request)
        return web.Response(
            status=204,
            headers={
                "Access-Control-Allow-Methods": METHODS,
                "Access-Control-Allow-Headers": HEADERS,
                "Access-Control-Max-Age": str(MAX_AGE_S),
            },
        )

    async def add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """Add the headers that let an allowed origin read a response, errors included."""
        if not self._origins:
            return
        response.headers["Vary"] = "Origin"
        origin = request.headers.get("Origin")
        if origin in self._origins:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = EXPOSED
