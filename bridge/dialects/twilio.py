"""Twilio Media Streams: JSON text, one way or two ways; the format of most existing voice applications.

Source: twilio.com/docs, "Media Streams: WebSocket Messages" and "TwiML: Stream" (2026), and the behavior that
applications rely on. Choices where these are silent: ``docs/decisions/twilio.md``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import random
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Final, Literal

import msgspec

from bridge.audio import g711, wav
from bridge.audio.format import FRAME_MS, SLIN_RATES, slin
from bridge.audio.raw import WholeSamples
from bridge.audio.steady import SteadyTrack
from bridge.dialects.base import (
    Account,
    CallInfo,
    Clear,
    Command,
    Dialect,
    Layout,
    Mark,
    Message,
    Play,
    Setting,
    TrackInfo,
)

LAYOUTS: Final = (
    Layout("inbound_track", "caller", {"inbound": "in"}),
    Layout("outbound_track", "caller", {"outbound": "out"}),
    Layout("both_tracks", "caller", {"inbound": "in", "outbound": "out"}),
)
"""Layouts that a stream may request, with the names of their tracks."""
ENCODINGS: Final[Mapping[str, str]] = {"mulaw": "audio/x-mulaw", "l16": "audio/l16"}
"""Encodings that a stream may request, with their names in ``mediaFormat``."""
MAX_MARK_NAME: Final = 1024
"""Longest name of a mark, in characters: the name is kept until the mark is reached."""

_NAMES: Final = {layout.name: tuple(layout.tracks) for layout in LAYOUTS}
_MESSAGE_MS: Final = float(FRAME_MS)
_MULAW_RATE = 8000
_URL_SAFE = str.maketrans("-_", "+/")


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


class Twilio(Dialect):
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
    layouts: ClassVar[tuple[Layout, ...]] = LAYOUTS
    default_layout: ClassVar[str] = "inbound_track"
    caller_track: ClassVar[str] = "inbound"
    flow_tracks: ClassVar[tuple[str, ...]] = ("inbound",)
    flow_keys: ClassVar[frozenset[str]] = frozenset({"parameters"})
    track_set: ClassVar[Literal["open", "fixed", "single"]] = "fixed"
    not_options: ClassVar[Mapping[str, str]] = {**Dialect.not_options, "call_sid": "is derived from the call's id"}
    shown_options: ClassVar[frozenset[str]] = frozenset({"encoding"})

    def __init__(
        self,
        tracks: str = "inbound_track",
        *,
        connect: bool = False,
        account_sid: str | None = None,
        call_sid: str | None = None,
        parameters: Mapping[str, str] | None = None,
        encoding: str = "mulaw",
        rate: int = _MULAW_RATE,
        chunk_per_track: bool = False,
        rng: random.Random | None = None,
    ) -> None:
        _check(tracks, connect, encoding, rate, parameters or {})
        self.rate = rate
        self.message_ms = _MESSAGE_MS
        self.two_way = connect
        self._names = _NAMES[tracks]
        self._account_sid = _sid("account_sid", "AC", account_sid) or _ACCOUNT_SID
        self._given_call_sid = _sid("call_sid", "CA", call_sid)
        self._parameters = dict(parameters or {})
        self._encoding = encoding
        self._mulaw = encoding == "mulaw"
        self._chunk_per_track = chunk_per_track
        self._rng = rng or random.SystemRandom()
        self._whole = WholeSamples()
        self._begins = True  # the next audio is the first of an utterance
        self._open = False
        self._began = 0.0
        self._stream_sid = ""
        self._call_sid = ""
        self._sequence = 0
        self._tracks: dict[str, _Track] = {}
        self._chunks: dict[str, int] = {}
        self._ended_ms: dict[str, int] = {}  # keeps timestamps of a restarted track from decreasing

    @classmethod
    def arguments(cls, options: Mapping[str, Any], setting: Setting) -> Mapping[str, Any]:
        """Return the options, with tracks, direction and account as defaults."""
        account = setting.account.id or account_sid(setting.account.installation)
        tracks = setting.layout or cls.default_layout
        return {"tracks": tracks, "connect": setting.two_way, "account_sid": account, **options}

    def handshake_headers(self, url: str, account: Account) -> Mapping[str, str]:
        """Return the signature by which applications authenticate the account."""
        return {"X-Twilio-Signature": signature(account.secret, url)} if account.usable else {}

    @property
    def expected(self) -> str:
        """Messages that the application may send, described for its author."""
        if not self.two_way:
            return super().expected
        audio = f"base64 of {self._encoding} at {self.rate} Hz in media.payload"
        return f'text messages: "media" with {audio}, "mark" or "clear"'

    def opened(self, call: CallInfo, tracks: Sequence[str], now: float, wall: float) -> Sequence[Message]:
        """Return ``connected`` and ``start``; applications read exactly these two before anything else."""
        self._open = True
        self._begins = True
        self._began = now
        self._stream_sid = f"MZ{self._rng.getrandbits(128):032x}"
        self._call_sid = self._given_call_sid or call_sid(call.call_id)
        self._sequence = 0
        self._tracks = {}
        self._chunks = {}
        self._ended_ms = {}
        start = _StartBody(
            self._account_sid,
            self._stream_sid,
            self._call_sid,
            self._names,
            _MediaFormat(ENCODINGS[self._encoding], self.rate),
            call.parameters | self._parameters,
        )
        return (_CONNECTED, _text(_Start(self._next(), start, self._stream_sid)))

    def track_started(self, track: TrackInfo, now: float) -> Sequence[Message]:
        """Start the track's clock; return the messages that end a running track of the same name."""
        if self._open and track.name in self._names:
            ended = self.track_stopped(track.name, now)
            began_ms = max(round((now - self._began) * 1000), self._ended_ms.get(track.name, 0))
            self._tracks[track.name] = _Track(SteadyTrack(slin(self.rate), FRAME_MS, now, tally=self.tally), began_ms)
            return ended
        return ()

    def audio(self, track: str, pcm: bytes, now: float) -> Sequence[Message]:
        """Return a message for each 20 ms: of this track, and of the other where silence replaces missing audio."""
        messages: list[Message] = []
        for name, each in self._tracks.items():
            for frame in each.steady.push(pcm, now) if name == track else each.steady.wait(now):
                messages.append(self._media(name, each, frame))
        return messages

    def dtmf(self, track: str, digit: str, now: float) -> Sequence[Message]:
        """Report a DTMF digit if the stream is two-way."""
        if not (self._open and self.two_way and track in self._names):
            return ()
        return (_text(_Dtmf(self._stream_sid, self._next(), _DtmfBody(f"{track}_track", digit))),)

    def track_stopped(self, track: str, now: float) -> Sequence[Message]:
        """Return the remaining whole frames; the format has no message for the end of a track."""
        stopped = self._tracks.pop(track, None)
        if stopped is None:
            return ()
        frames, _ = stopped.steady.finish(now)
        messages = [self._media(track, stopped, frame) for frame in frames]
        self._ended_ms[track] = stopped.next_ms
        return messages

    def mark_reached(self, name: str, now: float) -> Sequence[Message]:
        """Return the echo of a mark, with or without a name."""
        if not (self._open and self.two_way):
            return ()
        return (_text(_MarkEcho(self._next(), self._stream_sid, _MarkBody(name))),)

    def closed(self, reason: str, now: float, error: str | None = None) -> Sequence[Message]:
        """Return ``stop``, the last message."""
        if not self._open:
            return ()
        messages = [message for name in list(self._tracks) for message in self.track_stopped(name, now)]
        messages.append(_text(_Stop(self._next(), _StopBody(self._account_sid, self._call_sid), self._stream_sid)))
        self._open = False
        return messages

    def receive(self, message: Message) -> Sequence[Command]:
        """Decode ``media``, ``mark`` and ``clear``, whatever their ``streamSid``; ignore and count anything else."""
        command = self._command(message) if self.two_way else None
        if command is None:
            self.discard(message)
            return ()
        if type(command) is Play and not command.pcm:
            return ()
        return (command,)

    def _command(self, message: Message) -> Command | None:
        """Return the command in a message; None if it has no known command."""
        if not isinstance(message, str):
            return None
        try:
            received = _DECODER.decode(message)
        except (msgspec.DecodeError, RecursionError):
            return None
        match received.event:
            case "media":
                payload = _payload(received.media)
                if payload is None:
                    return None
                if self._begins:
                    self._begins = False
                    if wav.is_wav(payload):
                        self.discard(payload, f"bare {self._encoding} at {self.rate} Hz: a WAV header plays as noise")
                return Play(g711.ulaw_decode(payload) if self._mulaw else self._whole.push(payload), self.rate)
            case "mark":
                self._begins = True
                name = _mark_name(received.mark)
                return Mark(name) if len(name) <= MAX_MARK_NAME else None
            case "clear":
                self._begins = True
                self._whole = WholeSamples()
                return Clear()
        return None

    def _media(self, name: str, track: _Track, frame: bytes) -> str:
        counter = name if self._chunk_per_track else ""
        chunk = self._chunks.get(counter, 0) + 1
        self._chunks[counter] = chunk
        timestamp = track.next_ms
        track.next_ms += FRAME_MS
        self._sequence += 1
        # Formatted by hand: structs took a third of a frame's time. No value needs an escape.
        payload = binascii.b2a_base64(g711.ulaw_encode(frame) if self._mulaw else frame, newline=False).decode()
        return (
            f'{{"event":"media","sequenceNumber":"{self._sequence}","media":{{"track":"{name}","chunk":"{chunk}",'
            f'"timestamp":"{timestamp}","payload":"{payload}"}},"streamSid":"{self._stream_sid}"}}'
        )

    def _next(self) -> str:
        self._sequence += 1
        return str(self._sequence)


