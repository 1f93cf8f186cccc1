"""A media leg: one AudioSocket connection, with the audio from Asterisk and a playout queue toward it.

The leg exists before its connection: audio that an application sends meanwhile waits in the playout queue.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Protocol
from uuid import UUID, uuid4

from bridge.audio.audiosocket import HEADER_BYTES, RATE_OF_KIND, kind_of_rate
from bridge.audio.format import AudioFormat, slin
from bridge.audio.playout import Playout
from bridge.media.counters import Counters

if TYPE_CHECKING:
    from bridge.audio.resample import Resampler

log = logging.getLogger(__name__)


NARROW = slin(8000)
"""The format that every Asterisk carries."""

_CONNECTED = asyncio.Event()
"""Shared by every connected leg: an event takes 850 bytes, and nobody waits for this one."""
_CONNECTED.set()


class LegConnection(Protocol):
    """The interface of a leg's connection."""

    @property
    def write(self) -> Callable[[bytes], None]:
        """Write one message."""

    def hang_up(self) -> None:
        """End the connection."""

    def hand_over(self, leg: MediaLeg) -> None:
        """Continue as another leg's connection."""


def is_silence(pcm: bytes) -> bool:
    """Return whether all samples are 0."""
    return pcm.count(0) == len(pcm)


def ignore(*_: object) -> None:
    """Do nothing: the default of callbacks."""


@cache
def _header_and_silence(fmt: AudioFormat) -> tuple[bytes, bytes]:
    header = struct.pack(">BH", kind_of_rate(fmt.rate), fmt.frame_bytes)
    return header, header + fmt.silence(fmt.frame_bytes)


