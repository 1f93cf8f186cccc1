"""Exotel's Stream and Voicebot applets: JSON text with base64 s16le or mu-law, one way or two ways, 100 ms a message.

Source: developer.exotel.com, "WebSocket protocol" (2026), and pipecat 1.14. Choices where these are silent or disagree:
``docs/decisions/carrier-dialects.md``.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec

from bridge.dialects.base import CallInfo, Message, Setting
from bridge.dialects.json_media import G711_RATE, Coding, JsonMedia, mulaw, text

ENCODINGS: Final[Mapping[str, Coding]] = {
    "raw": Coding("audio/x-raw", (8000, 16000, 24000)),
    "mulaw": mulaw("audio/x-mulaw"),
}
"""Encodings that a stream may request, with their names in ``media_format``."""
MESSAGE_MS: Final = 100
"""Audio in one message, in milliseconds."""

_BITS = {"raw": "16", "mulaw": "8"}


class Exotel(JsonMedia):
    """One media stream.

    Args:
        tracks: ``inbound_track``, ``outbound_track`` or ``both_tracks``.
        connect: the application may send audio and receives DTMF and marks.
        encoding: ``raw`` (s16le) or ``mulaw``, in both directions.
        rate: sampling rate in Hz; 16000 and 24000 with raw only.
        parameters: entries of ``custom_parameters`` besides the numbers and the id of the call.
        account_sid: the account's id; by default derived from the installation's name.
        rng: source of ``stream_sid``, for tests.

    Raises:
        ValueError: the options are invalid or conflict; the message is for the administrator.
    """

    name: ClassVar[str] = "exotel"
    encodings: ClassVar[Mapping[str, Coding]] = ENCODINGS

    def __init__(
        self,
        tracks: str = "inbound_track",
        *,
        connect: bool = False,
        encoding: str = "raw",
        rate: int = G711_RATE,
        parameters: Mapping[str, str] | None = None,
        account_sid: str = "",
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(
            tracks,
            connect=connect,
            encoding=encoding,
            rate=rate,
            parameters=parameters,
            message_ms=MESSAGE_MS,
            rng=rng,
        )
        if not isinstance(account_sid, str):
            raise ValueError(f"account_sid must be a string, not {account_sid!r}")
        self._account_sid = account_sid or _ACCOUNT_SID
        self._stream_sid = ""
        self._call_sid = ""

    @classmethod
    def arguments(cls, options: Mapping[str, Any], setting: Setting) -> Mapping[str, Any]:
        """Return the options, with tracks, direction and account as defaults."""
        return super().arguments({"account_sid": _sid("AC", setting.account.installation), **options}, setting)

    @property
    def expected(self) -> str:
        """The messages that the application may send, as the log lists them when it sends another."""
        if not self.two_way:
            return super().expected
        audio = "s16le" if self._encoding == "raw" else "mu-law"
        return f'text messages: "media" with base64 of {audio} at {self.rate} Hz in media.payload, "mark" or "clear"'

    def _started(self, call: CallInfo) -> Sequence[Message]:
        self._stream_sid = f"MZ{self._rng.getrandbits(128):032x}"
        self._call_sid = _sid("CA", call.call_id)
        start = _StartBody(
            self._stream_sid,
            self._call_sid,
            self._account_sid,
            call.caller,
            call.did or call.callee,
            call.parameters | call.filled(self._parameters),
            _MediaFormat(self._coding.name, str(self.rate), _BITS[self._encoding]),
        )
        return (_CONNECTED, text(_Start(str(self._next()), self._stream_sid, start)))

    def _media(self, track: str, chunk: int, timestamp: int, payload: str) -> str:
        named = f'"track":"{track}",' if len(self._names) > 1 else ""  # the vendor names tracks only if there are two
        return (
            f'{{"event":"media","sequence_number":"{self._sequence}","stream_sid":"{self._stream_sid}","media":'
            f'{{{named}"chunk":"{chunk}","timestamp":"{timestamp}","payload":"{payload}"}}}}'
        )

    def _key(self, track: str, digit: str, now: float) -> Message:
        return text(_Dtmf(str(self._next()), self._stream_sid, _DtmfBody(digit, _DTMF_MS)))

    def _reached(self, name: str) -> Message:
        return text(_MarkEcho(str(self._next()), self._stream_sid, _MarkBody(name)))

    def _ended(self) -> Sequence[Message]:
        body = _StopBody(self._call_sid, self._account_sid, "callended")
        return (text(_Stop(str(self._next()), self._stream_sid, body)),)


def _sid(prefix: str, name: str) -> str:
    """Return an id that is always the same for the same name."""
    return prefix + hashlib.sha256(name.encode()).hexdigest()[:32]


# The messages, their fields in the vendor's order. The vendor writes all numbers as strings.


class _MediaFormat(msgspec.Struct, frozen=True):
    encoding: str
    sample_rate: str
    bit_rate: str


class _StartBody(msgspec.Struct, frozen=True, rename={"source": "from", "destination": "to"}):
    stream_sid: str
    call_sid: str
    account_sid: str
    source: str
    destination: str
    custom_parameters: dict[str, str]
    media_format: _MediaFormat


class _Start(msgspec.Struct, frozen=True, tag_field="event", tag="start"):
    sequence_number: str
    stream_sid: str
    start: _StartBody


class _DtmfBody(msgspec.Struct, frozen=True):
    digit: str
    duration: str


class _Dtmf(msgspec.Struct, frozen=True, tag_field="event", tag="dtmf"):
    sequence_number: str
    stream_sid: str
    dtmf: _DtmfBody


class _MarkBody(msgspec.Struct, frozen=True):
    name: str


class _MarkEcho(msgspec.Struct, frozen=True, tag_field="event", tag="mark"):
    sequence_number: str
    stream_sid: str
    mark: _MarkBody


class _StopBody(msgspec.Struct, frozen=True):
    call_sid: str
    account_sid: str
    reason: str


class _Stop(msgspec.Struct, frozen=True, tag_field="event", tag="stop"):
    sequence_number: str
    stream_sid: str
    stop: _StopBody


_CONNECTED: Final = '{"event":"connected"}'
_DTMF_MS: Final = "100"  # Asterisk's events have the duration, a dialect does not get it
_ACCOUNT_SID: Final = _sid("AC", "asterisk-bridge")
