"""A link: the WebSocket of one stream, whichever library frames it.

The telephone side never waits for a link. When the application does not read, audio waits here up to a bound and then
the oldest is dropped and counted; messages that are not audio (they are few) are kept.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import cast

from bridge.dialects.base import Message
from bridge.media.counters import Counters
from bridge.media.tcp import bound_unsent, held_bytes, received_within, reset_on_close, unacknowledged

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 2.0
"""How long the application may take to answer our Close frame."""
KEPT_MESSAGES = 1000
"""At most so many messages wait that may not be dropped; an application that far behind is cut off."""
MAX_UNSENT_BYTES = 1 << 20
"""The most that may wait in the transport, and here in messages that may not be dropped."""
FRAMES_AT_ONCE = 256
"""Frames handled before the clock is read."""
CALM_FRAMES_PER_S = 5000
"""A link that receives faster is not read for `REST_S` after each `FRAMES_AT_ONCE`: timers and other sockets come
first. Audio sent far ahead of its time arrives like this; it is slowed down and never rejected."""
REST_S = 0.005
SMALL_BYTES = 32
"""Messages below this size hold no audio: 10 ms of G.711 are 80 bytes."""
SMALL_FRAMES = 2000
"""Control frames and small frames that may arrive together; more than `SMALL_FRAMES_PER_S` on average is an attack."""
SMALL_FRAMES_PER_S = 1000
MAX_TEXT_BYTES = 1 << 20
"""The longest text message, where the configuration does not say: JSON is parsed in one go."""
MIN_FRAGMENTS = 1024
FRAGMENT_BYTES = 256
"""A message may have `MIN_FRAGMENTS` fragments, or one for each so many bytes of the largest message."""

_NOTHING: deque[tuple[Message, float]] = deque(maxlen=0)
"""Waits on a link where nothing has waited yet: an empty deque takes 760 bytes, and most links never need one."""


def _ignore(*_: object) -> None:
    """What a callback does that nobody has set."""


class Link(ABC):
    """One WebSocket, accepted or dialled.

    Args:
        counters: the process's counters.
        max_unsent_ms: how much audio may wait for an application that does not read, in milliseconds.
        ping_interval_s: a ping is sent after so many seconds, and a link that has sent nothing at all since the
            one before, not even a part of a message, is taken for dead.

    Callbacks, called on the event loop from the socket's callback:
        on_message(message): a whole message, fragments joined. A link that was dialled reads nothing before it is set.
        on_closed(code, reason): once, when the link is gone; 1006 if there was no Close frame.
    """

    __slots__ = (
        "_admit",
        "_counters",
        "_cut_off",
        "_end",
        "_heard",
        "_kept_bytes",
        "_looked",
        "_max_unsent_ms",
        "_on_message",
        "_paused",
        "_ping_interval_s",
        "_pong",
        "_small_counted",
        "_small_left",
        "_socket",
        "_timer",
        "_underlying",
        "_waiting",
        "_waiting_ms",
        "closed",
        "closing",
        "dropped_ms",
        "established",
        "frames_left",
        "on_closed",
    )

    def __init__(self, counters: Counters, *, max_unsent_ms: int, ping_interval_s: float) -> None:
        self.on_closed: Callable[[int, str], None] = _ignore
        self.established = False
        """The handshake was done (and may be over by now)."""
        self.closing = False
        self.closed = False
        self.dropped_ms = 0.0
        """Audio thrown away on this link because the application did not read, in milliseconds."""
        self.frames_left = FRAMES_AT_ONCE
        """Frames until ``count_frames`` is to be called."""
        self._counters = counters
        self._on_message: Callable[[Message], None] = _ignore
        self._admit: Callable[[], None] | None = None
        self._max_unsent_ms = max_unsent_ms
        self._ping_interval_s = ping_interval_s
        self._paused = False
        self._waiting = _NOTHING
        self._waiting_ms = 0.0
        self._kept_bytes = 0
        self._heard = True
        self._pong: bytes | None = None
        self._looked = 0.0
        self._small_left = SMALL_FRAMES
        self._small_counted = 0.0
        self._cut_off = False
        self._underlying: asyncio.Transport | None = None
        self._socket: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._end: tuple[int, str] = (1006, "connection lost")

    # What the pump calls

    @property
    def on_message(self) -> Callable[[Message], None]:
        """What is called with every message."""
        return self._on_message

    @on_message.setter
    def on_message(self, callback: Callable[[Message], None]) -> None:
        self._on_message = callback
        if self._admit is not None:
            # In the loop's next turn: until then the caller sets up the rest of what it needs to answer.
            asyncio.get_running_loop().call_soon(self.admit)

    @property
    def unsent_ms(self) -> float:
        """Audio that waits for the application to read, in milliseconds."""
        return self._waiting_ms

    def send(self, message: Message, audio_ms: float = 0.0) -> None:
        """Send ``message`` now, or as soon as the application reads.

        Args:
            message: bytes for a binary message, str for a text message.
            audio_ms: how much audio it holds; such messages may be dropped when the application falls behind.
        """
        if self.closing:  # as is what is closed
            return
        if not self._paused:
            self._counters.messages_to_application += 1
            self._write(message)
            return
        if self._waiting is _NOTHING:
            self._waiting = deque()
        self._waiting.append((message, audio_ms))
        if audio_ms:
            self._waiting_ms += audio_ms
            if self._waiting_ms > self._max_unsent_ms:
                self._drop_oldest_audio()
        else:
            self._kept_bytes += len(message)
        if len(self._waiting) > KEPT_MESSAGES + self._max_unsent_ms or self._kept_bytes > MAX_UNSENT_BYTES:
            self.abort(1008, "too many unread messages")

    def close(self, code: int, reason: str, *, discard_unacked_after_s: float | None = None) -> None:
        """Close with a Close frame; the first caller's code and reason count.

        Args:
            discard_unacked_after_s: what the other machine has not acknowledged after so many seconds is discarded, in
                the kernel too, which would otherwise deliver it for minutes once the network is back.
        """
        if self.closing or self.closed:
            return
        self.closing = True
        self._end = (code, reason)
        self._drop_waiting()
        self._cancel_timer()
        self._write_close(code, _short(reason))
        self.admit()  # the answer to it
        loop = asyncio.get_running_loop()
        if discard_unacked_after_s is None:
            self._timer = loop.call_later(CLOSE_TIMEOUT_S, self._disconnect)
        else:
            self._timer = loop.call_later(discard_unacked_after_s, self._discard_unacked)

    def abort(self, code: int, reason: str) -> None:
        """Drop the connection without waiting for the application; what it has not received is thrown away."""
        if self.closed:
            return
        self._end = (code, reason)
        self.closing = True
        self._reset()

    # What the library's side calls

    def hold(self, admit: Callable[[], None]) -> None:
        """Nothing is read until somebody listens; ``admit`` is called then, once, unless the link is gone."""
        self._admit = admit

    def admit(self) -> None:
        """Begin to read now if that is still held back."""
        admit, self._admit = self._admit, None
        if admit is not None and not self.closed:
            admit()

    def opened(self, transport: asyncio.BaseTransport) -> None:
        """The handshake is done."""
        self.established = True
        self._underlying = cast(asyncio.Transport, transport)  # accepted or connected: TCP or TLS
        self._small_counted = time.monotonic()
        bound_unsent(transport)
        self._socket = transport.get_extra_info("socket")
        self._schedule_ping()

    def heard(self) -> None:
        """Count a control frame or a part of a message as a sign of life, unless the application reads nothing."""
        if not self._paused:
            self._heard = True

    def pinged(self, payload: bytes) -> None:
        """Answer a ping; of those that arrive while the transport is full, only the last (RFC 6455 section 5.5.3)."""
        self.heard()
        if self._paused:
            self._pong = payload
        elif not self.closing:
            self._write_pong(payload)

    def count_frames(self) -> None:
        """Let timers and other sockets have a turn if the last ``FRAMES_AT_ONCE`` frames arrived in a burst."""
        self.frames_left = FRAMES_AT_ONCE
        now = time.monotonic()
        if now - self._looked < FRAMES_AT_ONCE / CALM_FRAMES_PER_S and self._underlying is not None:
            self._underlying.pause_reading()
            asyncio.get_running_loop().call_later(REST_S, self._read_on)
        self._looked = now

    def count_small_frame(self) -> None:
        """Count a control frame, an empty or a tiny one, and close a link that sends too many of them."""
        self._small_left -= 1
        if self._small_left >= 0:
            return
        now = time.monotonic()
        self._small_left = min(int((now - self._small_counted) * SMALL_FRAMES_PER_S), SMALL_FRAMES)
        self._small_counted = now
        if not self._small_left:
            self.cut_off("too many control frames or small frames")

    def cut_off(self, reason: str) -> None:
        """Close with code 1008 and read nothing more, not even the answer."""
        self._cut_off = True
        self.close(1008, reason)
        if self._underlying is not None:
            self._underlying.pause_reading()

    def received(self, message: Message) -> None:
        """A whole message came."""
        self._heard = True
        if not self.closing:
            self._counters.messages_from_application += 1
            self._on_message(message)

    def closed_by_peer(self, code: int, reason: str) -> None:
        """Note the application's Close frame, or its breach of the protocol; the library's side answers."""
        if not self.closing:
            self.closing = True
            self._end = (code, reason)
            self._drop_waiting()
            self._cancel_timer()  # an application that does not read must not keep the connection open
            self._timer = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self._disconnect)

    def paused(self) -> None:
        """Keep messages back: the transport is full."""
        self._paused = True
        if self._underlying is not None and held_bytes(self._underlying) > MAX_UNSENT_BYTES:
            self.abort(1008, f"more than {MAX_UNSENT_BYTES} bytes unread")

    def resumed(self) -> None:
        """Send what waits: the application has read, and the transport has room again."""
        self._paused = False
        self._heard = True
        pong, self._pong = self._pong, None
        if pong is not None and not self.closing:
            self._write_pong(pong)
        while self._waiting and not self._paused:
            message, audio_ms = self._waiting.popleft()
            if audio_ms:
                self._waiting_ms -= audio_ms
            else:
                self._kept_bytes -= len(message)
            self.send(message)

    def lost(self) -> None:
        """The connection is gone."""
        if self.closed:
            return
        self.closed = self.closing = True
        self._underlying = None
        self._cancel_timer()
        self._drop_waiting()
        self.on_closed(*self._end)

    # What each library does its own way

    @abstractmethod
    def _write(self, message: Message) -> None:
        """Send one message; the transport may call ``paused`` meanwhile."""

    @abstractmethod
    def _write_close(self, code: int, reason: str) -> None:
        """Send a Close frame."""

    @abstractmethod
    def _write_ping(self) -> None:
        """Send a ping."""

    @abstractmethod
    def _write_pong(self, payload: bytes) -> None:
        """Answer a ping."""

    @abstractmethod
    def _disconnect(self) -> None:
        """Drop the connection; ``lost`` follows."""

    # Inside

    def _drop_oldest_audio(self) -> None:
        kept: list[tuple[Message, float]] = []
        while self._waiting and self._waiting_ms > self._max_unsent_ms:
            message, audio_ms = self._waiting.popleft()
            if not audio_ms:
                kept.append((message, audio_ms))
                continue
            self._waiting_ms -= audio_ms
            self.dropped_ms += audio_ms
            self._counters.messages_dropped += 1
            self._counters.dropped_to_application_ms += audio_ms
        self._waiting.extendleft(reversed(kept))

    def _drop_waiting(self) -> None:
        self.dropped_ms += self._waiting_ms
        self._counters.dropped_to_application_ms += self._waiting_ms
        self._waiting.clear()
        self._waiting_ms = 0.0
        self._kept_bytes = 0

    def _read_on(self) -> None:
        if self._underlying is not None and not self._cut_off:
            self._underlying.resume_reading()

    def _schedule_ping(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._ping_interval_s, self._ping)

    def _ping(self) -> None:
        # A long message on a slow line takes longer than the time between two pings.
        if not self._heard and (self._paused or not received_within(self._socket, self._ping_interval_s)):
            missing = "read" if self._paused else "heard"
            self.abort(1006, f"nothing {missing} for {2 * self._ping_interval_s:g} s")
            return
        self._heard = False
        self._write_ping()
        self._schedule_ping()

    def _discard_unacked(self) -> None:
        unread = unacknowledged(self._socket)
        if self._paused or unread:  # paused: the transport holds some too
            log.warning("%d bytes or more that an application has not received are thrown away", unread)
            self._reset()
        else:
            self._timer = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self._disconnect)

    def _reset(self) -> None:
        """Disconnect so that the kernel does not go on delivering what it has, for minutes if need be."""
        reset_on_close(self._socket)
        self._disconnect()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _short(reason: str) -> str:
    """Cut to what a Close frame can hold: 123 bytes (RFC 6455 section 5.5)."""
    return reason.encode()[:123].decode(errors="ignore")
