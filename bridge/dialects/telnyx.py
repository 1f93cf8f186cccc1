"""Telnyx media streaming: JSON text with base64 G.711, one way or two ways (``stream_bidirectional_mode=rtp``).

Source: developers.telnyx.com, "Stream call media over WebSocket" (2026), and pipecat 1.14. Choices where these are
silent: ``docs/decisions/carrier-dialects.md``.
"""

from __future__ import annotations

import base64
import hashlib
import random
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, ClassVar, Final

import msgspec

from bridge.dialects.base import CallInfo, Message, Setting
from bridge.dialects.json_media import (
    G711_RATE,
    Coding,
    JsonMedia,
    alaw,
    mulaw,
    text,
)

ENCODINGS: Final[Mapping[str, Coding]] = {"PCMU": mulaw("PCMU"), "PCMA": alaw("PCMA")}
"""Encodings that a stream may request."""


@lru_cache(maxsize=4096)
def call_control_id(call_id: str) -> str:
    """Return the id by which applications identify the call whose linkedid is ``call_id``."""
    return "v3:" + base64.urlsafe_b64encode(hashlib.sha256(call_id.encode()).digest()).decode().rstrip("=")


class Telnyx(JsonMedia):
    """One media stream.

    Args:
        tracks: ``inbound_track``, ``outbound_track`` or ``both_tracks``.
        connect: the application may send audio and receives DTMF and marks.
        encoding: ``PCMU`` or ``PCMA``, in both directions.
        parameters: entries of ``custom_parameters`` besides the numbers and the id of the call.
        client_state: sent as it is, base64 by the vendor's convention; empty: not sent.
        user_id: the account's id; by default derived from the installation's name.
        rng: source of ``stream_id``, for tests.

    Raises:
        ValueError: the options are invalid or conflict; the message is for the administrator.
    """

    name: ClassVar[str] = "telnyx"
    encodings: ClassVar[Mapping[str, Coding]] = ENCODINGS

    def __init__(
        self,
        tracks: str = "inbound_track",
        *,
        connect: bool = False,
        encoding: str = "PCMU",
        parameters: Mapping[str, str] | None = None,
        client_state: str = "",
        user_id: str = "",
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(tracks, connect=connect, encoding=encoding, rate=G711_RATE, parameters=parameters, rng=rng)
        if not isinstance(client_state, str) or not isinstance(user_id, str):
            raise ValueError("client_state and user_id must be strings")
        self._client_state = client_state
        self._user_id = user_id or _USER_ID
        self._stream_id = ""
        self._call_control_id = ""

    @classmethod
    def arguments(cls, options: Mapping[str, Any], setting: Setting) -> Mapping[str, Any]:
        """Return the options, with tracks, direction and account as defaults."""
        return super().arguments({"user_id": _uuid_of(setting.account.installation), **options}, setting)

    @property
    def expected(self) -> str:
        """The messages that the application may send, as the log lists them when it sends another."""
        if not self.two_way:
            return super().expected
        return f'text messages: "media" with base64 of {self._encoding} at 8000 Hz in media.payload, "mark" or "clear"'

    def _started(self, call: CallInfo) -> Sequence[Message]:
        self._stream_id = self._uuid()
        self._call_control_id = call_control_id(call.call_id)
        start = _StartBody(
            self._user_id,
            self._call_control_id,
            _uuid_of(call.call_id),
            call.caller,
            call.did or call.callee,
            self._client_state or msgspec.UNSET,
            call.parameters | call.filled(self._parameters),
            _MediaFormat(self._coding.name, self.rate, 1),
        )
        return (_CONNECTED, text(_Start(str(self._next()), start, self._stream_id)))

    def _media(self, track: str, chunk: int, timestamp: int, payload: str) -> str:
        return (
            f'{{"event":"media","sequence_number":"{self._sequence}","media":{{"track":"{track}","chunk":"{chunk}",'
            f'"timestamp":"{timestamp}","payload":"{payload}"}},"stream_id":"{self._stream_id}"}}'
        )

    def _key(self, track: str, digit: str, now: float) -> Message:
        moment = datetime.fromtimestamp(self._wall + now, UTC).isoformat(timespec="milliseconds")
        return text(_Dtmf(self._stream_id, moment.replace("+00:00", "Z"), str(self._next()), _DtmfBody(digit)))

    def _reached(self, name: str) -> Message:
        return text(_MarkEcho(str(self._next()), self._stream_id, _MarkBody(name)))

    def _ended(self) -> Sequence[Message]:
        return (text(_Stop(str(self._next()), _StopBody(self._user_id, self._call_control_id), self._stream_id)),)


def _uuid_of(name: str) -> str:
    """Return an id that is always the same for the same name."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))


# The messages, their fields in the vendor's order. The vendor writes counters as strings.


class _MediaFormat(msgspec.Struct, frozen=True):
    encoding: str
    sample_rate: int
    channels: int


class _StartBody(msgspec.Struct, frozen=True, rename={"source": "from", "destination": "to"}):
    user_id: str
    call_control_id: str
    call_session_id: str
    source: str
    destination: str
    client_state: str | msgspec.UnsetType
    custom_parameters: dict[str, str]
    media_format: _MediaFormat


class _Start(msgspec.Struct, frozen=True, tag_field="event", tag="start"):
    sequence_number: str
    start: _StartBody
    stream_id: str


class _DtmfBody(msgspec.Struct, frozen=True):
    digit: str


class _Dtmf(msgspec.Struct, frozen=True, tag_field="event", tag="dtmf"):
    stream_id: str
    occurred_at: str
    sequence_number: str
    dtmf: _DtmfBody


class _MarkBody(msgspec.Struct, frozen=True):
    name: str


class _MarkEcho(msgspec.Struct, frozen=True, tag_field="event", tag="mark"):
    sequence_number: str
    stream_id: str
    mark: _MarkBody


class _StopBody(msgspec.Struct, frozen=True):
    user_id: str
    call_control_id: str


class _Stop(msgspec.Struct, frozen=True, tag_field="event", tag="stop"):
    sequence_number: str
    stop: _StopBody
    stream_id: str


_CONNECTED: Final = '{"event":"connected","version":"1.0.0"}'
_USER_ID: Final = _uuid_of("asterisk-bridge")