def _check(tracks: str, connect: bool, encoding: str, rate: int, parameters: Mapping[str, str]) -> None:
    if tracks not in _NAMES:
        raise ValueError(f"tracks must be one of {', '.join(_NAMES)}, not {tracks!r}")
    if connect and tracks != "inbound_track":
        raise ValueError(f"tracks={tracks} conflicts with connect: a two-way stream carries inbound_track only")
    if encoding not in ENCODINGS:
        raise ValueError(f"encoding must be one of {', '.join(ENCODINGS)}, not {encoding!r}")
    if encoding == "mulaw" and rate != _MULAW_RATE:
        raise ValueError(f"encoding=mulaw is 8000 Hz only, not {rate!r}; use encoding=l16 for wider audio")
    if rate not in SLIN_RATES:
        raise ValueError(f"rate must be one of {', '.join(map(str, SLIN_RATES))}, not {rate!r}")
    for name, value in parameters.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise ValueError(f"parameters must be strings; the value of {name!r} is {value!r}")


def _sid(option: str, prefix: str, sid: str | None) -> str:
    if sid and not re.fullmatch(prefix + "[0-9a-f]{32}", sid):
        raise ValueError(f"{option} must be {prefix} and 32 hexadecimal digits in lowercase, not {sid!r}")
    return sid or ""


