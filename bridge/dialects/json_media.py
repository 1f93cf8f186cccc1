"""What carriers' media streams have in common: JSON text messages with base64 audio, in one direction or both.

`JsonMedia` keeps the tracks in step with the clock, counts messages and validates those of the application. A dialect
adds the names of events and fields.
"""

from __future__ import annotations

import binascii
import random
import uuid
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, Literal, NamedTuple

import msgspec

from bridge.audio import g711, wav
from bridge.audio.clocked_track import ClockedTrack
from bridge.audio.format import FRAME_MS, slin
from bridge.audio.raw import WholeSamples
from bridge.dialects.base import CallInfo, Clear, Command, Dialect, Layout, Mark, Message, Play, Setting, TrackInfo

LAYOUTS: Final = (
    Layout("inbound_track", "caller", {"inbound": "in"}),
    Layout("outbound_track", "caller", {"outbound": "out"}),
    Layout("both_tracks", "caller", {"inbound": "in", "outbound": "out"}),
)
"""Layouts that a stream may request, with the names of their tracks."""
MAX_MARK_NAME: Final = 1024
"""Longest name of a mark, in characters: the name is kept until the mark is reached."""
G711_RATE: Final = 8000
"""Sampling rate of G.711, in Hz."""

_NAMES: Final = {layout.name: tuple(layout.tracks) for layout in LAYOUTS}
_URL_SAFE = str.maketrans("-_", "+/")
_ENCODER = msgspec.json.Encoder()


class Coding(NamedTuple):
    """One way in which audio is written in messages.

    Args:
        name: its name in the message that begins the stream.
        rates: its sampling rates, in Hz.
        encode: s16le to it; None: it is s16le.
        decode: it to s16le; None: it is s16le.
    """

    name: str
    rates: tuple[int, ...] = (G711_RATE,)
    encode: Callable[[bytes], bytes] | None = None
    decode: Callable[[bytes], bytes] | None = None


def mulaw(name: str) -> Coding:
    """Return mu-law under a vendor's name."""
    return Coding(name, encode=g711.ulaw_encode, decode=g711.ulaw_decode)


def alaw(name: str) -> Coding:
    """Return A-law under a vendor's name."""
    return Coding(name, encode=g711.alaw_encode, decode=g711.alaw_decode)


class Clocked(msgspec.Struct):
    """One running track.

    Args:
        steady: cuts it into messages.
        next_ms: time of the next message since the stream began.
    """

    steady: ClockedTrack
    next_ms: int


class _MediaIn(msgspec.Struct, frozen=True):
    """Audio from an application."""

    payload: str | None = None


class _Received(msgspec.Struct, frozen=True):
    """A message from an application; unknown fields are ignored, the stream's id among them."""

    event: str
    media: _MediaIn | None = None
    mark: object = None


