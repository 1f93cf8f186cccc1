"""One connection for several streams that receive the same audio: Asterisk captures and sends it once.

Each stream has an ordinary `MediaLeg` with its callbacks, but without a connection: a listener of the shared leg. A
single listener's callback is called directly, several one after the other.
"""

from __future__ import annotations

import logging

from bridge.audio.format import AudioFormat
from bridge.audio.playout import Playout
from bridge.media.counters import Counters
from bridge.media.leg import LegConnection, MediaLeg, ignore

log = logging.getLogger(__name__)

NOTHING_MS = 200
"""The smallest queue: nothing is played here, so Asterisk receives silence."""


KEEP_ALIVE_FRAMES = 25
"""Of this many frames of silence, one is sent where Asterisk does not need all: twice a second."""


class SharedLeg(MediaLeg):
    """A receiving leg for several listeners.

    Args:
        fmt: the slin format of the connection and of every listener.
        counters: the process's counters.
    """

    __slots__ = ("_kept_back", "_relaxed", "listeners")

    def __init__(self, fmt: AudioFormat, counters: Counters) -> None:
        super().__init__(fmt, Playout(fmt, NOTHING_MS), counters)
        self.listeners: tuple[MediaLeg, ...] = ()
        self._relaxed = False
        self._kept_back = 0

    def join(self, leg: MediaLeg) -> None:
        """Send audio to ``leg`` from now on, and notify it when the connection ends."""
        self.listeners = (*self.listeners, leg)
        leg.on_sink_changed = self._aim
        if self.connected.is_set():
            leg.mark_connected()
        self._aim()

    def leave(self, leg: MediaLeg) -> None:
        """Stop sending to ``leg``; ignore a leg that is not a listener. The connection stays."""
        if leg in self.listeners:
            self.listeners = tuple(each for each in self.listeners if each is not leg)
            leg.on_sink_changed = None
            self._aim()

    def relax(self) -> None:
        """Send silence rarely: this saves two thirds of the connection's cost, and nobody receives it."""
        self._relaxed = True

    def tick(self, frames: int) -> None:
        """Advance by ``frames`` times 20 ms."""
        if self._relaxed:
            self._kept_back += frames
            if self._kept_back < KEEP_ALIVE_FRAMES:
                super().tick(0)  # advances time without sending
                return
            self._kept_back = 0
        super().tick(1 if self._relaxed else frames)

    def attach(self, wire: LegConnection) -> None:
        """Attach the connection, for all listeners."""
        super().attach(wire)
        for leg in self.listeners:
            leg.mark_connected()

    def detach(self) -> None:
        """Detach the ended connection, for all listeners."""
        super().detach()
        if self.closed:
            for leg in self.listeners:
                leg.detach()

    def _aim(self) -> None:
        """Set the callback of the connection: that of a single listener, or one that calls all."""
        if len(self.listeners) == 1:
            (leg,) = self.listeners
            self._on_audio, self._on_tick = leg.sink, leg.on_tick
        elif self.listeners:
            self._on_audio, self._on_tick = self._hand_out, self._tick_all
        else:
            self._on_audio, self._on_tick = ignore, None

    def _hand_out(self, pcm: bytes) -> None:
        for leg in self.listeners:
            try:
                leg.sink(pcm)
            except Exception:  # one failing stream must not silence the others
                self._give_up(leg)

    def _tick_all(self) -> None:
        for leg in self.listeners:
            try:
                if leg.on_tick is not None:
                    leg.on_tick()
            except Exception:
                self._give_up(leg)

    def _give_up(self, leg: MediaLeg) -> None:
        """Remove a failed listener; its owner is notified and can open it again."""
        log.exception("listener of a shared leg failed, an internal error leg=%s", self.uuid)
        self.leave(leg)
        leg.detach()
