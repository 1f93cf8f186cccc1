"""``/v1.0/calls``: which calls there are, and a stream on one of them.

Paths and spelling are VoIPBIN's, so that its clients work; only what is known is said: a key that the bridge cannot
fill truthfully is left out.
"""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from bridge.api.auth import SECRET_PARAMETERS
from bridge.api.backend import BACKEND, Backend
from bridge.api.errors import ApiError, invalid, unavailable
from bridge.api.paging import page_of
from bridge.calls.model import Call, Party
from bridge.errors import AriError, Overloaded
from bridge.streams.clients import MediaStreamOptions

RETRY_AFTER_S = 2
LOST_ARI = "the bridge has no connection to Asterisk at the moment, so it does not know which calls there are"


async def list_calls(request: web.Request) -> web.Response:
    """``GET /v1.0/calls``: the calls that go on now, newest first."""
    backend = _connected(request)
    page = page_of(backend.calls.calls.values(), lambda call: (call_time(call), call.id), request.query)
    streams = _streams_of_calls(backend)
    return web.json_response(
        {
            "result": [call_json(call, streams[call.id]) for call in page.entries],
            "next_page_token": page.next_page_token,
        }
    )


async def get_call(request: web.Request) -> web.Response:
    """``GET /v1.0/calls/{id}``: one call, by its own id or by the id of one of its channels."""
    backend = _connected(request)
    call, _ = _find(backend, request.match_info["id"])
    return web.json_response(call_json(call, _streams_of_calls(backend)[call.id]))


async def list_streams(request: web.Request) -> web.Response:
    """``GET /v1.0/streams``: the streams that are open now."""
    backend = request.app[BACKEND]
    return web.json_response({"result": [dict(stream) for stream in backend.streams()]})


async def media_stream(request: web.Request) -> web.StreamResponse:
    """``GET /v1.0/calls/{id}/media_stream``: everything that can be wrong is answered here, before the upgrade."""
    options = stream_options(request.query)
    backend = _connected(request)
    call, party = _find(backend, request.match_info["id"])
    if not call.answered:
        raise ApiError(409, "STATE_INVALID", f"the call is {call_status(call)}; a stream needs one that is progressing")
    if party.state != "Up":
        raise ApiError(
            409, "STATE_INVALID", f"{party.name} has not answered ({party.state}); a stream needs a party that has"
        )
    # Last, so that a plain GET tells whether a stream would work.
    check_upgrade(request)
    try:
        return await backend.accept_stream(request, call, party, options)
    except Overloaded as error:
        raise unavailable("OVERLOADED", str(error), RETRY_AFTER_S) from error
    except AriError as error:
        if error.status == 404:
            raise ApiError(404, "CALL_NOT_FOUND", "the call has just ended") from error
        raise unavailable("ASTERISK_FAILED", f"Asterisk: {error.message}", RETRY_AFTER_S) from error


def stream_options(query: Mapping[str, str]) -> MediaStreamOptions:
    """The options in a ``media_stream`` URL.

    Raises:
        ApiError: 400, one of them is missing, unknown, wrong, or given twice.
    """
    # items() shows what is given twice, iterating over the query itself does not.
    names = [name for name, _ in query.items() if name not in SECRET_PARAMETERS]
    for name in names:
        if names.count(name) > 1:
            raise invalid("INVALID_STREAM_OPTIONS", f"{name} is given more than once")
    try:
        return MediaStreamOptions.from_query({name: query[name] for name in names})
    except ValueError as error:
        raise invalid("INVALID_STREAM_OPTIONS", str(error)) from error


