"""Requests of Twilio's REST API with an effect: create, update and end calls, start and stop their streams."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from typing import Any

from aiohttp import web
from multidict import MultiDictProxy

from bridge.api.backend import BACKEND, PRINCIPAL, TWILIO, CallServices
from bridge.api.calls import is_up
from bridge.api.errors import ApiError
from bridge.api.exception_mapping import acting, asterisk_failing, calling
from bridge.api.models.base import Body
from bridge.api.models.twilio import TwilioCreate, TwilioUpdate
from bridge.api.originated_calls import ORIGINATED
from bridge.api.routing import note
from bridge.api.twilio import TwilioError, answering, created, find, form_of, shown
from bridge.api.twilio_shapes import record_json
from bridge.calls.addresses import Address
from bridge.control.dial_policy import NotAllowed
from bridge.control.outbound_calls import OriginateRequest
from bridge.flows.options import HTTP_URL
from bridge.flows.program import Action, Document, InvalidFlow, Program
from bridge.flows.status_callbacks import AT_END, STATUS_EVENTS, StatusEvent
from bridge.flows.syntax import parse
from bridge.flows.twiml_verbs import check_digits

MAX_CHARACTERS = 4000
"""Twilio's limit of the parameter ``Twiml``."""
MAX_URL_CHARACTERS = 4096
COMPLETED = "completed"
_END_WORDS = (COMPLETED, "canceled")
_NUMBER = re.compile(r"[0-9A-Za-z+*#._-]{1,64}")
METHODS = ("POST", "GET")


@answering
async def create_call(request: web.Request) -> web.StreamResponse:
    """``POST``: call a number, and run a document when it answers."""
    form = await form_of(request)
    check_known(form, TwilioCreate)
    config, _ = request.app[TWILIO]
    if not config.originate:
        raise TwilioError(403, 20403, "calls cannot be created with this account; twilio.originate enables it")
    parts = calling(request.app[BACKEND])
    to, source = _text(form, "To"), _text(form, "From")
    if not to:
        raise TwilioError(400, 21201, "To: is missing; expected a number, sip:extension@host or client:extension")
    if not source:
        raise TwilioError(400, 21213, "From: is missing; expected a number")
    destination = _destination(parts, to)
    note(request, destinations=[str(destination)], source=source)
    program = await _program(form)
    watched = _callback(form)
    principal = request[PRINCIPAL]
    wanted = OriginateRequest(
        [destination],
        principal,
        source=Address("tel", source.removeprefix("client:")),
        timeout_s=_seconds(form, "Timeout", 600),
        max_call_s=_seconds(form, "TimeLimit", 86_400),
    )
    try:
        with asterisk_failing(), request.app[ORIGINATED].room(principal, 1, is_up(parts)) as add:
            originated = await parts.flow_manager.originate(wanted, program)
            add([each.id for each in originated.calls])
    except NotAllowed as problem:
        raise TwilioError(400, 21215, str(problem)) from None
    except ValueError as problem:
        raise TwilioError(400, 21211, str(problem)) from None
    (record,) = originated.calls
    note(request, calls=[record.id])
    if watched is not None and parts.status_callbacks is not None:
        parts.status_callbacks.watch(record.id, *watched)
    body = record_json(request.match_info["account"], record) | {"status": "queued"}
    return created(body)


@answering
async def update_call(request: web.Request) -> web.StreamResponse:
    """``POST``: ``Status=completed`` ends the call; ``Twiml`` or ``Url`` run another document on it."""
    call, caller = find(request)
    note(request, call=call.id, party=caller.id)
    form = await form_of(request)
    check_known(form, TwilioUpdate)
    asked = [name for name in ("Status", "Twiml", "Url") if _text(form, name)]
    if len(asked) != 1:
        raise TwilioError(400, 20001, "expected either Status=completed, Twiml=... or Url=...")
    config, channels = request.app[TWILIO]
    program = None
    if asked == ["Status"]:
        if _text(form, "Status") not in _END_WORDS:
            raise TwilioError(400, 20001, f"Status: {_text(form, 'Status')[:40]!r} cannot be set; expected completed")
    else:
        program = await _program(form)
    if program is None or _ends(program.actions):
        note(request, destinations=[])
        await channels.hangup(caller.id)
        return web.json_response(shown(request, call) | {"status": COMPLETED})
    number = _redirected(program.actions)
    if number and config.dial_context:
        note(request, destinations=[f"extension {number}"])
        await channels.continue_in_dialplan(caller.id, config.dial_context, number, 1)
        return web.json_response(shown(request, call))
    if not config.originate and any(action.does == "twiml_dial" for action in program.actions):
        reason = "<Dial> is disabled; twilio.originate enables it, and twilio.dial_context for a document of one <Dial>"
        raise TwilioError(400, 12200, reason)
    parts, principal = _parts(request), request[PRINCIPAL]
    try:
        with acting(parts, caller.id):
            await parts.call_control.redirect(caller.id, lambda leg: parts.flow_manager.run_on(leg, program, principal))
    except ApiError as error:
        if error.status == 409:
            raise TwilioError(400, 21220, error.message) from None  # the call is not in a state for it
        raise
    return web.json_response(shown(request, call))