class MediaLeg:
    """Audio of one call from and to Asterisk, s16le mono at ``fmt.rate`` in both directions.

    Args:
        fmt: the slin format of the audio, and of the connection except after `narrow`.
        playout: the audio to play toward Asterisk; a leg that replaces a broken one takes over the queue.
        counters: the process's counters.

    The owner sets the callbacks; all are called on the event loop, from the socket's callback or the tick:
        on_audio(pcm): audio from Asterisk, usually but not always 20 ms.
        on_dtmf(digit): a DTMF digit, as Asterisk reports it in dialplan mode.
        on_mark(name): everything queued before the mark has been sent to Asterisk.
        on_tick(): 20 ms have passed without audio, for owners that measure time by it.
        on_closed(): the connection has ended, for any reason.
    """

    __slots__ = (
        "_counters",
        "_heard",
        "_held",
        "_kind",
        "_listener",
        "_on_audio",
        "_on_tick",
        "_paused",
        "_resampler",
        "_silence",
        "_silent",
        "_wire",
        "_write",
        "blocked",
        "closed",
        "connected",
        "fmt",
        "header",
        "on_closed",
        "on_dtmf",
        "on_mark",
        "on_sink_changed",
        "playout",
        "survives",
        "uuid",
        "wire_fmt",
    )

    def __init__(self, fmt: AudioFormat, playout: Playout, counters: Counters) -> None:
        self.uuid: UUID = uuid4()
        self.fmt = self.wire_fmt = fmt
        self.playout = playout
        self._listener: Callable[[bytes], None] = ignore
        self._on_audio: Callable[[bytes], None] = ignore  # the listener, or a function that passes silence to it
        self._silent = False
        self.on_dtmf: Callable[[str], None] = ignore
        self.on_mark: Callable[[str], None] = ignore
        self.on_closed: Callable[[], None] = ignore
        self._on_tick: Callable[[], None] | None = None
        self.survives: Callable[[], bool] | None = None
        """Returns whether another connection follows one that has ended: the leg is not closed then."""
        self.on_sink_changed: Callable[[], None] | None = None
        """Called when `on_audio` or `on_tick` is replaced: for `SharedLeg`, which calls them directly."""
        self.connected = asyncio.Event()
        self.closed = False
        self.blocked = False
        """Whether Asterisk does not read now: frames are skipped instead of queued."""
        self._counters = counters
        self._heard = False  # audio arrived since the last tick
        self._wire: LegConnection | None = None
        self._write: Callable[[bytes], None] | None = None  # of the wire; looked up once. None while the leg is held
        self._held = False
        self._paused = False
        self._kind = int(kind_of_rate(fmt.rate))
        self.header, self._silence = _header_and_silence(fmt)
        """First bytes of every frame of 20 ms on AudioSocket, in both directions, and a silent frame."""
        self._resampler: tuple[int, Resampler] | None = None

    @property
    def on_audio(self) -> Callable[[bytes], None]:
        """Called with audio from Asterisk."""
        return self._listener

    @on_audio.setter
    def on_audio(self, callback: Callable[[bytes], None]) -> None:
        self._listener = callback
        self._aim_audio()

    @property
    def silent(self) -> bool:
        """Whether `on_audio` receives silence instead of Asterisk's audio."""
        return self._silent

    @silent.setter
    def silent(self, silent: bool) -> None:
        if silent != self._silent:
            self._silent = silent
            self._aim_audio()

    @property
    def sink(self) -> Callable[[bytes], None]:
        """The current consumer of Asterisk's audio: `on_audio`, through a silencer if the leg is `silent`."""
        return self._on_audio

    @sink.setter
    def sink(self, sink: Callable[[bytes], None]) -> None:
        self._on_audio = sink

    def _aim_audio(self) -> None:
        # Another callable instead of a condition for each frame.
        listener = self._listener
        self._on_audio = (lambda pcm: listener(bytes(len(pcm)))) if self._silent else listener
        if self.on_sink_changed is not None:
            self.on_sink_changed()

    @property
    def on_tick(self) -> Callable[[], None] | None:
        """Called when 20 ms have passed."""
        return self._on_tick

    @on_tick.setter
    def on_tick(self, callback: Callable[[], None] | None) -> None:
        self._on_tick = callback
        if self.on_sink_changed is not None:
            self.on_sink_changed()

    def narrow(self) -> None:
        """Carry 8 kHz on the connection, whatever ``fmt`` is; call before `attach`."""
        if self.fmt.rate > NARROW.rate:
            self.wire_fmt = NARROW
            self._convert_from(NARROW.rate)

    def attach(self, wire: LegConnection) -> None:
        """Attach the connection that sent the leg's UUID; the leg ticks from now on."""
        self._wire = wire = wire if self.wire_fmt is self.fmt else NarrowConnection(wire, self.fmt, self.wire_fmt)
        self._aim_playout()
        self.mark_connected()
        # asterisk#2089: a wake-up without bytes can block Asterisk's channel lock, so do not wait for the first tick.
        self.tick(1)

    def hold(self) -> None:
        """Send silence until `release`: Asterisk discards what it receives before its channel is in place."""
        self._held = True
        self._aim_playout()

    def release(self) -> None:
        """Play queued audio from now on; harmless if the leg is not held."""
        self._held = False
        self._aim_playout()

    @property
    def paused(self) -> bool:
        """Whether Asterisk receives silence while queued audio waits, at the application's request."""
        return self._paused

    @paused.setter
    def paused(self, paused: bool) -> None:
        self._paused = paused
        self._aim_playout()

    def _aim_playout(self) -> None:
        # Another target instead of conditions for each frame.
        wire = self._wire
        self._write = None if wire is None or self._held or self._paused else wire.write

    def mark_connected(self) -> None:
        """Wake up the tasks that wait for `connected`: audio has a connection, perhaps another leg's."""
        self.connected.set()
        self.connected = _CONNECTED

    def tick(self, frames: int) -> None:
        """Write ``frames`` frames of 20 ms: queued audio, or silence."""
        write = self._write
        counters = self._counters
        if self.blocked:
            counters.frames_blocked += frames
        elif write is None:
            if self._wire is None:
                return
            for _ in range(frames):
                self._wire.write(self._silence)
            counters.silent_frames_to_asterisk += frames
            counters.frames_to_asterisk += frames
        else:
            playout = self.playout
            for _ in range(frames):
                frame = playout.take()
                if frame is None:
                    counters.silent_frames_to_asterisk += 1
                    write(self._silence)
                else:
                    write(self.header + frame)
            counters.frames_to_asterisk += frames
            if playout.marked:
                for name in playout.reached():
                    self.on_mark(name)
        if self._heard:  # audio advances the owner's time
            self._heard = False
        elif self._on_tick is not None:
            self._on_tick()

    def received_frame(self, pcm: bytes) -> None:
        """Pass exactly 20 ms from Asterisk in the agreed format to `on_audio`: the fast path of ``received``."""
        self._counters.frames_from_asterisk += 1
        self._heard = True
        self._on_audio(pcm)

    def received(self, kind: int, payload: bytes) -> None:
        """Pass audio from Asterisk to `on_audio`; its rate is that of ``kind``, whatever was agreed."""
        self._counters.frames_from_asterisk += 1
        self._heard = True
        if kind == self._kind:
            self._on_audio(payload)
            return
        if self._resampler is None or self._resampler[0] != kind:
            rate = RATE_OF_KIND[kind]
            log.warning(
                "Asterisk sends another rate than agreed, converting leg=%s rate=%d expected=%d",
                self.uuid,
                rate,
                self.wire_fmt.rate,
            )
            self._convert_from(rate)
        assert self._resampler is not None
        whole = payload[: len(payload) & ~1]  # half a sample would be an error; Asterisk never sends one
        self._on_audio(self._resampler[1].convert(whole))

    def _convert_from(self, rate: int) -> None:
        from bridge.audio.resample import Resampler

        self._resampler = (kind_of_rate(rate), Resampler(rate, self.fmt.rate))

    def watch(self) -> Watch:
        """Watch the audio from Asterisk until it is not digital silence; costs nothing afterwards."""
        return Watch(self)

    def relax(self) -> None:
        """Allow fewer frames: Asterisk does not need one every 20 ms here. Legs that play ignore this."""

    def close(self) -> None:
        """Hang up; harmless without a connection."""
        self.survives = None
        if self._wire is not None:
            self._wire.hang_up()

    def hand_over(self, leg: MediaLeg) -> None:
        """Transfer the connection to another leg of the same format; this one remains without, but is not closed."""
        wire, self._wire, self._write = self._wire, None, None
        if wire is not None:
            leg.blocked, self.blocked = self.blocked, False  # the connection reports changes only
            wire.hand_over(leg)

    def renew(self) -> None:
        """Prepare for another connection, under another UUID."""
        self.uuid = uuid4()
        self.connected = asyncio.Event()

    def detach(self) -> None:
        """Handle the end of the connection (called by the connection)."""
        self._wire = self._write = None
        if self.survives is not None and self.survives():
            return
        self.closed = True
        self.on_closed()


