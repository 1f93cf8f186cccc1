"""Voxology Media Stream (beta): JSON text, one way, with counters for the stream and for every track.

Source: voxolo.gy, the service page "Media Stream" (2026). Choices where its samples contradict each other or are
silent: ``docs/decisions/voxology.md``.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Final
from uuid import UUID

import msgspec

from bridge.audio import g711
from bridge.audio.clocked_track import AHEAD_MS, ClockedTrack
from bridge.audio.format import FRAME_MS, slin
from bridge.dialects.base import CallInfo, Dialect, Message, TrackInfo

RATE: Final = 8000
CHUNK_MS: Final = range(20, 1001, FRAME_MS)
"""Valid lengths of a chunk of audio, in milliseconds."""
STREAM_IDS: Final = range(100_000_000, 1_000_000_000)
"""Valid values of ``stream_id``: numbers of nine digits, as in the vendor's samples."""
ERROR_CODES: Final[Mapping[str, int]] = {
    "connect_failed": 1001,
    "write_timeout": 1002,
    "audio_lost": 1003,
    "call_failed": 1004,
    "internal": 1005,
    "asterisk_restarted": 1006,
}
"""``error_code`` by ``error``. The vendor's samples show null only; these codes are asterisk-bridge's own."""


class StreamIds:
    """Creates ids of streams: nine digits like the vendor's, within 32 bits, unique in the process.

    The first id of each process is random: with ten processes of 10,000 streams each, the probability that two streams
    share an id is 1 in 1,000. ``call_id`` distinguishes them.
    """

    def __init__(self) -> None:
        self._next = random.choice(STREAM_IDS)

    def next(self) -> int:
        """Return an id that no previous stream of this process has."""
        found = self._next
        self._next = found + 1 if found + 1 in STREAM_IDS else STREAM_IDS.start
        return found


_STREAM_IDS = StreamIds()


