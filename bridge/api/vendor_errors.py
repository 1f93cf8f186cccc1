"""Errors under a vendor's paths, in the vendor's shape, whatever raised them: its clients read no other."""

from __future__ import annotations

from typing import Literal

from aiohttp import web

from bridge.api import plivo, telnyx, twilio, yeastar
from bridge.api.backend import BACKEND, SUBSCRIPTIONS, TWILIO
from bridge.api.errors import ApiError

Vendor = Literal["twilio", "telnyx", "plivo", "yeastar"]


def vendor_of(request: web.Request) -> Vendor | None:
    """Return the vendor of the path that a request names; None: it is not a vendor's."""
    path = "/" + request.path.lstrip("/")
    served = request.app.get(TWILIO)
    if served is not None and served[0].enabled and path.startswith(twilio.PREFIX):
        return "twilio"
    backend = request.app[BACKEND]
    if backend.channels is not None and backend.vendors.telnyx.enabled and path.startswith(telnyx.PREFIX):
        return "telnyx"
    if backend.channels is not None and backend.vendors.plivo.enabled and path.startswith(plivo.PREFIX):
        return "plivo"
    if SUBSCRIPTIONS in request.app and path.startswith(yeastar.PREFIX):
        return "yeastar"
    return None


def vendor_response(request: web.Request, error: ApiError) -> web.Response | None:
    """Return an error in the shape of the vendor whose path the request names; None: it is not a vendor's."""
    match vendor_of(request):
        case "twilio":
            response = twilio.failure(twilio.of_api_error(request, error))
        case "telnyx":
            response = telnyx.of_api_error(error)
        case "plivo":
            response = plivo.of_api_error(error)
        case "yeastar":
            response = yeastar.of_api_error(error)
        case None:
            return None
    for name in ("Allow", "Retry-After"):
        if name in error.headers:
            response.headers[name] = error.headers[name]
    return response
