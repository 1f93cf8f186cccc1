"""The tools that act on the call, except for the transfer: each is one function below its description."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from bridge.agent_tools.tool import AgentCall, Tool, ToolFailed, ToolRefused, parameters
from bridge.agent_tools.transfer import allowed_extension, describe_extensions, transfer
from bridge.conferences.conferences import NoSuchConference
from bridge.config.agent_limits import AgentLimits
from bridge.control.call_control import NotControlled
from bridge.control.forwarding import endpoint_name
from bridge.control.legs import Leg
from bridge.errors import AriError
from bridge.tasks import shield_until_done

MAX_DIGITS = 32
MAX_VALUE_CHARACTERS = 1024
_DIGITS = re.compile(rf"[0-9A-D*#]{{1,{MAX_DIGITS}}}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,79}")
"""A plain name: functions such as ``SHELL(...)`` are not variables."""
_STATES = {"online": "free", "offline": "not registered"}


def hang_up(_: AgentLimits) -> Tool:
    """End the call after the model's last word."""
    return Tool(
        "hang_up",
        "End the call. Say goodbye first: the call ends when the caller has heard it.",
        parameters(),
        _hang_up,
    )


async def _hang_up(call: AgentCall, _: Mapping[str, Any]) -> str:
    await call.spoken()
    channel_id = call.channel_id
    call.leaving = asyncio.current_task()
    try:
        await call.services.call_control.hangup(channel_id)
    except KeyError:
        raise ToolFailed("the call has ended") from None
    except AriError:
        call.leaving = None  # the conversation continues
        raise
    return "the call has ended"


def send_dtmf(_: AgentLimits) -> Tool:
    """Send DTMF digits to the caller, for example to the menu of a machine."""
    digits = {
        "type": "string",
        "description": f"1 to {MAX_DIGITS} digits: 0-9, A-D, * and #",
        "minLength": 1,
        "maxLength": MAX_DIGITS,
        "writeOnly": True,  # perhaps a PIN
    }
    return Tool(
        "send_dtmf",
        "Send DTMF digits to the other side of the call, for example to navigate a phone menu.",
        parameters(("digits",), digits=digits),
        _send_dtmf,
    )


async def _send_dtmf(call: AgentCall, arguments: Mapping[str, Any]) -> str:
    digits = arguments["digits"].upper()
    if not _DIGITS.fullmatch(digits):
        raise ToolFailed(f"digits: expected 1 to {MAX_DIGITS} of 0-9, A-D, * and #")
    await call.leg("sending DTMF").send_digits(digits)
    return "sent"


def hold(_: AgentLimits) -> Tool:
    """Put the caller on hold with music, and resume."""
    return Tool(
        "hold",
        "Put the caller on hold with music, or resume. Neither of you hears the other meanwhile.",
        parameters(("on",), on={"type": "boolean", "description": "true: hold; false: resume"}),
        _hold,
    )


async def _hold(call: AgentCall, arguments: Mapping[str, Any]) -> str:
    if not arguments["on"]:
        return "resumed" if await call.end_hold() else "the caller is not on hold"
    if call.held is not None and not call.held.done():
        return "the caller is on hold already"
    async with call.changing():
        leg = call.leg("hold")
        await call.spoken()
        try:
            await call.hold(leg)
            call.held = call.spawn(_keep_on_hold(call, leg))
            await asyncio.sleep(0)  # canceled before its start, it would not resume the caller
        except BaseException:
            await shield_until_done(call.resume(leg))
            raise
    return "the caller hears music until you resume"


async def _keep_on_hold(call: AgentCall, leg: Leg) -> None:
    try:
        await asyncio.sleep(call.limits.max_hold_s)
    finally:
        await shield_until_done(call.resume(leg))


def set_variable(limits: AgentLimits) -> Tool:
    """Set a channel variable that the configuration allows, for the dialplan."""
    name = {"type": "string", "description": f"The variable. Allowed: {', '.join(limits.set_variables) or 'none'}"}
    value = {"type": "string", "maxLength": MAX_VALUE_CHARACTERS}
    return Tool(
        "set_variable",
        "Store a result of the conversation in a variable of the call.",
        parameters(("name", "value"), name=name, value=value),
        _set_variable,
    )


async def _set_variable(call: AgentCall, arguments: Mapping[str, Any]) -> str:
    name, value = arguments["name"], arguments["value"]
    if not _VARIABLE.fullmatch(name) or not call.limits.set_variables.match(name):
        allowed = ", ".join(call.limits.set_variables) or "none"
        raise ToolRefused(f"the variable {name[:80]!r} may not be set; allowed: {allowed}")
    if not value.isprintable():
        raise ToolFailed("value: expected printable characters on one line")
    await call.services.client.channels.set_variable(call.channel_id, name, value)
    return "set"


def extension_state(limits: AgentLimits) -> Tool:
    """Return whether an extension is free."""
    extension = {"type": "string", "description": describe_extensions(limits)}
    return Tool(
        "extension_state",
        'Return whether a colleague\'s phone is "free", "in a call" or "not registered".',
        parameters(("extension",), extension=extension),
        _extension_state,
    )


async def _extension_state(call: AgentCall, arguments: Mapping[str, Any]) -> str:
    destination = allowed_extension(call, arguments["extension"])
    name = endpoint_name(call.services.policy.endpoint_of(destination))
    state = "unknown"
    if name:
        try:
            endpoint = await call.services.client.endpoints.get("PJSIP", name)
        except AriError as error:
            if error.status != 404:
                raise
            raise ToolFailed(f"unknown extension {destination.target}") from None
        state = "in a call" if endpoint.channel_ids else _STATES.get(endpoint.state, "unknown")
    return json.dumps({"extension": destination.target, "state": state})


def conference(limits: AgentLimits) -> Tool:
    """Move the caller into a conference; the model leaves the call."""
    which = {"type": "string", "description": f"The conference. Allowed: {', '.join(limits.conferences) or 'none'}"}
    return Tool(
        "conference",
        "Move the caller into a conference. You leave the call.",
        parameters(("conference",), conference=which),
        _conference,
    )


async def _conference(call: AgentCall, arguments: Mapping[str, Any]) -> str:
    conference_id = arguments["conference"]
    if not call.limits.conferences.match(conference_id):
        allowed = ", ".join(call.limits.conferences) or "none"
        raise ToolRefused(f"the conference {conference_id[:80]!r} is not allowed; allowed: {allowed}")
    try:
        call.services.conferences.tap_point(conference_id)
    except NoSuchConference:
        pass  # it is created
    except NotControlled as problem:
        raise ToolFailed(str(problem)) from None
    async with call.moving():
        leg = call.leg("conference")
        await call.spoken()
        await call.leave(leg)
        call.services.bring(leg, conference_id)
    return "the caller is in the conference"


BUILT_IN: Mapping[str, Callable[[AgentLimits], Tool]] = {
    make.__name__: make for make in (transfer, hang_up, send_dtmf, hold, set_variable, extension_state, conference)
}
