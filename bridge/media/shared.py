"""One connection that several streams listen to: Asterisk captures and sends a party once, however many want it.

Each stream has a `MediaLeg` as ever, on which it sets its callbacks; here it is a listener, without a connection of
its own. With one listener its callback is called directly, as if the connection were its own; with more, one after
the other.
"""

from __future__ import annotations

import logging

from bridge.audio.format import AudioFormat
from bridge.audio.playout import Playout
from bridge.media.counters import Counters
from bridge.media.leg import MediaLeg, Wire

log = logging.getLogger(__name__)

NOTHING_MS = 200
"""The smallest queue there is: nobody speaks here, and what Asterisk is sent is silence."""


KEEP_ALIVE_FRAMES = 25
"""Of so many frames of silence one is sent where Asterisk does not need them all: twice a second."""


class SharedLeg(MediaLeg):
    """A leg that is only listened to, on behalf of others.

    Args:
        fmt: the slin format that Asterisk is asked for; that of every listener.
        counters: the process's counters.
    """

    __slots__ = ("_kept_back", "_relaxed", "listeners")

    def __init__(self, fmt: AudioFormat, counters: Counters) -> None:
        super().__init__(fmt, Playout(fmt, NOTHING_MS), counters)
        self.listeners: tuple[MediaLeg, ...] = ()
        self._relaxed = False
        self._kept_back = 0

    def join(self, leg: MediaLeg) -> None:
        """Let ``leg`` hear what comes from now on; it is told when the connection is gone, as of its own."""
        self.listeners = (*self.listeners, leg)
        leg.on_sink_changed = self._aim
        if self.connected.is_set():
            leg.mark_connected()
        self._aim()

    def leave(self, leg: MediaLeg) -> None:
        """Let ``leg`` hear no more; harmless if it does not listen. The connection stays."""
        if leg in self.listeners:
            self.listeners = tuple(each for each in self.listeners if each is not leg)
            leg.on_sink_changed = None
            self._aim()

    def relax(self) -> None:
        """Send silence now and then only: a third of what this connection costs, for nobody hears it."""
        self._relaxed = True

    def tick(self, frames: int) -> None:
        """20 ms have passed, ``frames`` times."""
        if self._relaxed:
            self._kept_back += frames
            if self._kept_back < KEEP_ALIVE_FRAMES:
                super().tick(0)  # time passes, and nothing is sent
                return
            self._kept_back = 0
        super().tick(1 if self._relaxed else frames)

    def attach(self, wire: Wire) -> None:
        """The connection is there, for all."""
        super().attach(wire)
        for leg in self.listeners:
            leg.mark_connected()

    def detach(self) -> None:
        """The connection is gone, for all."""
        super().detach()
        for leg in self.listeners:
            leg.detach()

    def _aim(self) -> None:
        """Have the connection call the listeners: directly, where there is one."""
        if len(self.listeners) == 1:
            (leg,) = self.listeners
            self._on_audio, self._on_tick = leg.sink, leg.on_tick
        else:
            self._on_audio, self._on_tick = self._hand_out, self._tick_all

    def _hand_out(self, pcm: bytes) -> None:
        for leg in self.listeners:
            try:
                leg.sink(pcm)
            except Exception:  # one stream's fault must not silence the others
                self._give_up(leg)

    def _tick_all(self) -> None:
        for leg in self.listeners:
            try:
                if leg.on_tick is not None:
                    leg.on_tick()
            except Exception:
                self._give_up(leg)

    def _give_up(self, leg: MediaLeg) -> None:
        """Let go of a listener that failed, so that its owner learns of it and can begin anew."""
        log.exception("leg=%s a stream that listens failed", self.uuid)
        self.leave(leg)
        leg.detach()
