"""Calls by the ids that media streams send to applications, for the requests by which frameworks end them."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable

from aiohttp import web

from bridge.api.backend import BACKEND
from bridge.api.errors import ApiError
from bridge.api.exception_mapping import asterisk_failing, check_connected
from bridge.api.routing import note
from bridge.calls.call import Call, Party
from bridge.errors import AriError


def named_call(request: web.Request, identify: Callable[[str], str]) -> tuple[Call, Party] | None:
    """Return the active call that the path names as ``call``, and its caller; None: there is none.

    Args:
        request: the request.
        identify: returns the vendor's id of the call with a linkedid.

    Raises:
        ApiError: 503, the state of calls is unknown.
    """
    backend = request.app[BACKEND]
    check_connected(backend)
    wanted = request.match_info["call"]
    for call_id in backend.calls.ids:
        if identify(call_id) == wanted and (found := backend.calls.find(call_id)) is not None:
            return found
    return None


async def hang_up(request: web.Request, identify: Callable[[str], str]) -> bool:
    """Hang up the caller of the call that the path names.

    Args:
        request: the request.
        identify: returns the vendor's id of the call with a linkedid.

    Returns:
        False if there is no such call, or no longer.

    Raises:
        ApiError: 503, Asterisk is unavailable or failed.
    """
    found = named_call(request, identify)
    if found is None:
        return False
    call, caller = found
    note(request, call=call.id, party=caller.id)
    channels = request.app[BACKEND].channels
    assert channels is not None  # otherwise the route does not exist
    with asterisk_failing():
        try:
            await channels.hangup(caller.id)
        except AriError as error:
            if error.status == 404:
                return False
            raise
    return True


def check_account(request: web.Request, account: str, secret: str) -> None:
    """Check that a request has an account's id and secret as HTTP Basic credentials, and that its path names no other.

    Args:
        request: the request; its path may name the account as ``account``.
        account: the configured id.
        secret: the configured secret.

    Raises:
        ApiError: 401, the credentials are missing or wrong.
    """
    scheme, _, offered = request.headers.get("Authorization", "").partition(" ")
    try:
        user, _, password = base64.b64decode(offered.strip(), validate=True).partition(b":")
    except ValueError:
        user, password = b"", b""
    if scheme.lower() != "basic" or not user:
        raise ApiError(401, "AUTHENTICATION_REQUIRED", "send Authorization: Basic with the account's id and secret")
    # Both are always compared: the response time must disclose nothing.
    good = hmac.compare_digest(user, account.encode())
    good &= hmac.compare_digest(password, secret.encode())
    good &= request.match_info.get("account", account) == account
    if not good:
        raise ApiError(401, "INVALID_CREDENTIALS", "the account's id or secret is wrong")
