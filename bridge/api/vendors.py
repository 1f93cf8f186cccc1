"""The vendors whose clients are served. A vendor is one route file with a `Vendor`, and an entry here."""

from __future__ import annotations

from aiohttp import web

from bridge.access import Principal
from bridge.api import flows, plivo, telnyx, twilio, yeastar
from bridge.api.auth import check_origin
from bridge.api.errors import ApiError

VENDORS = {each.name: each for each in (flows.VENDOR, twilio.VENDOR, telnyx.VENDOR, plivo.VENDOR, yeastar.VENDOR)}
"""By name; in the order of the OpenAPI document."""
_WITH_FORMAT = tuple(each for each in VENDORS.values() if each.respond is not None)
PRINCIPALS = {each.name: each.principal for each in VENDORS.values() if each.principal is not None}


def vendor_of(request: web.Request) -> str | None:
    """Return the name of the vendor of the path that a request names; None: of none with a format of errors."""
    path = "/" + request.path.lstrip("/")
    return next((each.name for each in _WITH_FORMAT if path.startswith(each.prefix) and each.served(request.app)), None)


def vendor_response(request: web.Request, error: ApiError) -> web.Response | None:
    """Return an error in the shape of the vendor whose path the request names: its clients read no other.

    Returns:
        None: the path is not a vendor's.
    """
    name = vendor_of(request)
    respond = VENDORS[name].respond if name is not None else None
    if respond is None:
        return None
    response = respond(request, error)
    for header in ("Allow", "Retry-After"):
        if header in error.headers:
            response.headers[header] = error.headers[header]
    return response


def check_vendor_credential(request: web.Request, access: str) -> Principal:
    """Check the credential of a request to a vendor's route, and return who sends it.

    Args:
        request: the request.
        access: the name of the vendor.

    Raises:
        ApiError: 401 or 403, it is missing, wrong, or sent by a web page.
    """
    vendor = VENDORS[access]
    if vendor.stored_by_browsers:
        check_origin(request.headers, "a web page may not use this route")
    assert vendor.check is not None
    assert vendor.principal is not None
    vendor.check(request)
    return vendor.principal