class JsonMedia(Dialect):
    """One media stream.

    Args:
        tracks: ``inbound_track``, ``outbound_track`` or ``both_tracks``.
        connect: the application may send audio and receives DTMF and marks.
        encoding: a key of ``encodings``.
        rate: sampling rate in Hz.
        parameters: additional facts for the application.
        message_ms: audio in one message, in milliseconds.
        chunk_per_track: count the messages of each track, not all messages with audio.
        rng: source of the stream's id, for tests.

    Raises:
        ValueError: the options are invalid or conflict; the message is for the administrator.
    """

    layouts: ClassVar[tuple[Layout, ...]] = LAYOUTS
    default_layout: ClassVar[str] = "inbound_track"
    caller_track: ClassVar[str] = "inbound"
    flow_tracks: ClassVar[tuple[str, ...]] = ("inbound",)
    flow_keys: ClassVar[frozenset[str]] = frozenset({"parameters"})
    track_set: ClassVar[Literal["open", "fixed", "single"]] = "fixed"
    shown_options: ClassVar[frozenset[str]] = frozenset({"encoding"})

    encodings: ClassVar[Mapping[str, Coding]]
    """The values of ``encoding``."""
    decoder: ClassVar[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(_Received)
    """Decodes a message from the application for `_commands`."""

    def __init__(
        self,
        tracks: str,
        *,
        connect: bool,
        encoding: str,
        rate: int,
        parameters: Mapping[str, str] | None,
        message_ms: int = FRAME_MS,
        chunk_per_track: bool = True,
        rng: random.Random | None = None,
    ) -> None:
        _check(self.encodings, tracks, connect, encoding, rate, parameters or {})
        self.rate = rate
        self.message_ms = float(message_ms)
        self.two_way = connect
        self._names = _NAMES[tracks]
        self._parameters = dict(parameters or {})
        self._encoding = encoding
        self._coding = self.encodings[encoding]
        self._encode = self._coding.encode
        self._step_ms = message_ms
        self._chunk_per_track = chunk_per_track
        self._rng = rng or random.SystemRandom()
        self._whole = WholeSamples()
        self._begins = True  # the next audio is the first of an utterance
        self._open = False
        self._began = 0.0
        self._timed = False  # whether timestamps count from the start of a track, the first, and not of the stream
        self._wall = 0.0
        self._sequence = 0
        self._tracks: dict[str, Clocked] = {}
        self._chunks: dict[str, int] = {}
        self._ended_ms: dict[str, int] = {}  # keeps timestamps of a restarted track from decreasing

    @classmethod
    def arguments(cls, options: Mapping[str, Any], setting: Setting) -> Mapping[str, Any]:
        """Return the options, with tracks and direction as defaults."""
        return {"tracks": setting.layout or cls.default_layout, "connect": setting.two_way, **options}

    # What a dialect adds

    @abstractmethod
    def _started(self, call: CallInfo) -> Sequence[Message]:
        """Return the first messages."""

    @abstractmethod
    def _media(self, track: str, chunk: int, timestamp: int, payload: str) -> str:
        """Return the message with the next audio of a track; ``_sequence`` counts it.

        Formatted by hand: structs took a third of a frame's time. No value needs an escape.

        Args:
            track: its name.
            chunk: the number of the message.
            timestamp: milliseconds since the stream began.
            payload: base64.
        """

    @abstractmethod
    def _key(self, track: str, digit: str, now: float) -> Message:
        """Return the message for a DTMF digit."""

    @abstractmethod
    def _reached(self, name: str) -> Message | None:
        """Return the message for a mark that was reached, if there is one."""

    def _ended(self) -> Sequence[Message]:
        """Return the last messages."""
        return ()

    def _commands(self, received: Any) -> Sequence[Command] | None:
        """Return the commands in a message that ``decoder`` has decoded; None: it is invalid."""
        match received.event:
            case "media":
                return self._play(received.media.payload if received.media is not None else None)
            case "mark":
                return self._mark(_name_of(received.mark))
            case "clear":
                self._cleared()
                return (Clear(),)
        return None

    # The stream's life

    def opened(self, call: CallInfo, tracks: Sequence[str], now: float, wall: float) -> Sequence[Message]:
        """Begin to count; return the first messages, which applications read before anything else."""
        self._open = True
        self._begins = True
        self._began = now
        self._timed = False
        self._wall = wall - now
        self._sequence = 0
        self._tracks = {}
        self._chunks = {}
        self._ended_ms = {}
        return self._started(call)

    def track_started(self, track: TrackInfo, now: float) -> Sequence[Message]:
        """Start the track's clock; return the messages that end a running track of the same name."""
        if self._open and track.name in self._names:
            ended = self.track_stopped(track.name, now)
            if not self._timed:
                self._began, self._timed = now, True
            # Whole messages: those of two tracks have the same timestamps.
            since_ms = self._milliseconds(now) // self._step_ms * self._step_ms
            began_ms = max(since_ms, self._ended_ms.get(track.name, 0))
            steady = ClockedTrack(slin(self.rate), self._step_ms, now, tally=self.tally)
            self._tracks[track.name] = Clocked(steady, began_ms)
            return ended
        return ()

    def audio(self, track: str, pcm: bytes, now: float) -> Sequence[Message]:
        """Return the messages of this track, and of the other where silence replaces missing audio."""
        messages: list[Message] = []
        for name, each in self._tracks.items():
            for frame in each.steady.push(pcm, now) if name == track else each.steady.wait(now):
                messages.append(self._written(name, each, frame))
        return messages

    def dtmf(self, track: str, digit: str, now: float) -> Sequence[Message]:
        """Report a DTMF digit if the stream is two-way."""
        if not (self._open and self.two_way and track in self._names):
            return ()
        return (self._key(track, digit, now),)

    def track_stopped(self, track: str, now: float) -> Sequence[Message]:
        """Return the remaining whole messages; there is none for the end of a track."""
        stopped = self._tracks.pop(track, None)
        if stopped is None:
            return ()
        frames, _ = stopped.steady.finish(now)
        messages = [self._written(track, stopped, frame) for frame in frames]
        self._ended_ms[track] = stopped.next_ms
        return messages

    def mark_reached(self, name: str, now: float) -> Sequence[Message]:
        """Return the echo of a mark, with or without a name."""
        if not (self._open and self.two_way):
            return ()
        message = self._reached(name)
        return () if message is None else (message,)

    def closed(self, reason: str, now: float, error: str | None = None) -> Sequence[Message]:
        """Return the rest of the tracks and the last messages."""
        if not self._open:
            return ()
        messages = [message for name in list(self._tracks) for message in self.track_stopped(name, now)]
        messages.extend(self._ended())
        self._open = False
        return messages

    def receive(self, message: Message) -> Sequence[Command]:
        """Decode a message, whatever the stream's id in it; ignore and count what is invalid."""
        if self.two_way and isinstance(message, str):
            try:
                commands = self._commands(self.decoder.decode(message))
            except (msgspec.DecodeError, RecursionError):
                commands = None
            if commands is not None:
                return commands
        self.discard(message)
        return ()

    # For dialects

    def _play(self, payload: str | None, coding: Coding | None = None, rate: int = 0) -> Sequence[Command] | None:
        """Return the audio of a message; None if it is missing or not base64.

        Args:
            payload: base64.
            coding: how it is written; None: as the audio to the application.
            rate: its sampling rate in Hz, if ``coding`` is given.
        """
        if coding is None:
            coding, rate = self._coding, self.rate
        data = decoded(payload)
        if data is None:
            return None
        if self._begins:
            self._begins = False
            if wav.is_wav(data):
                self.discard(data, f"bare {self._encoding} at {rate} Hz: a WAV header plays as noise")
        decode = coding.decode
        pcm = decode(data) if decode is not None else self._whole.push(data)
        return (Play(pcm, rate),) if pcm else ()

    def _mark(self, name: str) -> Sequence[Command] | None:
        """Return a mark; None if its name is too long."""
        self._begins = True
        return (Mark(name),) if len(name) <= MAX_MARK_NAME else None

    def _cleared(self) -> None:
        """Discard a sample of which only a part has arrived."""
        self._begins = True
        self._whole = WholeSamples()

    def _next(self) -> int:
        """Return the number of the next message."""
        self._sequence += 1
        return self._sequence

    def _milliseconds(self, now: float) -> int:
        """Return the time since the stream began."""
        return round((now - self._began) * 1000)

    def _uuid(self) -> str:
        """Return a random id."""
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))

    def _written(self, name: str, track: Clocked, frame: bytes) -> str:
        counter = name if self._chunk_per_track else ""
        chunk = self._chunks.get(counter, 0) + 1
        self._chunks[counter] = chunk
        timestamp = track.next_ms
        track.next_ms += self._step_ms
        self._sequence += 1
        data = self._encode(frame) if self._encode is not None else frame
        return self._media(name, chunk, timestamp, binascii.b2a_base64(data, newline=False).decode())


