"""``.../media_stream``: a client's WebSocket on a call or a conference; and the list of open streams.

All errors are returned before the upgrade.
"""

from __future__ import annotations

from aiohttp import web

from bridge.access import Principal
from bridge.api.errors import ApiError
from bridge.api.exception_mapping import asterisk_failing, call_not_found, check_connected
from bridge.api.models.base import NoQuery
from bridge.api.models.streams import ConferenceStreamQuery, StreamQuery, Streams
from bridge.api.reach import check_scope, sees_stream
from bridge.api.routing import RECORDED, Asked, JsonResponse
from bridge.api.stream_requests import StreamRequests
from bridge.api.upgrade import check_upgrade
from bridge.api.views import call_status
from bridge.conferences.conferences import NoSuchConference
from bridge.control.call_control import NotControlled
from bridge.errors import AriError, Revoked
from bridge.streams.media_stream_endpoint import MediaStreamOptions


async def list_streams(asked: Asked[NoQuery, None]) -> JsonResponse[Streams]:
    """List the open streams."""
    seen = [each for each in asked.backend.streams() if sees_stream(asked.backend, asked.principal, each)]
    return JsonResponse({"result": [dict(stream) for stream in seen]})


async def media_stream(asked: Asked[StreamQuery, None]) -> web.StreamResponse:
    """Stream a call's audio."""
    backend = asked.backend
    _check_directions(asked.principal, asked.query.options)
    check_connected(backend)
    found = backend.calls.find(asked.path())
    if found is None:
        raise call_not_found(asked.path())
    call, party = found
    if not call.answered:
        raise ApiError(
            409, "STATE_INVALID", f"the call is {call_status(call)}; a stream requires one that is progressing"
        )
    if party.state != "Up":
        raise ApiError(
            409, "STATE_INVALID", f"{party.name} has not answered ({party.state}); a stream requires a party that has"
        )
    # Last, for a plain GET to return the other errors that a stream would have.
    check_upgrade(asked.request)
    with asterisk_failing():
        try:
            response = await backend.accept_stream(
                *(asked.request, call, party, asked.query.options, asked.principal),
                StreamRequests(asked.request.app, asked.principal),
            )
        except AriError as error:
            if error.status == 404:
                raise ApiError(404, "CALL_NOT_FOUND", "the call has just ended") from error
            raise
        except Revoked as error:
            raise ApiError(401, "INVALID_CREDENTIALS", str(error)) from error
    asked.request[RECORDED] = response.status < 400
    return response


async def conference_media_stream(asked: Asked[ConferenceStreamQuery, None]) -> web.StreamResponse:
    """Stream a conference's audio."""
    backend = asked.backend
    _check_directions(asked.principal, asked.query.options)
    check_connected(backend)
    parts = backend.conferences
    assert parts is not None  # otherwise this route does not exist
    identity = asked.path()
    if parts.conferences.get(identity) is None and not parts.elsewhere(identity):
        raise conference_not_found(identity)
    check_upgrade(asked.request)
    with asterisk_failing():
        try:
            response = await parts.accept_stream(asked.request, identity, asked.query.options, asked.principal)
        except NoSuchConference as error:
            raise conference_not_found(identity) from error
        except NotControlled as error:
            raise ApiError(409, "STATE_INVALID", str(error)) from error
    asked.request[RECORDED] = response.status < 400
    return response


def _check_directions(principal: Principal, options: MediaStreamOptions) -> None:
    """Check that a principal has the scopes that a stream requires.

    Raises:
        ApiError: 403; its message names what the principal's scopes allow.
    """
    if options.receives_audio:
        check_scope(principal, "streams:listen", _needless("direction_listen"))
    if options.sends_audio:
        check_scope(principal, "streams:speak", _needless("direction_speak"))


def _needless(direction: str) -> str:
    return f", or the ticket does not have it (with {direction}=none in the URL it is not required)"


def conference_not_found(identity: str) -> ApiError:
    """Return the error for an unknown conference: 404."""
    return ApiError(
        404,
        "CONFERENCE_NOT_FOUND",
        f"no conference has the id {identity[:160]!r}; GET /v1.0/conferences lists them",
    )
