"""Twilio Media Streams: JSON text, one way or two ways; the format of most existing voice applications.

Source: twilio.com/docs, "Media Streams: WebSocket Messages" and "TwiML: Stream" (2026), and the behavior that
applications rely on. Choices where these are silent: ``docs/decisions/twilio.md``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import random
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Final

import msgspec

from bridge.audio.format import SLIN_RATES
from bridge.dialects.base import Account, CallInfo, Dialect, Message, Setting
from bridge.dialects.json_media import (
    G711_RATE,
    LAYOUTS,
    MAX_MARK_NAME,
    Coding,
    JsonMedia,
    mulaw,
    text,
)

__all__ = ["LAYOUTS", "MAX_MARK_NAME", "Twilio", "account_sid", "call_sid", "signature"]

ENCODINGS: Final[Mapping[str, Coding]] = {"mulaw": mulaw("audio/x-mulaw"), "l16": Coding("audio/l16", SLIN_RATES)}
"""Encodings that a stream may request, with their names in ``mediaFormat``."""


def account_sid(installation: str) -> str:
    """Return the account id of an installation, always the same for the same name."""
    return "AC" + _hex(installation)


@lru_cache(maxsize=4096)
def call_sid(call_id: str) -> str:
    """Return the id by which applications identify the call whose linkedid is ``call_id``."""
    return "CA" + _hex(call_id)


def signature(auth_token: str, url: str) -> str:
    """Return the value of ``X-Twilio-Signature`` for a WebSocket to ``url``: base64 of HMAC-SHA1.

    Args:
        auth_token: the account's secret.
        url: the complete URL, beginning with ``wss://``.
    """
    return base64.b64encode(hmac.digest(auth_token.encode(), url.encode(), "sha1")).decode()


class Twilio(JsonMedia):
    """One media stream.

    Args:
        tracks: ``inbound_track``, ``outbound_track`` or ``both_tracks``.
        connect: the application may send audio and receives DTMF and marks, as under ``<Connect>``.
        account_sid: ``AC`` and 32 hexadecimal digits; by default the same in every installation.
        call_sid: ``CA`` and 32 hexadecimal digits; by default derived from the call's id.
        parameters: entries of ``customParameters`` besides the numbers and the id of the call.
        encoding: ``mulaw``, or ``l16`` (s16le, an extension of asterisk-bridge) for applications written for it.
        rate: sampling rate in Hz; other rates than 8000 with l16 only.
        chunk_per_track: ``chunk`` counts the messages of each track, not all messages with audio.
        rng: source of ``streamSid``, for tests.

    Raises:
        ValueError: the options are invalid or conflict; the message is for the administrator.
    """

    name: ClassVar[str] = "twilio"
    subprotocol: ClassVar[str] = "audio.twilio.com"
    encodings: ClassVar[Mapping[str, Coding]] = ENCODINGS
    not_options: ClassVar[Mapping[str, str]] = {**Dialect.not_options, "call_sid": "is derived from the call's id"}

    def __init__(
        self,
        tracks: str = "inbound_track",
        *,
        connect: bool = False,
        account_sid: str | None = None,
        call_sid: str | None = None,
        parameters: Mapping[str, str] | None = None,
        encoding: str = "mulaw",
        rate: int = G711_RATE,
        chunk_per_track: bool = False,
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(
            tracks,
            connect=connect,
            encoding=encoding,
            rate=rate,
            parameters=parameters,
            chunk_per_track=chunk_per_track,
            rng=rng,
        )
        self._account_sid = _sid("account_sid", "AC", account_sid) or _ACCOUNT_SID
        self._given_call_sid = _sid("call_sid", "CA", call_sid)
        self.stream_sid = self._new_sid()
        """The stream's id for the application; another one after a reconnect."""
        self._announced = False
        self._call_sid = ""

    @classmethod
    def arguments(cls, options: Mapping[str, Any], setting: Setting) -> Mapping[str, Any]:
        """Return the options, with tracks, direction and account as defaults."""
        account = setting.account.id or account_sid(setting.account.installation)
        return super().arguments({"account_sid": account, **options}, setting)

    def handshake_headers(self, url: str, account: Account) -> Mapping[str, str]:
        """Return the signature by which applications authenticate the account."""
        return {"X-Twilio-Signature": signature(account.secret, url)} if account.usable else {}

    @property
    def expected(self) -> str:
        """The messages that the application may send, as the log lists them when it sends another."""
        if not self.two_way:
            return super().expected
        audio = f"base64 of {self._encoding} at {self.rate} Hz in media.payload"
        return f'text messages: "media" with {audio}, "mark" or "clear"'

    def _started(self, call: CallInfo) -> Sequence[Message]:
        if self._announced:
            self.stream_sid = self._new_sid()
        self._announced = True
        self._call_sid = self._given_call_sid or call_sid(call.call_id)
        start = _StartBody(
            self._account_sid,
            self.stream_sid,
            self._call_sid,
            self._names,
            _MediaFormat(self._coding.name, self.rate),
            call.parameters | call.filled(self._parameters),
        )
        return (_CONNECTED, text(_Start(str(self._next()), start, self.stream_sid)))

    def _new_sid(self) -> str:
        return f"MZ{self._rng.getrandbits(128):032x}"

    def _media(self, track: str, chunk: int, timestamp: int, payload: str) -> str:
        return (
            f'{{"event":"media","sequenceNumber":"{self._sequence}","media":{{"track":"{track}","chunk":"{chunk}",'
            f'"timestamp":"{timestamp}","payload":"{payload}"}},"streamSid":"{self.stream_sid}"}}'
        )

    def _key(self, track: str, digit: str, now: float) -> Message:
        return text(_Dtmf(self.stream_sid, str(self._next()), _DtmfBody(f"{track}_track", digit)))

    def _reached(self, name: str) -> Message:
        return text(_MarkEcho(str(self._next()), self.stream_sid, _MarkBody(name)))

    def _ended(self) -> Sequence[Message]:
        return (text(_Stop(str(self._next()), _StopBody(self._account_sid, self._call_sid), self.stream_sid)),)