def check_upgrade(request: web.Request) -> None:
    """Whether the request is a WebSocket handshake (RFC 6455 section 4.2.1).

    Raises:
        ApiError: 426 if it is none or of another version, 400 if its key is broken.
    """
    headers = request.headers
    connection = [part.strip().lower() for part in ",".join(headers.getall("Connection", ())).split(",")]
    if headers.get("Upgrade", "").strip().lower() != "websocket" or "upgrade" not in connection:
        raise ApiError(
            426,
            "WEBSOCKET_REQUIRED",
            "the request is good, but this path speaks WebSocket: open it with a ws:// or wss:// client",
            {"Upgrade": "websocket", "Connection": "Upgrade"},
        )
    if headers.get("Sec-WebSocket-Version", "").strip() != "13":
        raise ApiError(
            426,
            "WEBSOCKET_VERSION",
            "only version 13 of WebSocket is spoken here",
            {"Sec-WebSocket-Version": "13", "Upgrade": "websocket", "Connection": "Upgrade"},
        )
    try:
        nonce = base64.b64decode(headers.get("Sec-WebSocket-Key", "").strip(), validate=True)
    except (binascii.Error, ValueError):
        nonce = b""
    if len(nonce) != 16:
        raise invalid("INVALID_WEBSOCKET_KEY", "Sec-WebSocket-Key must be 16 bytes in base64")


def call_status(call: Call) -> str:
    """VoIPBIN's word for how far a call is: dialing, ringing or progressing."""
    if call.answered:
        return "progressing"
    if any(party.state == "Ringing" for party in call.parties.values()):
        return "ringing"
    return "dialing"


def call_json(call: Call, streams: int) -> dict[str, Any]:
    """A call as VoIPBIN's clients know it, plus its parties and how many streams it has."""
    caller = call.primary
    body: dict[str, Any] = {"id": call.id, "status": call_status(call), "tm_create": call_time(call)}
    if caller is not None:
        body["source"] = {"type": "", "target": caller.caller_number, "target_name": caller.caller_name}
        body["destination"] = {"type": "", "target": dialled_number(call)}
    body["parties"] = [party_json(party) for party in call.parties.values()]
    body["streams"] = streams
    return body


def party_json(party: Party) -> dict[str, Any]:
    """A party of a call: the facts of its channel."""
    return {
        "id": party.id,
        "name": party.name,
        "endpoint": party.endpoint,
        "state": party.state,
        "caller_number": party.caller_number,
        "caller_name": party.caller_name,
        "connected_number": party.connected_number,
        "context": party.context,
        "exten": party.exten,
        "app_name": party.app_name,
        "in_stasis": party.in_stasis,
        "tm_create": utc_time(party.created),
    }


def dialled_number(call: Call) -> str:
    """Whom the caller reached: the connected number, else the extension that it is in (not a bare ``s``, ``h``...)."""
    caller = call.primary
    if caller is None:
        return ""
    return caller.connected_number or (caller.exten if len(caller.exten) > 1 or caller.exten.isdigit() else "")


def call_time(call: Call) -> str:
    """When the call began, in UTC."""
    return utc_time(call.created)


def utc_time(asterisk_time: str) -> str:
    """Asterisk's ``2026-01-31T12:00:00.123+0100`` as ``2026-01-31T11:00:00.123Z``; "" if it is no time."""
    try:
        moment = datetime.strptime(asterisk_time, "%Y-%m-%dT%H:%M:%S.%f%z").astimezone(UTC)
    except ValueError:
        return ""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _connected(request: web.Request) -> Backend:
    backend = request.app[BACKEND]
    if not backend.ari_connected():
        raise unavailable("ASTERISK_UNREACHABLE", LOST_ARI, RETRY_AFTER_S)
    return backend


def _find(backend: Backend, identity: str) -> tuple[Call, Party]:
    found = backend.calls.find(identity)
    if found is None:
        raise ApiError(
            404, "CALL_NOT_FOUND", f"no call or channel has the id {identity[:160]!r}; GET /v1.0/calls lists them"
        )
    return found


def _streams_of_calls(backend: Backend) -> Counter[str]:
    return Counter(str(stream["call_id"]) for stream in backend.streams())
