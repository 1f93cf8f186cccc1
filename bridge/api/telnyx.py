"""The one request of Telnyx's API that voice-agent frameworks send: hang up a call.

    POST /v2/calls/{call_control_id}/actions/hangup                  Authorization: Bearer, the key of [telnyx]

A call has the id that its media streams send (``bridge.dialects.telnyx.call_control_id``). Errors have Telnyx's shape
and codes, because clients decide by them: 90018 is taken as "has already ended".
"""

from __future__ import annotations

import hmac
import re

from aiohttp import web

from bridge.access import Principal, Scope
from bridge.api.backend import BACKEND
from bridge.api.errors import ApiError
from bridge.api.models.telnyx import TelnyxErrors, TelnyxResult
from bridge.api.routing import Route
from bridge.api.vendor import Vendor
from bridge.api.vendor_calls import hang_up
from bridge.dialects.telnyx import call_control_id

PREFIX = "/v2/calls/"
PATH = PREFIX + "{call}/actions/hangup"

_CODES = {401: "10009", 403: "10010", 404: "10005", 429: "10011"}
"""Telnyx's error codes, by HTTP status; otherwise 10015 (bad request) or 10007 (unexpected error)."""
_ID = re.compile("v3:[A-Za-z0-9_-]{43}")


async def hang_up_call(request: web.Request) -> web.Response:
    """``POST``: hang up the call."""
    if await hang_up(request, call_control_id):
        return web.json_response({"data": {"result": "ok"}})
    if _ID.fullmatch(request.match_info["call"]):  # ids are not kept: one of this form is that of an ended call
        return _failure(422, "90018", "Call has already ended", "This call is no longer active")
    raise ApiError(404, "CALL_NOT_FOUND", "no call has this call_control_id")


def check_key(request: web.Request) -> None:
    """Check that a request has the API key.

    Raises:
        ApiError: 401, the key is missing or wrong.
    """
    scheme, _, offered = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not offered.strip():
        raise ApiError(401, "AUTHENTICATION_REQUIRED", "send Authorization: Bearer with the API key")
    key = request.app[BACKEND].vendors.telnyx.api_key.get_secret_value()
    if not hmac.compare_digest(offered.strip().encode("utf-8", "surrogateescape"), key.encode()):
        raise ApiError(401, "INVALID_CREDENTIALS", "the API key is wrong")


def _of_api_error(_: web.Request, error: ApiError) -> web.Response:
    """Return an error of the API in Telnyx's shape."""
    code = _CODES.get(error.status, "10015" if error.status < 500 else "10007")
    response = _failure(error.status, code, error.reason.replace("_", " ").capitalize(), error.message)
    if error.status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="asterisk-bridge"'
    return response


def _failure(status: int, code: str, title: str, detail: str) -> web.Response:
    return web.json_response({"errors": [{"code": code, "title": title, "detail": detail}]}, status=status)


def _served(application: web.Application) -> bool:
    backend = application[BACKEND]
    return backend.channels is not None and backend.vendors.telnyx.enabled


ROUTES = (
    Route("POST", PATH, "hangupTelnyxCall", "Hang up a call", hang_up_call, "Telnyx", "calls:control",
          access="telnyx", answer=TelnyxResult,
          others=dict.fromkeys((401, 403, 404, 422, 429, 503), TelnyxErrors), audit="call.hangup"),
)  # fmt: skip
VENDOR = Vendor(
    "telnyx",
    PREFIX,
    _served,
    {"type": "http", "scheme": "bearer", "description": "`telnyx.api_key`."},
    _of_api_error,
    Principal("telnyx", scopes=frozenset[Scope]({"calls:control"})),
    check_key,
    routes=ROUTES,
)
