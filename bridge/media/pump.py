"""THE frame path: both directions of one stream, on one screen.

    Asterisk -> listener -> leg.on_audio -> dialect.audio -> link.send -> application
    application -> link.on_message -> dialect.receive -> leg.playout -> 20 ms tick -> Asterisk

Everything here runs inside one socket's callback or the tick: no task, no queue, no await; no vendor names.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import dropwhile
from typing import Any, Protocol

from bridge.audio.format import slin
from bridge.dialects.base import (
    AgentCommand,
    CallInfo,
    CallRequest,
    Clear,
    Command,
    Dialect,
    Dtmf,
    Mark,
    Message,
    Pause,
    Play,
    Reconnect,
    Send,
    Stop,
    TrackInfo,
    no_queue,
)
from bridge.errors import ClientProtocolError
from bridge.media.counters import Counters
from bridge.media.leg import MediaLeg, ignore
from bridge.media.window import RecentWindow

log = logging.getLogger(__name__)

RECONNECTS = 1012
"""Close code of a connection that a dialect replaces: "service restart", after which a stream connects again."""


class MessageLink(Protocol):
    """The part of a `Link` that the frame path uses."""

    @property
    def on_message(self) -> Callable[[Message], None]:
        """Called with every message."""

    @on_message.setter
    def on_message(self, callback: Callable[[Message], None]) -> None: ...

    def send(self, message: Message, audio_ms: float = 0.0) -> None:
        """Send a message with this much audio."""

    def close(self, code: int, reason: str) -> None:
        """Close with a Close frame."""


class Pump:
    """Connects the legs of a stream with its WebSocket, while there is one.

    Args:
        dialect: the stream's wire format.
        counters: the process's counters.
        on_dtmf: called with DTMF digits that the application sends.
        on_refused: called with the duration of the audio in each message that the queue refuses, in milliseconds.
        on_agent: called with commands that concern the conversation of a model, or the call.
        window_ms: audio of a dialect that replays, kept during a disconnection, in milliseconds.
        clock: returns seconds on a monotonic clock.
    """

    __slots__ = (
        "_clock",
        "_counters",
        "_dialect",
        "_dropped_ms",
        "_heard",
        "_link",
        "_missed_ms",
        "_on_agent",
        "_on_dtmf",
        "_on_refused",
        "_paused",
        "_reconnects",
        "_silent",
        "_speakers",
        "_window",
    )

    def __init__(
        self,
        dialect: Dialect,
        counters: Counters,
        *,
        on_dtmf: Callable[[str], None],
        on_refused: Callable[[float], None] = ignore,
        on_agent: Callable[[AgentCommand | CallRequest], None] = ignore,
        window_ms: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._dialect = dialect
        self._counters = counters
        self._on_dtmf = on_dtmf
        self._on_refused = on_refused
        self._on_agent = on_agent
        self._clock = clock
        self._link: MessageLink | None = None
        self._window = RecentWindow(window_ms)
        self._missed_ms: dict[str, float] = {}
        self._dropped_ms = 0.0
        self._speakers: list[MediaLeg] = []
        self._heard: list[MediaLeg] = []
        self._silent = False
        self._paused = False
        dialect.queued_ms = self._queued_ms
        self._reconnects = False  # the dialect replaces the connection

    @property
    def dialect(self) -> Dialect:
        """The stream's wire format."""
        return self._dialect

    @property
    def silent(self) -> bool:
        """Whether the application receives silence instead of the call's audio, and no digits."""
        return self._silent

    @silent.setter
    def silent(self, silent: bool) -> None:
        self._silent = silent
        for leg in self._heard:
            leg.silent = silent

    @property
    def missed_ms(self) -> float:
        """Audio lost during disconnections, in milliseconds: of the track that lost most."""
        dropped, missed = self._window.dropped_ms, self._missed_ms
        return max((dropped.get(track, 0.0) + missed.get(track, 0.0) for track in {**dropped, **missed}), default=0.0)

    @property
    def missed_messages(self) -> int:
        """Number of messages lost during disconnections."""
        return self._window.dropped_messages

    @property
    def padded_frames(self) -> int:
        """Frames padded with silence, as the application's audio ended within them."""
        return max((leg.playout.padded_frames for leg in self._speakers), default=0)

    @property
    def queued_ms(self) -> float:
        """Audio from the application that waits to be played, in milliseconds."""
        return self._queued_ms()

    def _queued_ms(self) -> float:
        return max((leg.playout.queued_ms for leg in self._speakers), default=0.0)

    @property
    def arrived_ms(self) -> float:
        """Audio from the application, what exceeded the limit of the queue included, in milliseconds."""
        return self._dropped_ms + (self._speakers[0].playout.added_ms if self._speakers else 0.0)

    @property
    def dropped_ms(self) -> float:
        """Audio from the application that exceeded the limit of the queue, in milliseconds."""
        return self._dropped_ms

    # Connections

    def attach(self, link: MessageLink) -> None:
        """Use ``link`` from now on, and send kept messages first."""
        self._link = link
        self._reconnects = False
        link.on_message = self.from_application
        self._dialect.connected(self._clock())
        for message, audio_ms in self._window.take_all():
            link.send(message, audio_ms)

    def detach(self) -> None:
        """Handle the end of the WebSocket; discard queued audio unless the dialect replays or reconnects."""
        self._link = None
        if not (self._dialect.replays or self._reconnects):
            self._pause(paused=False)
            for leg in self._speakers:
                leg.playout.clear()

    # Legs and tracks

    def capture(self, leg: MediaLeg, track: str) -> None:
        """Send the audio of ``leg`` to the application, as ``track``."""
        leg.silent = self._silent
        leg.on_audio = partial(self.from_call, track)
        self._heard.append(leg)

    def play_on(self, leg: MediaLeg) -> None:
        """Play the application's audio on ``leg``, also on several. All have one format."""
        self._speakers.append(leg)
        leg.paused = self._paused
        leg.on_mark = self._mark_reached

    def replace(self, old: MediaLeg, new: MediaLeg) -> None:
        """Use ``new``, which has taken over the playout of ``old``, instead of ``old``."""
        new.silent = old.silent
        new.paused = old.paused
        new.on_audio = old.on_audio
        new.on_dtmf = old.on_dtmf
        new.on_mark = old.on_mark
        self._speakers = [new if leg is old else leg for leg in self._speakers]
        self._heard = [new if leg is old else leg for leg in self._heard]

    def remove_leg(self, leg: MediaLeg) -> None:
        """Stop using ``leg``."""
        self._speakers = [speaker for speaker in self._speakers if speaker is not leg]
        self._heard = [heard for heard in self._heard if heard is not leg]

    def opened(self, call: CallInfo, tracks: Sequence[str]) -> None:
        """Send the dialect's first messages."""
        self._say(self._dialect.opened(call, tracks, self._clock(), time.time()))

    def track_started(self, track: TrackInfo) -> None:
        """Send the dialect's messages for the start of a track."""
        self._say(self._dialect.track_started(track, self._clock()))

    def track_changed(self, track: TrackInfo) -> None:
        """Send the dialect's messages for changed facts of a track."""
        self._say(self._dialect.track_changed(track, self._clock()))

    def track_stopped(self, track: str) -> None:
        """Send the dialect's messages for the end of a track."""
        self._say(self._dialect.track_stopped(track, self._clock()))

    def closed(self, reason: str, error: str | None = None) -> None:
        """Send the dialect's last messages."""
        try:
            self._say(self._dialect.closed(reason, self._clock(), error))
        except Exception:  # the caller has a better code for the Close frame than _fail
            log.exception("dialect failed, an internal error dialect=%s", self._dialect.name)

    def release(self) -> None:
        """Drop the callbacks, which refer back to the owner, at its end."""
        self._on_dtmf = self._on_refused = self._on_agent = ignore
        self._dialect.queued_ms = no_queue

    # Asterisk -> application

    def from_call(self, track: str, pcm: bytes) -> None:
        """Send audio of one track, s16le at the dialect's rate."""
        link = self._link
        if link is None and not self._dialect.replays:
            missed_ms = slin(self._dialect.rate).duration_ms(len(pcm))
            self._missed_ms[track] = self._missed_ms.get(track, 0.0) + missed_ms
            return
        try:
            messages = self._dialect.audio(track, pcm, self._clock())
        except Exception:
            self._fail()
            return
        for message in messages:
            if link is not None:
                link.send(message, self._dialect.message_ms)
            else:
                self._window.keep(message, self._dialect.message_ms, track)

    def key_pressed(self, track: str, digit: str) -> None:
        """Report a DTMF digit of a party."""
        if self._silent:
            return
        self._say(self._dialect.dtmf(track, digit, self._clock()))

    @property
    def speaks(self) -> bool:
        """Whether audio can be played into the call."""
        return bool(self._speakers)

    def play(self, pcm: bytes) -> None:
        """Play audio that is not the application's, s16le mono at the dialect's rate."""
        for leg in self._speakers:
            leg.playout.play(pcm, self._dialect.rate, follows=True)
        self._dialect.audio_added(slin(self._dialect.rate).duration_ms(len(pcm)))

    def tool_result(self, id: str, output: str) -> None:
        """Send the dialect's messages for the result of a tool."""
        self._say(self._dialect.tool_result(id, output, self._clock()))

    def request_answered(self, name: str, answer: Mapping[str, Any], error: str = "") -> None:
        """Send the dialect's messages for the outcome of a request to change the call."""
        self._say(self._dialect.request_answered(name, answer, self._clock(), error))

    # application -> Asterisk

    def from_application(self, message: Message) -> None:
        """Execute the commands of a message. An invalid one costs a counter, at worst its own stream."""
        try:
            commands = self._dialect.receive(message)
            follows = False
            for command in commands:
                if type(command) is not Play:
                    self._obey(command)
                elif self._play(command, follows):
                    follows = True
                else:  # the first piece decides: all audio of a message is played, or none
                    self._refuse(commands)
                    break
        except ClientProtocolError as error:
            self._close(1008, str(error))
        except Exception:
            self._fail()

    def _obey(self, command: Command) -> None:
        if isinstance(command, Mark):
            if self._speakers:  # one leg keeps the marks, even if several play
                if not self._speakers[0].playout.mark(command.name):
                    self._counters.marks_dropped += 1
            else:
                self._mark_reached(command.name)
        elif isinstance(command, Clear):
            unplayed_ms = self.queued_ms
            for leg in self._speakers:
                for name in leg.playout.clear():
                    self._mark_reached(name)
            self._say(self._dialect.playout_cleared(unplayed_ms, self._clock()))
        elif isinstance(command, Pause):
            self._pause(command.paused)
        elif isinstance(command, Dtmf):
            self._on_dtmf(command.digits)
        elif isinstance(command, Stop | Reconnect):
            self._reconnects = isinstance(command, Reconnect)
            self._close(RECONNECTS if self._reconnects else 1000, command.reason)
        elif isinstance(command, Send):
            self._send(command.message, 0.0)
        elif not isinstance(command, Play):
            self._on_agent(command)

    def _pause(self, paused: bool) -> None:
        self._paused = paused
        for leg in self._speakers:
            leg.paused = paused

    def _play(self, command: Play, follows: bool) -> bool:
        """Queue audio on every leg; return False if the queue is full.

        Args:
            command: the audio.
            follows: earlier audio of the same message was queued.
        """
        for leg in self._speakers:
            if leg.playout.play(command.pcm, command.rate, follows):
                return False
            follows = True  # all legs play the same
        return True

    def _refuse(self, commands: Sequence[Command]) -> None:
        """Report the audio of a message that is not played, and execute the commands behind its first piece."""
        rest = list(dropwhile(lambda command: not isinstance(command, Play), commands))
        refused_ms = sum(slin(each.rate).duration_ms(len(each.pcm)) for each in rest if isinstance(each, Play))
        self._dropped_ms += refused_ms
        self._counters.dropped_from_application_ms += refused_ms
        self._on_refused(refused_ms)
        self._say(self._dialect.audio_refused(refused_ms, self._clock()))
        for each in rest:
            if not isinstance(each, Play):
                self._obey(each)

    def _mark_reached(self, name: str) -> None:
        try:
            self._say(self._dialect.mark_reached(name, self._clock()))
        except Exception:
            self._fail()

    # Output

    def _say(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._send(message, 0.0)

    def _send(self, message: Message, audio_ms: float) -> None:
        if self._link is not None:
            self._link.send(message, audio_ms)
        elif self._dialect.replays:
            self._window.keep(message, audio_ms)

    def _close(self, code: int, reason: str) -> None:
        if self._link is not None:
            self._link.close(code, reason)

    def _fail(self) -> None:
        # An internal error in one stream must not reach the leg's connection, let alone other streams.
        log.exception("dialect failed, an internal error, stream ends dialect=%s", self._dialect.name)
        self._close(1011, "internal error")
