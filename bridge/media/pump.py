"""THE frame path: both directions of one stream, on one screen.

    Asterisk -> listener -> leg.on_audio -> dialect.audio -> link.send -> application
    application -> link.on_message -> dialect.receive -> leg.playout -> 20 ms tick -> Asterisk

Everything here runs inside one socket's callback or the tick: no task, no queue, no await. It knows no vendor names.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

from bridge.dialects.base import Clear, Command, Dialect, Dtmf, Mark, Message, Play, Stop
from bridge.errors import ClientProtocolError
from bridge.media.counters import Counters
from bridge.media.leg import MediaLeg
from bridge.media.websocket import Link

log = logging.getLogger(__name__)


class Pump:
    """Connects the legs of a stream with its WebSocket.

    Args:
        dialect: the stream's wire format.
        link: the stream's WebSocket.
        on_dtmf: what to do with keys that the application wants pressed.
        clock: seconds on a monotonic clock.
    """

    def __init__(
        self,
        dialect: Dialect,
        link: Link,
        counters: Counters,
        *,
        on_dtmf: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._dialect = dialect
        self._link = link
        self._counters = counters
        self._on_dtmf = on_dtmf
        self._clock = clock
        self._speakers: list[MediaLeg] = []
        link.on_message = self.from_application

    def hear(self, leg: MediaLeg, track: str) -> None:
        """Send what Asterisk sends on ``leg`` to the application, as ``track``."""
        leg.on_audio = partial(self.from_call, track)

    def speak(self, leg: MediaLeg) -> None:
        """Play what the application sends on ``leg``; on each of them, if there are several. All have one format."""
        self._speakers.append(leg)
        leg.on_mark = self._mark_reached

    def replace(self, old: MediaLeg, new: MediaLeg) -> None:
        """Use ``new``, which has taken over the playout of ``old``, wherever ``old`` was used."""
        new.on_audio = old.on_audio
        new.on_mark = old.on_mark
        self._speakers = [new if leg is old else leg for leg in self._speakers]

    def forget(self, leg: MediaLeg) -> None:
        """Use ``leg`` no longer."""
        self._speakers = [speaker for speaker in self._speakers if speaker is not leg]

    def opened(self) -> None:
        """Let the dialect say its first words."""
        self._send(self._dialect.opened(self._clock()))

    def closed(self, reason: str) -> None:
        """Let the dialect say its last words."""
        try:
            self._send(self._dialect.closed(reason, self._clock()))
        except Exception:  # whoever says goodbye has a better code for the Close frame than _fail has
            log.exception("the dialect %s failed", self._dialect.name)

    # Asterisk -> application

    def from_call(self, track: str, pcm: bytes) -> None:
        """Audio of one track, s16le at the dialect's rate."""
        try:
            for message in self._dialect.audio(track, pcm, self._clock()):
                self._link.send(message, self._dialect.message_ms)
        except Exception:
            self._fail()

    # application -> Asterisk

    def from_application(self, message: Message) -> None:
        """A message from the application. A bad one costs a counter, at worst its own stream."""
        try:
            for command in self._dialect.receive(message):
                self._obey(command)
        except ClientProtocolError as error:
            self._link.close(1008, str(error))
        except Exception:
            self._fail()

    def _obey(self, command: Command) -> None:
        if isinstance(command, Play):
            self._play(command)
        elif isinstance(command, Mark):
            if self._speakers:  # one leg keeps the marks, however many play
                self._speakers[0].playout.mark(command.name)
            else:
                self._mark_reached(command.name)
        elif isinstance(command, Clear):
            for leg in self._speakers:
                for name in leg.playout.clear():
                    self._mark_reached(name)
        elif isinstance(command, Dtmf):
            self._on_dtmf(command.digits)
        elif isinstance(command, Stop):
            self._link.close(1000, command.reason)

    def _play(self, command: Play) -> None:
        if not self._speakers:
            return
        dropped = 0
        for leg in self._speakers:
            dropped = leg.playout.play(command.pcm, command.rate)
        if dropped:
            self._counters.dropped_from_application_ms += self._speakers[0].fmt.duration_ms(dropped)

    def _fail(self) -> None:
        # A fault of ours in one stream must not reach the leg's connection, let alone other streams.
        log.exception("the dialect %s failed", self._dialect.name)
        self._link.close(1011, "internal error")

    def _mark_reached(self, name: str) -> None:
        try:
            self._send(self._dialect.mark_reached(name, self._clock()))
        except Exception:
            self._fail()

    def _send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._link.send(message)
