"""Control messages as WebSocket text beside binary audio: an extension of asterisk-bridge.

Choices: ``docs/decisions/text-control-messages.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from bridge.dialects.base import CallRequest, Clear, Command, Dtmf, Mark
from bridge.json_shape import check_shape

MAX_DIGITS: Final = 100
MAX_MARK_NAME: Final = 256
"""Longest name of a mark, in characters: the name is kept until the mark is reached."""
MAX_REQUEST_BYTES: Final = 8192
"""Longest body of a request to transfer the call, in bytes: it is parsed between frames."""
MAX_REQUEST_VALUES: Final = 200
MAX_REQUEST_DEPTH: Final = 10
"""Deepest nesting of such a body: how deep a parser descends differs between versions of Python."""


class _MarkBody(msgspec.Struct, frozen=True):
    name: str


class _DtmfBody(msgspec.Struct, frozen=True):
    digits: str


class _HangupBody(msgspec.Struct, frozen=True):
    after_playout: bool = False


class _TransferBody(msgspec.Struct, frozen=True):
    destination: dict[str, Any]


class ControlMessage(msgspec.Struct, frozen=True):
    """A message from the application, its event and the bodies of known events; `command` checks them."""

    event: str
    mark: _MarkBody | None = None
    name: str | None = None
    dtmf: _DtmfBody | None = None
    hangup: _HangupBody = _HangupBody()
    transfer: msgspec.Raw = msgspec.Raw()


_DECODER = msgspec.json.Decoder(ControlMessage)
_TRANSFER_DECODER = msgspec.json.Decoder(_TransferBody)


def event(name: str, body: Mapping[str, Any] | None = None) -> str:
    """Return a message to the application.

    Args:
        name: of the event, and of the key with its body.
        body: None: none.
    """
    return msgspec.json.encode({"event": name} | ({name: body} if body is not None else {})).decode()


def decoded(text: str) -> ControlMessage | None:
    """Return the message in text; None if it is invalid."""
    try:
        return _DECODER.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None


def command(control: ControlMessage, *, may_change_call: bool) -> Command | None:
    """Return the command in a message; None if it is unknown or invalid.

    Args:
        control: the message.
        may_change_call: it may request to hang up or to transfer the call.
    """
    match control.event:
        case "clear":
            return Clear()
        case "mark":
            name = control.mark.name if control.mark else control.name
            return Mark(name) if name and len(name) <= MAX_MARK_NAME else None
        case "dtmf" if control.dtmf and (digits := digits_of(control.dtmf.digits)):
            return Dtmf(digits)
        case "hangup" if may_change_call:
            return CallRequest("hangup", control.hangup.after_playout)
        case "transfer" if may_change_call:
            return _transfer(bytes(control.transfer))
    return None


def digits_of(text: str) -> str:
    """Return DTMF digits in upper case; empty if a character is not a DTMF digit."""
    digits = text.upper()
    return digits if len(digits) <= MAX_DIGITS and not set(digits) - set("0123456789ABCD*#") else ""


def _transfer(body: bytes) -> CallRequest | None:
    if len(body) > MAX_REQUEST_BYTES:
        return None
    try:
        check_shape(body.decode(), MAX_REQUEST_VALUES, MAX_REQUEST_DEPTH)
        return CallRequest("transfer", destination=_TRANSFER_DECODER.decode(body).destination)
    except ValueError:
        return None
