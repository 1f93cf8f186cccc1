"""Vonage Voice API WebSockets: bare s16le in binary messages, control in JSON text, one track, one way or two ways.

Source: developer.vonage.com, "WebSockets in the Vonage Voice API" (2026), and pipecat 1.14's serializer. Choices where
these are silent: ``docs/decisions/vonage.md``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec

from bridge.dialects.base import CallInfo, Command, Message
from bridge.dialects.pcm import PcmDialect

DTMF_MS: Final = 100
"""Duration of every DTMF digit, in milliseconds: Asterisk reports digits only."""
MAX_PAYLOAD: Final = 1024
"""Longest payload of ``notify``, in characters of JSON: it is kept until everything before it has been played."""


class Vonage(PcmDialect):
    """One WebSocket of a call.

    Args:
        rate: sampling rate in Hz, both ways: 8000, 16000 or 24000.
        connect: the application may send audio.
        parameters: entries of the first message besides the numbers and the id of the call (the vendor's ``headers``).

    Raises:
        ValueError: an option is invalid; the message is for the administrator.
    """

    name: ClassVar[str] = "vonage"
    rates: ClassVar[tuple[int, ...]] = (8000, 16000, 24000)
    reserved: ClassVar[frozenset[str]] = frozenset({"event", "content-type"})

    def __init__(
        self, rate: int = 16000, *, connect: bool = False, parameters: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(rate, connect=connect, parameters=parameters)

    @property
    def expected(self) -> str:
        """The messages that the application may send, as the log lists them when it sends another."""
        if not self.two_way:
            return super().expected
        return (
            f"binary messages with s16le at {self.rate} Hz, or text: "
            '{"action": "clear"}, {"action": "notify", "payload": {...}}'
        )

    def first(self, call: CallInfo) -> Message:
        """Return ``websocket:connected`` with the format of the audio and the parameters."""
        first = {"event": "websocket:connected", "content-type": f"audio/l16;rate={self.rate}"}
        return _text(first | call.parameters | call.filled(self._parameters) | first)

    def dtmf(self, track: str, digit: str, now: float) -> Sequence[Message]:
        """Report a DTMF digit."""
        return (_text({"event": "websocket:dtmf", "digit": digit, "duration": DTMF_MS}),)

    def cleared(self) -> Sequence[Message]:
        """Return ``websocket:cleared``."""
        return (_CLEARED_EVENT,)

    def reached(self, text: str, *, was_cleared: bool) -> Sequence[Message]:
        """Return the payload of a ``notify`` whose audio was played."""
        return () if was_cleared else (f'{{"event":"websocket:notify","payload":{text}}}',)

    def control(self, text: str) -> Sequence[Command] | None:
        """Decode ``clear`` and ``notify``."""
        try:
            control = _DECODER.decode(text)
        except (msgspec.DecodeError, RecursionError):
            return None
        if control.action == "clear":
            return self.clear()
        payload = bytes(control.payload).decode()
        return (self.mark(payload),) if control.action == "notify" and len(payload) <= MAX_PAYLOAD else None


def _text(message: Mapping[str, Any]) -> str:
    return msgspec.json.encode(message).decode()


class _Control(msgspec.Struct, frozen=True):
    """Control in a message of type text; unknown fields are ignored."""

    action: str
    payload: msgspec.Raw = msgspec.Raw(b"{}")


_DECODER = msgspec.json.Decoder(_Control)
_CLEARED_EVENT: Final = '{"event":"websocket:cleared"}'