def text(message: msgspec.Struct) -> str:
    """Return a message as JSON."""
    return _ENCODER.encode(message).decode()


def decoded(payload: str | None) -> bytes | None:
    """Return the audio in a payload; None if it is missing or not base64."""
    if payload is None or not payload.isascii():
        return None
    try:
        return binascii.a2b_base64(payload, strict_mode=True)
    except ValueError:
        pass  # variants that other servers accept: line breaks, the URL-safe alphabet, no padding
    bare = "".join(payload.split()).rstrip("=").translate(_URL_SAFE)
    try:
        return binascii.a2b_base64(bare + "=" * (-len(bare) % 4), strict_mode=True)
    except ValueError:
        return None


def _name_of(mark: object) -> str:
    """Return the name of a mark; empty if there is none, as in an OpenAI demonstration."""
    name = mark.get("name") if isinstance(mark, dict) else None
    return name if isinstance(name, str) else ""


def _check(
    encodings: Mapping[str, Coding], tracks: str, connect: bool, encoding: str, rate: int, parameters: Mapping[str, str]
) -> None:
    if tracks not in _NAMES:
        raise ValueError(f"tracks must be one of {', '.join(_NAMES)}, not {tracks!r}")
    if connect and tracks != "inbound_track":
        raise ValueError(f"tracks={tracks} conflicts with connect: a two-way stream carries inbound_track only")
    if encoding not in encodings:
        raise ValueError(f"encoding must be one of {', '.join(encodings)}, not {encoding!r}")
    rates = encodings[encoding].rates
    if rate not in rates and len(rates) == 1:
        wider = next(
            (f"; use encoding={name} for wider audio" for name, it in encodings.items() if rate in it.rates), ""
        )
        raise ValueError(f"encoding={encoding} is {rates[0]} Hz only, not {rate!r}{wider}")
    if rate not in rates:
        raise ValueError(f"rate must be one of {', '.join(map(str, rates))}, not {rate!r}")
    for name, value in parameters.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise ValueError(f"parameters must be strings; the value of {name!r} is {value!r}")