class Voxology(Dialect):
    """One media stream.

    Args:
        chunk_ms: audio in one message, in milliseconds: 20 to 1000, a multiple of 20.
        app_id: the application's UUID.
        subaccount_id: the account's number.
        stream_name: the stream's name.
        service: ``programmable_voice``, as in the vendor's samples, or another name for calls of trunks.
        stream_data: sent unchanged; None is null.
        stream_id: the stream's first id, for tests; incremented on every connection.

    Raises:
        ValueError: an option is invalid; the message is for the administrator.
    """

    name: ClassVar[str] = "voxology"
    default_layout: ClassVar[str] = "both"
    caller_track: ClassVar[str] = "caller"
    flow_tracks: ClassVar[tuple[str, ...]] = ("caller",)
    flow_keys: ClassVar[frozenset[str]] = frozenset({"stream_data", "stream_name"})
    default_of: ClassVar[frozenset[str]] = frozenset({"stream"})
    shown_options: ClassVar[frozenset[str]] = frozenset({"service"})

    def __init__(
        self,
        *,
        chunk_ms: int = 160,
        app_id: str = "00000000-0000-0000-0000-000000000000",
        subaccount_id: int = 1,
        stream_name: str = "stream1",
        service: str = "programmable_voice",
        stream_data: Mapping[str, Any] | None = None,
        stream_id: int | None = None,
    ) -> None:
        _check(chunk_ms, app_id, subaccount_id, stream_data)
        self.rate = RATE
        self.message_ms = float(chunk_ms)
        self.stream_data = stream_data
        self._chunk_ms = chunk_ms
        self._app_id = app_id
        self._subaccount_id = subaccount_id
        self._stream_name = stream_name
        self._service = service
        self._next_stream_id = stream_id
        self._call = CallInfo("")
        self._open = False
        self._origin_s = 0.0  # what to add to `now` for seconds since 1970
        self._stream_id = 0
        self._sequence = 0
        self._tracks: dict[str, _Track] = {}
        self._ended: list[_TrackTimes] = []
        self._order: dict[str, None] = {}
        """Names of tracks in the order of ``end_stream``: as requested, then as they began."""

    def update(self, data: Mapping[str, Any]) -> None:
        """Replace ``stream_data``; ``end_stream`` carries the new value."""
        self.stream_data = data

    def opened(self, call: CallInfo, tracks: Sequence[str], now: float, wall: float) -> Sequence[Message]:
        """Return ``init_stream``, with a new id and new counters on every connection."""
        self._call = call
        self._open = True
        self._origin_s = wall - now
        if self._next_stream_id is None:
            self._stream_id = _STREAM_IDS.next()
        else:
            self._stream_id = self._next_stream_id
            self._next_stream_id += 1
        self._sequence = 0
        self._tracks = {}
        self._ended = []
        self._order = dict.fromkeys(tracks)
        return (
            _text(
                _InitStream(
                    self._stream_id,
                    "init_stream",
                    self._next(),
                    call.call_id,
                    self._app_id,
                    self._subaccount_id,
                    _direction(call),
                    self._stream_name,
                    None if self.stream_data is None else dict(self.stream_data),
                    tuple(_TrackName(name) for name in tracks),
                    self._service,
                )
            ),
        )

    def track_started(self, track: TrackInfo, now: float) -> Sequence[Message]:
        """Return ``start_track``; a track that starts again counts from 1."""
        if not self._open:
            return ()
        messages = [*self.track_stopped(track.name, now)]
        steady = ClockedTrack(slin(RATE), self._chunk_ms, now, ahead_ms=min(AHEAD_MS, self._chunk_ms), tally=self.tally)
        started = self._tracks[track.name] = _Track(track, steady)
        self._order.setdefault(track.name)
        messages.append(
            _text(
                _StartTrack(
                    self._stream_id,
                    "start_track",
                    self._next(),
                    self._call.call_id,
                    track.near_number or None,
                    track.far_number or None,
                    started.next(),
                    _MediaFormat(),
                    track.name,
                )
            )
        )
        return messages

    def track_changed(self, track: TrackInfo, now: float) -> Sequence[Message]:
        """Store the numbers for ``stop_track``; return nothing."""
        if track.name in self._tracks:
            self._tracks[track.name].info = track
        return ()

    def audio(self, track: str, pcm: bytes, now: float) -> Sequence[Message]:
        """Return ``live_track`` for each full chunk: of this track, and of others where silence replaces lost audio."""
        messages: list[Message] = []
        for name, each in self._tracks.items():
            for chunk in each.steady.push(pcm, now) if name == track else each.steady.wait(now):
                messages.append(self._live(each, chunk))
        return messages

    def track_stopped(self, track: str, now: float) -> Sequence[Message]:
        """Return the last ``live_track``, which may be shorter, and ``stop_track``."""
        stopped = self._tracks.pop(track, None)
        if stopped is None:
            return ()
        chunks, rest = stopped.steady.finish(now)
        if rest:
            chunks.append(rest)
        messages = [self._live(stopped, chunk) for chunk in chunks]
        start_ms, end_ms = self._wall_ms(stopped.steady.began), self._wall_ms(now)
        times = _TrackTimes(track, _iso(start_ms), _iso(end_ms), end_ms - start_ms)
        self._ended.append(times)
        messages.append(
            _text(
                _StopTrack(
                    self._stream_id,
                    "stop_track",
                    self._next(),
                    self._call.call_id,
                    stopped.info.near_number or None,
                    stopped.info.far_number or None,
                    stopped.next(),
                    times.duration,
                    times.start_time,
                    times.end_time,
                    track,
                )
            )
        )
        return messages

    def closed(self, reason: str, now: float, error: str | None = None) -> Sequence[Message]:
        """Return ``stop_track`` of every running track, then ``end_stream``, the last message."""
        if not self._open:
            return ()
        messages = [message for name in list(self._tracks) for message in self.track_stopped(name, now)]
        if error is not None and error not in ERROR_CODES:
            error = "internal"
        order = list(self._order)
        ended = sorted(self._ended, key=lambda times: order.index(times.name))
        messages.append(
            _text(
                _EndStream(
                    self._stream_id,
                    "end_stream",
                    self._next(),
                    self._call.call_id,
                    self._app_id,
                    self._subaccount_id,
                    self._service,
                    self._stream_name,
                    tuple(ended),
                    ERROR_CODES[error] if error else None,
                    error,
                    None if self.stream_data is None else dict(self.stream_data),
                )
            )
        )
        self._open = False
        return messages

    def _live(self, track: _Track, chunk: bytes) -> str:
        media = g711.ulaw_encode(chunk)
        stream_number = self._next()
        call_id, name = self._call.call_id, track.info.name
        return _text(_LiveTrack(self._stream_id, "live_track", stream_number, track.next(), media, call_id, name))

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence

    def _wall_ms(self, now: float) -> int:
        return round((now + self._origin_s) * 1000)