def _hex(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _payload(media: _MediaIn | None) -> bytes | None:
    """Return the audio in a message; None if it is missing or not base64."""
    if media is None or media.payload is None or not media.payload.isascii():
        return None
    try:
        return binascii.a2b_base64(media.payload, strict_mode=True)
    except ValueError:
        pass  # variants that other servers accept: line breaks, the URL-safe alphabet, no padding
    text = "".join(media.payload.split()).rstrip("=").translate(_URL_SAFE)
    try:
        return binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)
    except ValueError:
        return None


def _mark_name(mark: object) -> str:
    """Return the name of a mark; empty if there is none, as in an OpenAI demonstration."""
    name = mark.get("name") if isinstance(mark, dict) else None
    return name if isinstance(name, str) else ""


def _text(message: msgspec.Struct) -> str:
    return _ENCODER.encode(message).decode()


class _Track(msgspec.Struct):
    steady: SteadyTrack
    next_ms: int  # time of the next frame since the stream began


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


class _MediaIn(msgspec.Struct, frozen=True):
    payload: str | None = None


class _Received(msgspec.Struct, frozen=True):
    """A message from an application; unknown fields are ignored, ``streamSid`` among them."""

    event: str
    media: _MediaIn | None = None
    mark: object = None


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(_Received)
_CONNECTED: Final = '{"event":"connected","protocol":"Call","version":"1.0.0"}'
_ACCOUNT_SID: Final = account_sid("asterisk-bridge")