def _sid(option: str, prefix: str, sid: str | None) -> str:
    if sid and not re.fullmatch(prefix + "[0-9a-f]{32}", sid):
        raise ValueError(f"{option} must be {prefix} and 32 hexadecimal digits in lowercase, not {sid!r}")
    return sid or ""


def _hex(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


# The messages, their fields in the vendor's order. The vendor writes counters as strings.


class _MediaFormat(msgspec.Struct, frozen=True):
    encoding: str
    sampleRate: int  # noqa: N815
    channels: int = 1


class _StartBody(msgspec.Struct, frozen=True):
    accountSid: str  # noqa: N815
    streamSid: str  # noqa: N815
    callSid: str  # noqa: N815
    tracks: tuple[str, ...]
    mediaFormat: _MediaFormat  # noqa: N815
    customParameters: dict[str, str]  # noqa: N815


class _Start(msgspec.Struct, frozen=True, tag_field="event", tag="start"):
    sequenceNumber: str  # noqa: N815
    start: _StartBody
    streamSid: str  # noqa: N815


class _DtmfBody(msgspec.Struct, frozen=True):
    track: str
    digit: str


class _Dtmf(msgspec.Struct, frozen=True, tag_field="event", tag="dtmf"):
    streamSid: str  # noqa: N815
    sequenceNumber: str  # noqa: N815
    dtmf: _DtmfBody


class _MarkBody(msgspec.Struct, frozen=True):
    name: str


class _MarkEcho(msgspec.Struct, frozen=True, tag_field="event", tag="mark"):
    sequenceNumber: str  # noqa: N815
    streamSid: str  # noqa: N815
    mark: _MarkBody


class _StopBody(msgspec.Struct, frozen=True):
    accountSid: str  # noqa: N815
    callSid: str  # noqa: N815


class _Stop(msgspec.Struct, frozen=True, tag_field="event", tag="stop"):
    sequenceNumber: str  # noqa: N815
    stop: _StopBody
    streamSid: str  # noqa: N815


_CONNECTED: Final = '{"event":"connected","protocol":"Call","version":"1.0.0"}'
_ACCOUNT_SID: Final = account_sid("asterisk-bridge")