def _check(chunk_ms: int, app_id: str, subaccount_id: int, stream_data: Mapping[str, Any] | None) -> None:
    if chunk_ms not in CHUNK_MS:
        raise ValueError(f"chunk_ms must be a multiple of {FRAME_MS} from 20 to 1000, not {chunk_ms!r}")
    try:
        UUID(app_id)
    except (ValueError, AttributeError, TypeError):
        raise ValueError(f"app_id must be a UUID, not {app_id!r}") from None
    if not isinstance(subaccount_id, int) or isinstance(subaccount_id, bool):
        raise ValueError(f"subaccount_id must be an integer, not {subaccount_id!r}")
    if stream_data is not None and not isinstance(stream_data, Mapping):
        raise ValueError(f"stream_data must be a table, or left out, not {stream_data!r}")


def _direction(call: CallInfo) -> str:
    """Return the vendor's direction; internal calls begin on the platform's side, so they are outbound."""
    return "inbound" if call.direction == "inbound" else "outbound"


def _iso(wall_ms: int) -> str:
    seconds, ms = divmod(wall_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03d}Z"


def _text(message: msgspec.Struct) -> str:
    return _ENCODER.encode(message).decode()


class _Track(msgspec.Struct):
    info: TrackInfo
    steady: ClockedTrack
    sequence: int = 0

    def next(self) -> int:
        self.sequence += 1
        return self.sequence


# The messages, their keys in the vendor's order.


class _TrackName(msgspec.Struct, frozen=True):
    name: str


class _TrackTimes(msgspec.Struct, frozen=True):
    name: str
    start_time: str
    end_time: str
    duration: int


class _MediaFormat(msgspec.Struct, frozen=True):
    encoding: str = "ulaw"
    type: str = "text"
    sample_rate: int = RATE


class _InitStream(msgspec.Struct, frozen=True):
    stream_id: int
    type: str
    stream_sequence_number: int
    call_id: str
    app_id: str
    subaccount_id: int
    direction: str
    stream_name: str
    stream_data: dict[str, Any] | None
    tracks: tuple[_TrackName, ...]
    service: str


class _StartTrack(msgspec.Struct, frozen=True):
    stream_id: int
    type: str
    stream_sequence_number: int
    call_id: str
    api_no: str | None
    caller_no: str | None
    track_sequence_number: int
    media_format: _MediaFormat
    name: str


class _LiveTrack(msgspec.Struct, frozen=True):
    stream_id: int
    type: str
    stream_sequence_number: int
    track_sequence_number: int
    media: bytes  # base64 on the wire
    call_id: str
    name: str


class _StopTrack(msgspec.Struct, frozen=True):
    stream_id: int
    type: str
    stream_sequence_number: int
    call_id: str
    api_no: str | None
    caller_no: str | None
    track_sequence_number: int
    duration: int
    start_time: str
    end_time: str
    name: str


class _EndStream(msgspec.Struct, frozen=True):
    stream_id: int
    type: str
    stream_sequence_number: int
    call_id: str
    app_id: str
    subaccount_id: int
    service: str
    stream_name: str
    tracks: tuple[_TrackTimes, ...]
    error_code: int | None
    error: str | None
    stream_data: dict[str, Any] | None


_ENCODER = msgspec.json.Encoder()
