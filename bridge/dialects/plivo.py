"""Plivo audio streams: JSON text with base64 audio, one way or two ways (``bidirectional="true"``).

Source: plivo.com/docs, "Audio Streaming Protocol Reference" (2026), the types of plivo-stream-sdk 0.1.1, and pipecat
1.14. Choices where these are silent or disagree: ``docs/decisions/carrier-dialects.md``.
"""

from __future__ import annotations

import hashlib
import json
import random
import uuid
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Final

import msgspec

from bridge.dialects.base import CallInfo, Clear, Command, Mark, Message, Setting
from bridge.dialects.json_media import G711_RATE, MAX_MARK_NAME, Coding, JsonMedia, mulaw, text

ENCODINGS: Final[Mapping[str, Coding]] = {
    "mulaw": mulaw("audio/x-mulaw"),
    "l16": Coding("audio/x-l16", (8000, 16000)),
}
"""Encodings that a stream may request, with their names in ``mediaFormat`` and ``contentType``."""

_BY_CONTENT_TYPE: Final = {coding.name: coding for coding in ENCODINGS.values()}
_PLAYED = "played "  # before the name of a checkpoint
_CLEARED = "cleared"


@lru_cache(maxsize=4096)
def call_uuid(call_id: str) -> str:
    """Return the id by which applications identify the call whose linkedid is ``call_id``."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, call_id))


def auth_id(installation: str) -> str:
    """Return the account id of an installation, always the same for the same name."""
    return "MA" + hashlib.sha256(installation.encode()).hexdigest()[:18].upper()


class _MediaIn(msgspec.Struct, frozen=True):
    contentType: str = "audio/x-mulaw"  # noqa: N815
    sampleRate: int | str = G711_RATE  # noqa: N815
    payload: str | None = None


class _Received(msgspec.Struct, frozen=True):
    """A message from an application; unknown fields are ignored, ``streamId`` among them."""

    event: str
    media: _MediaIn | None = None
    name: object = None


class Plivo(JsonMedia):
    """One audio stream.

    Args:
        tracks: ``inbound_track``, ``outbound_track`` or ``both_tracks``.
        connect: the application may send audio and receives DTMF and checkpoints.
        encoding: ``mulaw`` or ``l16`` (s16le), of the audio to the application; its own names the encoding itself.
        rate: sampling rate in Hz; 16000 with l16 only.
        parameters: entries of ``extra_headers`` besides the numbers and the id of the call.
        account_id: the account's id; by default derived from the installation's name.
        rng: source of ``streamId``, for tests.

    Raises:
        ValueError: the options are invalid or conflict; the message is for the administrator.
    """

    name: ClassVar[str] = "plivo"
    encodings: ClassVar[Mapping[str, Coding]] = ENCODINGS
    decoder: ClassVar[msgspec.json.Decoder[_Received]] = msgspec.json.Decoder(_Received)

    def __init__(
        self,
        tracks: str = "inbound_track",
        *,
        connect: bool = False,
        encoding: str = "mulaw",
        rate: int = G711_RATE,
        parameters: Mapping[str, str] | None = None,
        account_id: str = "",
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(tracks, connect=connect, encoding=encoding, rate=rate, parameters=parameters, rng=rng)
        if not isinstance(account_id, str):
            raise ValueError(f"account_id must be a string, not {account_id!r}")
        self._account_id = account_id or _AUTH_ID
        self._stream_id = ""
        self._clearing = 0  # clearAudio whose marks have not been reached

    @classmethod
    def arguments(cls, options: Mapping[str, Any], setting: Setting) -> Mapping[str, Any]:
        """Return the options, with tracks, direction and account as defaults."""
        account = setting.account.id or auth_id(setting.account.installation)
        return super().arguments({"account_id": account, **options}, setting)

    @property
    def expected(self) -> str:
        """The messages that the application may send, as the log lists them when it sends another."""
        if not self.two_way:
            return super().expected
        return (
            'text messages: "playAudio" with base64 in media.payload, whose media.contentType is audio/x-mulaw with '
            'sampleRate 8000 or audio/x-l16 with 8000 or 16000; "checkpoint" or "clearAudio"'
        )

    def _started(self, call: CallInfo) -> Sequence[Message]:
        self._stream_id = self._uuid()
        self._clearing = 0
        start = _StartBody(
            call_uuid(call.call_id),
            self._stream_id,
            self._account_id,
            self._names,
            _MediaFormat(self._coding.name, self.rate),
        )
        return (text(_Start(self._next(), start, json.dumps(call.parameters | call.filled(self._parameters)))),)

    def _media(self, track: str, chunk: int, timestamp: int, payload: str) -> str:
        return (
            f'{{"event":"media","sequenceNumber":{self._sequence},"streamId":"{self._stream_id}","media":'
            f'{{"track":"{track}","timestamp":"{timestamp}","chunk":{chunk},"payload":"{payload}"}}}}'
        )

    def _key(self, track: str, digit: str, now: float) -> Message:
        body = _DtmfBody(track, digit, str(self._milliseconds(now)))
        return text(_Dtmf(self._next(), self._stream_id, body))

    def _reached(self, name: str) -> Message | None:
        if name == _CLEARED:
            self._clearing = max(0, self._clearing - 1)
            return text(_Cleared(self._next(), self._stream_id))
        if self._clearing:
            return None  # discarded by clearAudio, not played
        return text(_Played(self._next(), self._stream_id, name.removeprefix(_PLAYED)))

    def _commands(self, received: _Received) -> Sequence[Command] | None:
        match received.event:
            case "playAudio":
                return self._audio(received.media)
            case "checkpoint":
                name = received.name if isinstance(received.name, str) else ""
                return self._mark(_PLAYED + name) if len(name) <= MAX_MARK_NAME - len(_PLAYED) else None
            case "clearAudio":
                self._cleared()
                self._clearing += 1
                return (Clear(), Mark(_CLEARED))
        return None

    def _audio(self, media: _MediaIn | None) -> Sequence[Command] | None:
        """Return the audio of a message in the encoding that it names."""
        if media is None:
            return None
        coding = _BY_CONTENT_TYPE.get(media.contentType.partition(";")[0].strip().lower())
        try:
            rate = int(media.sampleRate)
        except ValueError:
            return None
        if coding is None or rate not in coding.rates:
            return None
        return self._play(media.payload, coding, rate)


# The messages, their fields in the vendor's order. The vendor writes timestamps as strings, other numbers as numbers.


class _MediaFormat(msgspec.Struct, frozen=True):
    encoding: str
    sampleRate: int  # noqa: N815


class _StartBody(msgspec.Struct, frozen=True):
    callId: str  # noqa: N815
    streamId: str  # noqa: N815
    accountId: str  # noqa: N815
    tracks: tuple[str, ...]
    mediaFormat: _MediaFormat  # noqa: N815


class _Start(msgspec.Struct, frozen=True, tag_field="event", tag="start"):
    sequenceNumber: int  # noqa: N815
    start: _StartBody
    extra_headers: str


class _DtmfBody(msgspec.Struct, frozen=True):
    track: str
    digit: str
    timestamp: str


class _Dtmf(msgspec.Struct, frozen=True, tag_field="event", tag="dtmf"):
    sequenceNumber: int  # noqa: N815
    streamId: str  # noqa: N815
    dtmf: _DtmfBody


class _Played(msgspec.Struct, frozen=True, tag_field="event", tag="playedStream"):
    sequenceNumber: int  # noqa: N815
    streamId: str  # noqa: N815
    name: str


class _Cleared(msgspec.Struct, frozen=True, tag_field="event", tag="clearedAudio"):
    sequenceNumber: int  # noqa: N815
    streamId: str  # noqa: N815


_AUTH_ID: Final = auth_id("asterisk-bridge")
