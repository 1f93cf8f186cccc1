"""Control messages as WebSocket text beside binary audio: an extension of asterisk-bridge.

Choices: ``docs/decisions/text-control-messages.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from bridge.dialects.base import CallRequest, Clear, Command, Dtmf, Mark

MAX_DIGITS: Final = 100
MAX_MARK_NAME: Final = 256
"""Longest name of a mark, in characters: the name is kept until the mark is reached."""
MAX_REQUEST_BYTES: Final = 8192
"""Longest body of a request to transfer the call, in bytes: it is parsed between frames."""


class _MarkBody(msgspec.Struct, frozen=True):
    name: str


class _DtmfBody(msgspec.Struct, frozen=True):
    digits: str


class _HangupBody(msgspec.Struct, frozen=True):
    after_playout: bool = False


class _TransferBody(msgspec.Struct, frozen=True):
    destination: dict[str, Any]


class _Control(msgspec.Struct, frozen=True):
    event: str
    mark: _MarkBody | None = None
    name: str | None = None
    dtmf: _DtmfBody | None = None
    hangup: _HangupBody = _HangupBody()
    transfer: msgspec.Raw = msgspec.Raw()


_DECODER = msgspec.json.Decoder(_Control)
_TRANSFER_DECODER = msgspec.json.Decoder(_TransferBody)


def event(name: str, body: Mapping[str, Any] | None = None) -> str:
    """Return a message to the application.

    Args:
        name: of the event, and of the key with its body.
        body: None: none.
    """
    return msgspec.json.encode({"event": name} | ({name: body} if body is not None else {})).decode()


def command(text: str) -> Command | None:
    """Return the command in text; None if it has no known command."""
    control = _decoded(text)
    if control is None:
        return None
    match control.event:
        case "clear":
            return Clear()
        case "mark":
            name = control.mark.name if control.mark else control.name
            return Mark(name) if name and len(name) <= MAX_MARK_NAME else None
        case "dtmf" if control.dtmf and (digits := digits_of(control.dtmf.digits)):
            return Dtmf(digits)
    return None


def call_request(text: str) -> CallRequest | None:
    """Return the request to change the call in text; None if it has none."""
    control = _decoded(text)
    match control and control.event:
        case "hangup":
            assert control is not None
            return CallRequest("hangup", control.hangup.after_playout)
        case "transfer":
            assert control is not None
            return _transfer(bytes(control.transfer))
    return None


def requests_queue_length(text: str) -> bool:
    """Return whether a message requests the length of the queue."""
    control = _decoded(text)
    return control is not None and control.event == "queue"


def digits_of(text: str) -> str:
    """Return DTMF digits in upper case; empty if a character is not a DTMF digit."""
    digits = text.upper()
    return digits if len(digits) <= MAX_DIGITS and not set(digits) - set("0123456789ABCD*#") else ""


def _transfer(body: bytes) -> CallRequest | None:
    if len(body) > MAX_REQUEST_BYTES:
        return None
    try:
        return CallRequest("transfer", destination=_TRANSFER_DECODER.decode(body).destination)
    except (msgspec.DecodeError, RecursionError):
        return None


def _decoded(text: str) -> _Control | None:
    try:
        return _DECODER.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
