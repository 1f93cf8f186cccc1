"""The one request of Plivo's API that voice-agent frameworks send: hang up a call.

    DELETE /v1/Account/{auth_id}/Call/{call_uuid}/                   HTTP Basic: auth id and token of [plivo]

A call has the id that its audio streams send (``bridge.dialects.plivo.call_uuid``). Clients take 404 as "has already
ended".
"""

from __future__ import annotations

from aiohttp import web

from bridge.access import Principal, Scope
from bridge.api import vendor_calls
from bridge.api.backend import BACKEND
from bridge.api.errors import ApiError
from bridge.api.models.plivo import PlivoError
from bridge.api.routing import Route
from bridge.api.vendor import Vendor
from bridge.dialects.plivo import call_uuid

PREFIX = "/v1/Account/"
PATH = PREFIX + "{account}/Call/{call}/"


async def hang_up_call(request: web.Request) -> web.Response:
    """``DELETE``: hang up the call."""
    if await vendor_calls.hang_up(request, call_uuid):
        return web.Response(status=204)
    raise ApiError(404, "CALL_NOT_FOUND", "no active call has this call_uuid")


def check_account(request: web.Request) -> None:
    """Check that a request has the account's id and token.

    Raises:
        ApiError: 401, the id or the token is missing or wrong.
    """
    config = request.app[BACKEND].vendors.plivo
    vendor_calls.check_account(request, config.auth_id, config.auth_token.get_secret_value())


def _of_api_error(_: web.Request, error: ApiError) -> web.Response:
    """Return an error of the API in Plivo's shape."""
    response = web.json_response({"error": error.message}, status=error.status)
    if error.status == 401:
        response.headers["WWW-Authenticate"] = 'Basic realm="asterisk-bridge"'
    return response


def _served(application: web.Application) -> bool:
    backend = application[BACKEND]
    return backend.channels is not None and backend.vendors.plivo.enabled


ROUTES = (
    Route("DELETE", PATH, "hangupPlivoCall", "Hang up a call", hang_up_call, "Plivo", "calls:control",
          access="plivo", success=204, others=dict.fromkeys((401, 403, 404, 429, 503), PlivoError),
          audit="call.hangup"),
)  # fmt: skip
VENDOR = Vendor(
    "plivo",
    PREFIX,
    _served,
    {"type": "http", "scheme": "basic", "description": "`plivo.auth_id` and `plivo.auth_token`."},
    _of_api_error,
    Principal("plivo", scopes=frozenset[Scope]({"calls:control"})),
    check_account,
    stored_by_browsers=True,
    routes=ROUTES,
)