def _parts(request: web.Request) -> CallServices:
    backend = request.app[BACKEND]
    if backend.calling is None:
        raise TwilioError(503, 20503, "this server does not control calls")
    return calling(backend)


def _text(form: Mapping[str, Any], name: str) -> str:
    value = form.get(name, "")
    return value.strip() if isinstance(value, str) else ""


def check_known(form: Iterable[str], model: type[Body]) -> None:
    """Check that the fields of a form are those of its model.

    Raises:
        TwilioError: 400, one is unknown.
    """
    for name in form:
        if name not in model.model_fields:
            expected = ", ".join(model.model_fields)
            raise TwilioError(400, 20001, f"{name[:40]}: is not supported; expected {expected}")


def one_of(form: Mapping[str, Any], name: str, values: tuple[str, ...]) -> str:
    """Return a field with one of some values, in their case; the first is the default.

    Raises:
        TwilioError: 400, it has another value.
    """
    given = _text(form, name) or values[0]
    found = next((each for each in values if each.upper() == given.upper()), None)
    if found is None:
        raise TwilioError(400, 20001, f"{name}: expected {' or '.join(values)}")
    return found


def http_url(form: Mapping[str, Any], name: str, code: int = 20001) -> str:
    """Return a field with a URL; empty if there is none.

    Raises:
        TwilioError: 400 with this code, it is not a URL.
    """
    url = _text(form, name)
    if url and (not HTTP_URL.fullmatch(url) or len(url) > MAX_URL_CHARACTERS):
        raise TwilioError(400, code, f"{name}: is not an http:// or https:// URL")
    return url


def _seconds(form: Mapping[str, Any], name: str, most: int) -> float | None:
    given = _text(form, name)
    if not given:
        return None
    if not re.fullmatch(r"[0-9]{1,6}", given) or not 1 <= int(given) <= most:
        raise TwilioError(400, 20001, f"{name}: expected a number of seconds from 1 to {most}")
    return float(given)


def _destination(parts: CallServices, to: str) -> Address:
    """Return the address of ``To``: users of SIP and client addresses are extensions of the PBX."""
    user = re.match(r"(?:sips?|client):([^@;?]+)", to)
    if user:
        return Address("extension", user[1])
    return Address(parts.flow_manager.number_type, re.sub(r"[\s()]", "", to))


async def _program(form: Mapping[str, Any]) -> Program:
    """Return the document of a request, or the program that requests it."""
    from bridge.flows import twiml  # imports all actions

    url, text = http_url(form, "Url", 21205), _text(form, "Twiml")
    if bool(url) == bool(text):
        raise TwilioError(400, 21205, "expected either Url or Twiml")
    try:
        digits = check_digits(_text(form, "SendDigits"))
    except ValueError as problem:
        raise TwilioError(400, 20001, f"SendDigits: {problem}") from None
    if text:
        if len(text) > MAX_CHARACTERS:
            raise TwilioError(400, 12100, f"Twiml: is longer than {MAX_CHARACTERS} characters")
        try:
            return await asyncio.to_thread(parse, Document(text, send_digits=digits))
        except InvalidFlow as problem:
            raise TwilioError(400, 12100, f"Twiml: {problem}") from None
    return twiml.entry(
        url,
        one_of(form, "Method", METHODS),
        digits,
        fallback_url=http_url(form, "FallbackUrl"),
        fallback_method=one_of(form, "FallbackMethod", METHODS),
        detect=_text(form, "MachineDetection").lower() in ("enable", "detectmessageend", "true"),
    )


def _callback(form: MultiDictProxy[Any]) -> tuple[str, Any, tuple[StatusEvent, ...]] | None:
    url = http_url(form, "StatusCallback", 21609)
    if not url:
        return None
    given = " ".join(str(each) for each in form.getall("StatusCallbackEvent", ())).split()
    if unknown := [each for each in given if each not in STATUS_EVENTS]:
        expected = ", ".join(STATUS_EVENTS)
        raise TwilioError(400, 21626, f"StatusCallbackEvent: {unknown[0][:40]!r} is not one of {expected}")
    events = tuple(each for each in STATUS_EVENTS if each in given) or AT_END
    return url, one_of(form, "StatusCallbackMethod", METHODS), events


def _ends(actions: tuple[Action, ...]) -> bool:
    """Return whether a document does nothing but end the call."""
    return not actions or actions[0].does == "hangup"


def _redirected(actions: tuple[Action, ...]) -> str:
    """Return the number of a document of one ``<Dial>`` without attributes; empty: it is another one."""
    if len(actions) != 1 or actions[0].does != "twiml_dial":
        return ""
    options = actions[0].options
    plain = len(options.destinations) == 1 and not options.action_url and options.source is None
    plain = plain and not any(options.send_digits)
    number = options.destinations[0].target if plain and not options.destinations[0].type else ""
    return number if _NUMBER.fullmatch(number) else ""