class NarrowConnection:
    """The connection of a leg that was narrowed: converts the audio toward Asterisk.

    Args:
        connection: the connection of the listener.
        fmt: the leg's format.
        wire_fmt: the connection's format.
    """

    __slots__ = ("_connection", "_convert", "_header")

    def __init__(self, connection: LegConnection, fmt: AudioFormat, wire_fmt: AudioFormat) -> None:
        from bridge.audio.resample import Resampler

        self._connection = connection
        self._convert = Resampler(fmt.rate, wire_fmt.rate).convert
        self._header, _ = _header_and_silence(wire_fmt)

    @property
    def write(self) -> Callable[[bytes], None]:
        """Convert one frame of 20 ms with its header, and write it."""
        return self._write

    def hang_up(self) -> None:
        """End the connection."""
        self._connection.hang_up()

    def hand_over(self, leg: MediaLeg) -> None:
        """Continue as another leg's connection, with a conversion too."""
        leg.narrow()
        self._connection.hand_over(leg)

    def _write(self, message: bytes) -> None:
        self._connection.write(self._header + self._convert(message[HEADER_BYTES:]))


class Watch:
    """Detects whether a leg receives anything but digital silence.

    Attributes:
        heard: other audio has arrived.
        frames: number of silent frames so far.
    """

    __slots__ = ("_leg", "_through", "frames", "heard")

    def __init__(self, leg: MediaLeg) -> None:
        self.heard = False
        self.frames = 0
        self._leg = leg
        self._through = leg.sink
        leg.sink = self

    @property
    def active(self) -> bool:
        """Whether the watch receives frames: until `end`, or until the leg gets another listener."""
        return self._leg.sink is self

    def __call__(self, pcm: bytes) -> None:
        """Check a frame, and pass it on to the listener."""
        if is_silence(pcm):
            self.frames += 1
        else:
            self.heard = True
            self.end()
        self._through(pcm)

    def end(self) -> None:
        """Stop watching."""
        if self.active:
            self._leg.sink = self._through
