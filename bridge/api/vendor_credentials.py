"""Credentials of vendors' routes, which vendors' clients send in their own way."""

from __future__ import annotations

from aiohttp import web

from bridge.api import flows, plivo, telnyx, twilio
from bridge.api.auth import check_origin


def check_vendor_credential(request: web.Request, access: str) -> None:
    """Check the credential of a request to a vendor's route.

    Args:
        request: the request.
        access: the route's `Access`.

    Raises:
        ApiError: 401 or 403, it is missing, wrong, or sent by a web page.
    """
    if access in ("twilio", "plivo"):
        # Browsers store Basic credentials and send them with the requests of any page.
        check_origin(request.headers, "a web page may not use this route")
    check = {
        "twilio": twilio.check_account,
        "telnyx": telnyx.check_key,
        "plivo": plivo.check_account,
        "voxology": flows.check_key,
    }
    check[access](request)
