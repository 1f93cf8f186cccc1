"""The one request of Plivo's API that voice-agent frameworks send: hang up a call.

    DELETE /v1/Account/{auth_id}/Call/{call_uuid}/                   HTTP Basic: auth id and token of [plivo]

A call has the id that its audio streams send (``bridge.dialects.plivo.call_uuid``). Clients take 404 as "has already
ended".
"""

from __future__ import annotations

import base64
import hmac

from aiohttp import web

from bridge.api.backend import BACKEND
from bridge.api.errors import ApiError
from bridge.api.vendor_calls import hang_up
from bridge.dialects.plivo import call_uuid

PREFIX = "/v1/Account/"
PATH = PREFIX + "{account}/Call/{call}/"


async def hang_up_call(request: web.Request) -> web.Response:
    """``DELETE``: hang up the call."""
    if await hang_up(request, call_uuid):
        return web.Response(status=204)
    raise ApiError(404, "CALL_NOT_FOUND", "no active call has this call_uuid")


def check_account(request: web.Request) -> None:
    """Check that a request has the account's id and token.

    Raises:
        ApiError: 401, it has not.
    """
    config = request.app[BACKEND].vendors.plivo
    scheme, _, offered = request.headers.get("Authorization", "").partition(" ")
    try:
        user, _, password = base64.b64decode(offered.strip(), validate=True).partition(b":")
    except ValueError:
        user, password = b"", b""
    if scheme.lower() != "basic" or not user:
        raise ApiError(401, "AUTHENTICATION_REQUIRED", "send Authorization: Basic with the auth id and token")
    # Both are always compared: the response time must disclose nothing.
    good = hmac.compare_digest(user, config.auth_id.encode())
    good &= hmac.compare_digest(password, config.auth_token.get_secret_value().encode())
    good &= request.match_info.get("account", config.auth_id) == config.auth_id
    if not good:
        raise ApiError(401, "INVALID_CREDENTIALS", "the auth id or token is wrong")


def of_api_error(error: ApiError) -> web.Response:
    """Return an error of the API in Plivo's shape."""
    response = web.json_response({"error": error.message}, status=error.status)
    if error.status == 401:
        response.headers["WWW-Authenticate"] = 'Basic realm="asterisk-bridge"'
    return response
