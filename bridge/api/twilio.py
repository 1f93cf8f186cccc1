"""The one resource of Twilio's REST API that voice-agent frameworks use: get a call, end it, redirect it.

    GET, POST /2010-04-01/Accounts/{AccountSid}/Calls/{CallSid}.json          HTTP Basic: account and token of [twilio]

A call has the id that its media streams send (``bridge.dialects.twilio.call_sid``). Errors have Twilio's shape and
codes, because clients decide by them: 20404 is taken as "has already ended". Source: twilio.com/docs/voice/api.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

from aiohttp import web

from bridge.api import vendor_calls
from bridge.api.backend import BACKEND, TWILIO
from bridge.api.bodies import MAX_FORM_FIELDS, has_type, is_utf8, whole_body
from bridge.api.errors import ApiError
from bridge.api.routing import note
from bridge.api.twiml import Dial, TwimlRefused, parse
from bridge.api.views import call_status, dialed_number
from bridge.calls.call_record import CallRecord
from bridge.calls.model import Call, Party
from bridge.dialects.twilio import call_sid
from bridge.errors import AriError

PREFIX = "/2010-04-01/"
MAX_FORM_BYTES = 65_536
"""Percent-encoded TwiML; `bridge.api.twiml` accepts less."""
PATH = PREFIX + "Accounts/{account}/Calls/{call}.json"

_CODES = {401: 20003, 403: 20403, 404: 20404, 405: 20004, 429: 20429, 503: 20503}
"""Twilio's error codes, by HTTP status; otherwise 20001 (invalid request) or 20500 (internal error)."""
_COMPLETED = "completed"
_END_WORDS = (_COMPLETED, "canceled")
_UNANSWERED = {"busy": "busy", "noanswer": "no-answer", "timeout": "no-answer", "cancel": "canceled"}
"""Twilio's status of an unanswered call, by reason; otherwise ``failed``."""


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
        return _gone(request)
    return TwilioError(error.status, _CODES.get(error.status, 20001 if error.status < 500 else 20500), error.message)


async def get_call(request: web.Request) -> web.Response:
    """``GET``: return the call, active or ended."""
    try:
        record = _ended(request)
        if record is not None:
            return web.json_response(_record_json(request, record))
        return web.json_response(_call_json(request, _find(request)[0]))
    except TwilioError as error:
        return failure(error)


async def update_call(request: web.Request) -> web.Response:
    """``POST``: ``Status=completed`` ends the call, ``Twiml=..`` redirects it."""
    try:
        call, caller = _find(request)
        note(request, call=call.id, party=caller.id)
        form = await _form(request)
        dial = _wanted(form)
        note(request, destinations=[f"extension {dial.number}"] if dial is not None else [])
        config, channels = request.app[TWILIO]
        if dial is None:
            await channels.hangup(caller.id)
        elif not config.dial_context:
            raise TwilioError(400, 12200, "<Dial> is disabled; twilio.dial_context enables it")
        else:
            await channels.continue_in_dialplan(caller.id, config.dial_context, dial.number, 1)
        return web.json_response(_call_json(request, call) | ({} if dial else {"status": _COMPLETED}))
    except AriError as error:
        if error.status == 404:
            return failure(_gone(request))
        return failure(TwilioError(503, 20503, f"Asterisk: {error.message}"))
    except TwilioError as error:
        return failure(error)


def _find(request: web.Request) -> tuple[Call, Party]:
    """Return the call that the path names, and its caller."""
    found = vendor_calls.named_call(request, call_sid)
    if found is None:
        raise _gone(request)
    return found


def _ended(request: web.Request) -> CallRecord | None:
    """Return the record of the call that the path names, if it ended recently."""
    calling = request.app[BACKEND].calling
    if calling is None:
        return None
    wanted = request.match_info["call"]
    return next((record for record in calling.records.ended() if call_sid(record.id) == wanted), None)


def check_account(request: web.Request) -> None:
    """Check that a request has the account's id and token.

    Raises:
        ApiError: 401, it has not.
    """
    config, _ = request.app[TWILIO]
    vendor_calls.check_account(request, config.account_sid, config.auth_token.get_secret_value())


