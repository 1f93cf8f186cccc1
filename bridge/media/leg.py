"""A media leg: one AudioSocket connection, with the audio from Asterisk and a playout queue towards it.

The leg is there before its connection is: what an application says in the meantime waits in the playout queue.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Protocol
from uuid import UUID, uuid4

from bridge.audio.audiosocket import RATE_OF_KIND, kind_of_rate
from bridge.audio.format import AudioFormat
from bridge.audio.playout import Playout
from bridge.media.counters import Counters

if TYPE_CHECKING:
    from bridge.audio.resample import Resampler

log = logging.getLogger(__name__)


_CONNECTED = asyncio.Event()
"""Of every leg from its connection on: an event of its own takes 850 bytes, and nobody waits for that one any more."""
_CONNECTED.set()


class Wire(Protocol):
    """What a leg needs of its connection."""

    @property
    def write(self) -> Callable[[bytes], None]: ...

    def hang_up(self) -> None: ...

    def hand_over(self, leg: MediaLeg) -> None: ...


def is_silence(pcm: bytes) -> bool:
    """Whether all samples are 0."""
    return pcm.count(0) == len(pcm)


def ignore(*_: object) -> None:
    """Do nothing: a callback that is not set."""


@cache
def _header_and_silence(fmt: AudioFormat) -> tuple[bytes, bytes]:
    header = struct.pack(">BH", kind_of_rate(fmt.rate), fmt.frame_bytes)
    return header, header + fmt.silence(fmt.frame_bytes)


class MediaLeg:
    """Audio of one call to and from Asterisk, s16le mono at ``fmt.rate`` both ways.

    Args:
        fmt: the slin format that Asterisk is asked for.
        playout: what to play towards Asterisk; a leg that replaces a broken one takes over the queue.
        counters: the process's counters.

    The owner sets the callbacks; all are called on the event loop, from the socket's callback or the tick:
        on_audio(pcm): audio from Asterisk, usually but not always 20 ms.
        on_dtmf(digit): a key, as Asterisk reports it in dialplan mode.
        on_mark(name): everything queued before the mark has been handed to Asterisk.
        on_tick(): 20 ms have passed and no audio came, for owners who keep time by it.
        on_closed(): the connection is gone, whoever closed it.
    """

    __slots__ = (
        "_counters",
        "_heard",
        "_held",
        "_kind",
        "_listener",
        "_on_audio",
        "_on_tick",
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
        "uuid",
    )

    def __init__(self, fmt: AudioFormat, playout: Playout, counters: Counters) -> None:
        self.uuid: UUID = uuid4()
        self.fmt = fmt
        self.playout = playout
        self._listener: Callable[[bytes], None] = ignore
        self._on_audio: Callable[[bytes], None] = ignore  # the listener, or silence in the place of what it would get
        self._silent = False
        self.on_dtmf: Callable[[str], None] = ignore
        self.on_mark: Callable[[str], None] = ignore
        self.on_closed: Callable[[], None] = ignore
        self._on_tick: Callable[[], None] | None = None
        self.on_sink_changed: Callable[[], None] | None = None
        """Told when `on_audio` or `on_tick` becomes another: for who calls them in this leg's place (`SharedLeg`)."""
        self.connected = asyncio.Event()
        self.closed = False
        self.blocked = False
        """Asterisk does not read at the moment: frames are held back, not piled up."""
        self._counters = counters
        self._heard = False  # audio came since the last tick
        self._wire: Wire | None = None
        self._write: Callable[[bytes], None] | None = None  # the wire's; looked up once. None while the leg is held
        self._held = False
        self._kind = int(kind_of_rate(fmt.rate))
        self.header, self._silence = _header_and_silence(fmt)
        """What every frame of 20 ms begins with on AudioSocket, in both directions, and a silent frame."""
        self._resampler: tuple[int, Resampler] | None = None

    @property
    def on_audio(self) -> Callable[[bytes], None]:
        """Told of audio from Asterisk."""
        return self._listener

    @on_audio.setter
    def on_audio(self, callback: Callable[[bytes], None]) -> None:
        self._listener = callback
        self._aim_audio()

    @property
    def silent(self) -> bool:
        """`on_audio` receives as much silence in the place of what Asterisk sends."""
        return self._silent

    @silent.setter
    def silent(self, silent: bool) -> None:
        if silent != self._silent:
            self._silent = silent
            self._aim_audio()

    @property
    def sink(self) -> Callable[[bytes], None]:
        """Where audio from Asterisk goes now: `on_audio`, with silence in between if the leg is `silent`."""
        return self._on_audio

    @sink.setter
    def sink(self, sink: Callable[[bytes], None]) -> None:
        self._on_audio = sink

    def _aim_audio(self) -> None:
        # Another callable, and not a condition for each frame.
        listener = self._listener
        self._on_audio = (lambda pcm: listener(bytes(len(pcm)))) if self._silent else listener
        if self.on_sink_changed is not None:
            self.on_sink_changed()

    @property
    def on_tick(self) -> Callable[[], None] | None:
        """Told that 20 ms have passed."""
        return self._on_tick

    @on_tick.setter
    def on_tick(self, callback: Callable[[], None] | None) -> None:
        self._on_tick = callback
        if self.on_sink_changed is not None:
            self.on_sink_changed()

    def attach(self, wire: Wire) -> None:
        """The connection has named our UUID: from now on the leg is ticked."""
        self._wire = wire
        self._write = None if self._held else wire.write
        self.mark_connected()
        # asterisk#2089: a wake-up without bytes can hold Asterisk's channel lock, so do not wait for the first tick.
        self.tick(1)

    def hold(self) -> None:
        """Send silence until `release`: Asterisk discards what it receives before its channel is in place."""
        self._held = True
        self._write = None

    def release(self) -> None:
        """Play what waits, from now on; harmless if the leg is not held."""
        self._held = False
        self._write = self._wire.write if self._wire is not None else None

    def mark_connected(self) -> None:
        """Its audio has a connection, be it another leg's; whoever waits for `connected` goes on."""
        self.connected.set()
        self.connected = _CONNECTED

    def tick(self, frames: int) -> None:
        """Write ``frames`` frames of 20 ms: audio where there is some, silence where there is none."""
        write = self._write
        counters = self._counters
        if write is None:
            if self._wire is None:
                return
            for _ in range(frames):
                self._wire.write(self._silence)
            counters.silent_frames_to_asterisk += frames
            counters.frames_to_asterisk += frames
        elif self.blocked:
            counters.frames_blocked += frames
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
        if self._heard:  # audio has told the owner the time
            self._heard = False
        elif self._on_tick is not None:
            self._on_tick()

    def received_frame(self, pcm: bytes) -> None:
        """Exactly 20 ms arrived from Asterisk, in the format agreed upon: the short way of ``received``."""
        self._counters.frames_from_asterisk += 1
        self._heard = True
        self._on_audio(pcm)

    def received(self, kind: int, payload: bytes) -> None:
        """Audio arrived from Asterisk with ``kind``, which says its rate whatever was agreed."""
        self._counters.frames_from_asterisk += 1
        self._heard = True
        if kind == self._kind:
            self._on_audio(payload)
            return
        if self._resampler is None or self._resampler[0] != kind:
            from bridge.audio.resample import Resampler

            rate = RATE_OF_KIND[kind]
            log.warning(
                "leg=%s Asterisk sends %d Hz where %d Hz was agreed: converting", self.uuid, rate, self.fmt.rate
            )
            self._resampler = (kind, Resampler(rate, self.fmt.rate))
        whole = payload[: len(payload) & ~1]  # half a sample would be an error; Asterisk sends none
        self._on_audio(self._resampler[1].convert(whole))

    def watch(self) -> Watch:
        """Watch what comes from Asterisk until it is no digital silence any more; costs nothing after that."""
        return Watch(self)

    def relax(self) -> None:
        """Asterisk can do without a frame every 20 ms on this connection; who may speak sends them all the same."""

    def close(self) -> None:
        """Hang up our side; harmless when there is no connection or it is gone already."""
        if self._wire is not None:
            self._wire.hang_up()

    def hand_over(self, leg: MediaLeg) -> None:
        """Give the connection to another leg of the same format; this one has none then, without being closed."""
        wire, self._wire, self._write = self._wire, None, None
        if wire is not None:
            leg.blocked, self.blocked = self.blocked, False  # the connection reports changes only
            wire.hand_over(leg)

    def detach(self) -> None:
        """The connection is gone (called once, by the connection)."""
        self._wire = self._write = None
        self.closed = True
        self.on_closed()


class Watch:
    """Finds out whether a leg receives anything but digital silence.

    Attributes:
        heard: something else has come.
        frames: silent frames that have come.
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
        """Frames come here; not after `end`, or when the leg has another listener."""
        return self._leg.sink is self

    def __call__(self, pcm: bytes) -> None:
        """Receive a frame in the place of who is meant, and pass it on."""
        if is_silence(pcm):
            self.frames += 1
        else:
            self.heard = True
            self.end()
        self._through(pcm)

    def end(self) -> None:
        """Watch no longer."""
        if self.active:
            self._leg.sink = self._through
