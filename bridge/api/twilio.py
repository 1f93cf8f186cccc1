"""The part of Twilio's REST API that agents and the vendor's own client use: calls, their streams, their recordings.

    POST, GET  /2010-04-01/Accounts/{AccountSid}/Calls.json
    GET, POST  /2010-04-01/Accounts/{AccountSid}/Calls/{CallSid}.json
    POST       /2010-04-01/Accounts/{AccountSid}/Calls/{CallSid}/Streams.json
    POST       /2010-04-01/Accounts/{AccountSid}/Calls/{CallSid}/Streams/{Sid}.json
    POST       /2010-04-01/Accounts/{AccountSid}/Calls/{CallSid}/Recordings.json
    POST       /2010-04-01/Accounts/{AccountSid}/Calls/{CallSid}/Recordings/{RecordingSid}.json
    GET        /2010-04-01/Accounts/{AccountSid}/Recordings/{RecordingSid}

All take the account and token of [twilio] as HTTP Basic credentials. A call has the id that its media streams send
(``bridge.dialects.twilio.call_sid``). Errors have Twilio's shape and codes, because clients decide by them: 20404 is
taken as "has already ended". Source: twilio.com/docs/voice/api.

This module has what all of them share, and reads; `bridge.api.twilio_changes` has the requests with an effect.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from aiohttp import web
from multidict import MultiDictProxy

from bridge.access import Principal, Scope
from bridge.api import vendor_calls
from bridge.api.backend import BACKEND, TWILIO
from bridge.api.bodies import MAX_FORM_FIELDS, has_type, is_utf8, whole_body
from bridge.api.errors import ApiError
from bridge.api.exception_mapping import check_connected
from bridge.api.twilio_shapes import call_json, record_json
from bridge.api.vendor import Vendor
from bridge.calls.call import Call, Party
from bridge.calls.call_record import CallRecord
from bridge.dialects.twilio import call_sid
from bridge.errors import AriError
from bridge.flows.twiml_requests import call_status

PREFIX = "/2010-04-01/"
MAX_FORM_BYTES = 65_536
"""Percent-encoded TwiML; `bridge.api.twilio_changes` accepts less."""
_ACCOUNT = PREFIX + "Accounts/{account}"
CALLS = _ACCOUNT + "/Calls.json"
PATH = _ACCOUNT + "/Calls/{call}.json"
OF_CALL = _ACCOUNT + "/Calls/{call}"
"""The beginning of the paths of what concerns one call."""
STREAMS = OF_CALL + "/Streams.json"
STREAM = OF_CALL + "/Streams/{stream}.json"
RECORDINGS = OF_CALL + "/Recordings.json"
RECORDING_OF_CALL = OF_CALL + "/Recordings/{recording}.json"
RECORDING = _ACCOUNT + "/Recordings/{recording}"
PAGE_SIZE, MAX_PAGE_SIZE, MAX_PAGE = 50, 1000, 100_000

_CODES = {401: 20003, 403: 20403, 404: 20404, 405: 20004, 429: 20429, 503: 20503}
"""Twilio's error codes, by HTTP status; otherwise 20001 (invalid request) or 20500 (internal error)."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class TwilioError(Exception):
    """An error response.

    Args:
        status: HTTP status.
        code: Twilio's error code.
    """

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def of_api_error(request: web.Request, error: ApiError) -> TwilioError:
    """Return an error of the API as one of Twilio's."""
    if error.status == 404:
        return gone(request)
    return TwilioError(error.status, _CODES.get(error.status, 20001 if error.status < 500 else 20500), error.message)


def answering(handler: Handler) -> Handler:
    """Return a handler whose errors have Twilio's shape."""

    @functools.wraps(handler)
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except AriError as error:
            if error.status == 404:
                return failure(gone(request))
            return failure(TwilioError(503, 20503, f"Asterisk: {error.message}"))
        except TwilioError as error:
            return failure(error)

    return answer


@answering
async def get_call(request: web.Request) -> web.StreamResponse:
    """``GET``: return the call, active or ended."""
    ended = _ended(request)
    if ended is not None:
        return web.json_response(record_json(request.match_info["account"], ended))
    call, _ = find(request)
    return web.json_response(shown(request, call))


@answering
async def list_calls(request: web.Request) -> web.StreamResponse:
    """``GET``: list calls, newest first, active or recently ended."""
    return page_of(request, newest(request))


def wanted(request: web.Request) -> int:
    """Return how many calls there are up to the end of the requested page."""
    number, size = _page(request)
    return (number + 1) * size


def newest(request: web.Request) -> list[dict[str, Any]]:
    """Return the newest calls of this process that a request asks for: one more than `wanted`, if there are.

    Raises:
        ApiError: 503, the state of calls is unknown.
    """
    backend, account = request.app[BACKEND], request.match_info["account"]
    check_connected(backend)
    assert backend.calling is not None  # otherwise the route does not exist
    records = backend.calling.records
    known = (each for each in (*records.ended(), *records.live()) if backend.owns(each.id))
    found = [each for each in known if _matches(each, request.query)]
    found.sort(key=lambda each: (int(each.tm_create or 0), call_sid(each.id)), reverse=True)
    return [record_json(account, each) for each in found[: wanted(request) + 1]]