async def _form(request: web.Request) -> dict[str, str]:
    if not has_type(request, "application/x-www-form-urlencoded"):
        raise TwilioError(400, 20001, "the body must be a form: application/x-www-form-urlencoded")
    if not is_utf8(request):
        raise TwilioError(400, 20001, "the form must be in UTF-8")
    data = await whole_body(request, MAX_FORM_BYTES)
    if data.count(b"&") >= MAX_FORM_FIELDS:
        raise TwilioError(400, 20001, f"the form has more than {MAX_FORM_FIELDS} fields")
    try:
        fields = await request.post()
    except (ValueError, LookupError):
        raise TwilioError(400, 20001, "the form cannot be decoded") from None
    return {name: value for name, value in fields.items() if isinstance(value, str)}


def _wanted(form: dict[str, str]) -> Dial | None:
    """Return the number to dial, or None to end the call."""
    asked = [name for name in ("Status", "Twiml", "Url") if form.get(name)]
    if len(asked) != 1:
        raise TwilioError(400, 20001, "expected either Status=completed or Twiml=...")
    if asked == ["Url"]:
        raise TwilioError(400, 20001, "Url: documents are not fetched; send the document itself as Twiml=...")
    if asked == ["Status"]:
        if form["Status"] not in _END_WORDS:
            raise TwilioError(400, 20001, f"Status: {form['Status'][:40]!r} cannot be set; expected completed")
        return None
    try:
        verb = parse(form["Twiml"])
    except TwimlRefused as error:
        raise TwilioError(400, error.code, f"Twiml: {error}") from None
    return verb if isinstance(verb, Dial) else None


def _call_json(request: web.Request, call: Call) -> dict[str, Any]:
    """Return the JSON of a call in Twilio's shape; null where Asterisk has no equivalent."""
    caller = call.primary
    created = _rfc2822(call.created)
    shown = _shown(request, caller.caller_number if caller else "", dialed_number(call))
    return shown | {
        "date_created": created,
        "date_updated": created,
        "start_time": created,
        "status": {"progressing": "in-progress", "ringing": "ringing"}.get(call_status(call), "queued"),
    }


def _record_json(request: web.Request, record: CallRecord) -> dict[str, Any]:
    """Return the JSON of an ended call; its duration is from the answer to the end, in seconds."""
    answered, ended = record.tm_progressing, record.tm_hangup or 0.0
    status = _COMPLETED if answered else _UNANSWERED.get(record.hangup_reason, "failed")
    outgoing = record.direction == "outgoing"
    return _shown(request, record.source.target, record.destination.target) | {
        "date_created": _date(record.tm_create),
        "date_updated": _date(record.tm_hangup),
        "start_time": _date(answered or record.tm_create),
        "end_time": _date(record.tm_hangup),
        "duration": str(round(ended - answered)) if answered else "0",
        "direction": "outbound-api" if outgoing else "inbound",
        "status": status,
    }


def _shown(request: web.Request, source: str, destination: str) -> dict[str, Any]:
    return {
        "sid": request.match_info["call"],
        "account_sid": request.match_info["account"],
        "api_version": "2010-04-01",
        "date_created": None,
        "date_updated": None,
        "start_time": None,
        "end_time": None,
        "duration": None,
        "direction": "inbound",
        "from": source,
        "from_formatted": source,
        "to": destination,
        "to_formatted": destination,
        "status": "queued",
        "parent_call_sid": None,
        "price": None,
        "price_unit": None,
        "uri": request.path,
    }


def _rfc2822(asterisk_time: str) -> str | None:
    try:
        return format_datetime(datetime.strptime(asterisk_time, "%Y-%m-%dT%H:%M:%S.%f%z"))
    except ValueError:
        return None


def _date(moment: float | None) -> str | None:
    """Return a time in seconds since 1970 as Twilio writes it."""
    return format_datetime(datetime.fromtimestamp(moment, UTC)) if moment is not None else None


def _gone(request: web.Request) -> TwilioError:
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