def page_of(request: web.Request, calls: Iterable[Mapping[str, Any]]) -> web.Response:
    """Return a page of calls.

    Args:
        request: names the page.
        calls: at least those up to its end, and one more if there are more; in any order.
    """
    ordered = sorted(calls, key=_place, reverse=True)
    number, size = _page(request)
    begin = number * size
    part = ordered[begin : begin + size]

    def uri(number: int) -> str:
        return str(request.rel_url.update_query({"Page": str(number), "PageSize": str(size)}))

    return web.json_response(
        {
            "calls": part,
            "first_page_uri": uri(0),
            "next_page_uri": uri(number + 1) if len(ordered) > begin + size else None,
            "previous_page_uri": uri(number - 1) if number else None,
            "uri": str(request.rel_url),
            "page": number,
            "page_size": size,
            "start": begin,
            "end": max(begin + len(part) - 1, 0),
        }
    )


def _page(request: web.Request) -> tuple[int, int]:
    """Return the number and the size of the requested page."""
    return _count(request, "Page", 0, 0, MAX_PAGE), _count(request, "PageSize", PAGE_SIZE, 1, MAX_PAGE_SIZE)


def _place(call: Mapping[str, Any]) -> tuple[float, str]:
    return parsedate_to_datetime(call["date_created"]).timestamp() if call["date_created"] else 0.0, call["sid"]


def _matches(record: CallRecord, query: Mapping[str, str]) -> bool:
    wanted = (
        (query.get("To"), record.destination.target),
        (query.get("From"), record.source.target),
        (query.get("Status"), call_status(record)),
    )
    return all(not value or value == actual for value, actual in wanted)


def _count(request: web.Request, name: str, default: int, low: int, high: int) -> int:
    given = request.query.get(name, "")
    return min(max(int(given), low), high) if given.isdecimal() and len(given) < 10 else default


def call_of(request: web.Request) -> str:
    """Return the id of the call that the path names; empty if it is unknown."""
    backend, wanted = request.app[BACKEND], request.match_info["call"]
    known = [record.id for record in backend.calling.records.ended()] if backend.calling is not None else []
    return next((call_id for call_id in (*backend.calls.ids, *known) if call_sid(call_id) == wanted), "")


def find(request: web.Request) -> tuple[Call, Party]:
    """Return the active call that the path names, and its caller.

    Raises:
        TwilioError: 404, the call is unknown or has ended.
        ApiError: 503, the state of calls is unknown.
    """
    found = vendor_calls.named_call(request, call_sid)
    if found is None:
        raise gone(request)
    return found


def shown(request: web.Request, call: Call) -> dict[str, Any]:
    """Return the JSON of an active call."""
    backend, account = request.app[BACKEND], request.match_info["account"]
    record = backend.calling.records.get(call.id) if backend.calling is not None else None
    return record_json(account, record) if record is not None else call_json(account, call)


def _ended(request: web.Request) -> CallRecord | None:
    """Return the record of the call that the path names, if it ended recently or has no channel yet."""
    backend = request.app[BACKEND]
    if backend.calling is None:
        return None
    wanted, records = request.match_info["call"], backend.calling.records
    known = (*(each for each in records.live() if each.id not in backend.calls.calls), *records.ended())
    return next((record for record in known if call_sid(record.id) == wanted), None)


def check_account(request: web.Request) -> None:
    """Check that a request has the account's id and token.

    Raises:
        ApiError: 401, the id or the token is missing or wrong.
    """
    config, _ = request.app[TWILIO]
    vendor_calls.check_account(request, config.account_sid, config.auth_token.get_secret_value())


async def form_of(request: web.Request) -> MultiDictProxy[Any]:
    """Return the fields of a form.

    Raises:
        TwilioError: 400, it is not a form in UTF-8.
        ApiError: the errors of `whole_body`.
    """
    if not has_type(request, "application/x-www-form-urlencoded"):
        raise TwilioError(400, 20001, "the body must be a form: application/x-www-form-urlencoded")
    if not is_utf8(request):
        raise TwilioError(400, 20001, "the form must be in UTF-8")
    data = await whole_body(request, MAX_FORM_BYTES)
    if data.count(b"&") >= MAX_FORM_FIELDS:
        raise TwilioError(400, 20001, f"the form has more than {MAX_FORM_FIELDS} fields")
    try:
        return await request.post()
    except (ValueError, LookupError):
        raise TwilioError(400, 20001, "the form cannot be decoded") from None


def created(body: Mapping[str, Any]) -> web.Response:
    """Return the response for an object that a request has created; `body` has its address."""
    return web.json_response(body, status=201, headers={"Location": body["uri"]})


def gone(request: web.Request) -> TwilioError:
    """Return the error for an object that does not exist: 404."""
    return TwilioError(404, 20404, f"The requested resource {request.path[:200]} was not found")


def failure(error: TwilioError) -> web.Response:
    """Return an error in Twilio's shape."""
    body = {
        "code": error.code,
        "message": str(error),
        "more_info": f"https://www.twilio.com/docs/errors/{error.code}",
        "status": error.status,
    }
    headers = {"WWW-Authenticate": 'Basic realm="asterisk-bridge"'} if error.status == 401 else None
    return web.json_response(body, status=error.status, headers=headers)


def _served(application: web.Application) -> bool:
    served = application.get(TWILIO)
    return served is not None and served[0].enabled


VENDOR = Vendor(
    "twilio",
    PREFIX,
    _served,
    {"type": "http", "scheme": "basic", "description": "`twilio.account_sid` and `twilio.auth_token`."},
    lambda request, error: failure(of_api_error(request, error)),
    Principal("twilio", scopes=frozenset[Scope]({"calls:read", "calls:control", "calls:originate", "recordings"})),
    check_account,
    stored_by_browsers=True,
)
