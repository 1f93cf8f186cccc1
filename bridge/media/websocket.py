"""A link: the WebSocket of one stream, independent of the library.

The telephone side never waits for a link. When the application does not read, audio waits here up to a limit, then the
oldest is dropped and counted; messages without audio (they are rare) are kept.
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
"""Time for the application to answer the Close frame of this side, in seconds."""
KEPT_MESSAGES = 1000
"""Limit of waiting messages without audio; an application that is further behind is disconnected."""
MAX_UNSENT_BYTES = 1 << 20
"""Limit of unsent data in the transport, and here in messages without audio."""
FRAMES_AT_ONCE = 256
"""Frames handled before the clock is read."""
CALM_FRAMES_PER_S = 5000
"""Frame rate above which a link is not read for `REST_S` after each `FRAMES_AT_ONCE`.

Timers and other sockets come first. Audio sent far ahead of its time arrives like this; it is slowed down and never
rejected.
"""
REST_S = 0.005
SMALL_BYTES = 32
"""Messages below this size hold no audio: 10 ms of G.711 are 80 bytes."""
SMALL_FRAMES = 2000
"""Limit of control frames and small frames in a burst; more than `SMALL_FRAMES_PER_S` on average is an attack."""
SMALL_FRAMES_PER_S = 1000
MAX_TEXT_BYTES = 1 << 20
"""The longest text message, unless configured: JSON is parsed in one step."""
MIN_FRAGMENTS = 1024
FRAGMENT_BYTES = 256
"""A message may have `MIN_FRAGMENTS` fragments, or one for each of this many bytes of the largest message."""

_NOTHING: deque[tuple[Message, float]] = deque(maxlen=0)
"""Shared by links where nothing has waited: an empty deque takes 760 bytes, and most links never need one."""


def _ignore(*_: object) -> None:
    """Do nothing: the default of callbacks."""


class Link(ABC):
    """One WebSocket, accepted or opened.

    Args:
        counters: the process's counters.
        max_unsent_ms: limit of audio that waits for an application which does not read, in milliseconds.
        ping_interval_s: interval of pings in seconds; a peer that has sent nothing since the previous ping, not even a
            part of a message, counts as dead.

    Callbacks, called on the event loop from the socket's callback:
        on_message(message): a whole message, fragments joined. An opened link reads nothing before it is set.
        on_closed(code, reason): once, when the link is closed; 1006 without a Close frame.
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
        """Whether the handshake is complete (the link may be closed since)."""
        self.closing = False
        self.closed = False
        self.dropped_ms = 0.0
        """Audio dropped on this link because the application did not read, in milliseconds."""
        self.frames_left = FRAMES_AT_ONCE
        """Frames until ``count_frames`` is due."""
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

    # Methods for the pump

    @property
    def on_message(self) -> Callable[[Message], None]:
        """Called with every message."""
        return self._on_message

    @on_message.setter
    def on_message(self, callback: Callable[[Message], None]) -> None:
        self._on_message = callback
        if self._admit is not None:
            # In the loop's next turn: until then the caller sets up the rest of what it needs to respond.
            asyncio.get_running_loop().call_soon(self.admit)

    @property
    def unsent_ms(self) -> float:
        """Audio that waits for the application to read, in milliseconds."""
        return self._waiting_ms

    def send(self, message: Message, audio_ms: float = 0.0) -> None:
        """Send ``message`` now, or as soon as the application reads.

        Args:
            message: bytes for a binary message, str for text.
            audio_ms: audio in it, in milliseconds; such messages may be dropped when the application lags behind.
        """
        if self.closing:  # also if closed
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
            code: the close code.
            reason: the close reason.
            discard_unacked_after_s: time in seconds after which unacknowledged data is discarded, also in the kernel,
                which would otherwise deliver it for minutes once the network returns.
        """
        if self.closing or self.closed:
            return
        self.closing = True
        self._end = (code, reason)
        self._drop_waiting()
        self._cancel_timer()
        self._write_close(code, _short(reason))
        self.admit()  # to receive the peer's Close
        loop = asyncio.get_running_loop()
        if discard_unacked_after_s is None:
            self._timer = loop.call_later(CLOSE_TIMEOUT_S, self._disconnect)
        else:
            self._timer = loop.call_later(discard_unacked_after_s, self._discard_unacked)

    def abort(self, code: int, reason: str) -> None:
        """Drop the connection without waiting for the application; data that it has not received is discarded."""
        if self.closed:
            return
        self._end = (code, reason)
        self.closing = True
        self._reset()

    # Methods for the library's side

    def hold(self, admit: Callable[[], None]) -> None:
        """Delay reading until there is a reader; then ``admit`` is called, once, unless the link is closed."""
        self._admit = admit

    def admit(self) -> None:
        """Begin to read now if that is still delayed."""
        admit, self._admit = self._admit, None
        if admit is not None and not self.closed:
            admit()

    def opened(self, transport: asyncio.BaseTransport) -> None:
        """Begin to send and receive: the handshake is complete."""
        self.established = True
        self._underlying = cast(asyncio.Transport, transport)  # accepted or connected: TCP or TLS
        self._small_counted = time.monotonic()
        bound_unsent(transport)
        self._socket = transport.get_extra_info("socket")
        self._schedule_ping()

    def heard(self) -> None:
        """Record that the peer is alive, as it sent a frame; ignore a peer that does not read."""
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
        """Yield to timers and other sockets if the last ``FRAMES_AT_ONCE`` frames arrived in a burst."""
        self.frames_left = FRAMES_AT_ONCE
        now = time.monotonic()
        if now - self._looked < FRAMES_AT_ONCE / CALM_FRAMES_PER_S and self._underlying is not None:
            self._underlying.pause_reading()
            asyncio.get_running_loop().call_later(REST_S, self._read_on)
        self._looked = now

    def count_small_frame(self) -> None:
        """Count a control frame, an empty or a tiny frame, and close a link that sends too many of them."""
        self._small_left -= 1
        if self._small_left >= 0:
            return
        now = time.monotonic()
        self._small_left = min(int((now - self._small_counted) * SMALL_FRAMES_PER_S), SMALL_FRAMES)
        self._small_counted = now
        if not self._small_left:
            self.cut_off("too many control frames or small frames")

    def cut_off(self, reason: str) -> None:
        """Close with code 1008 and read nothing more, not even the peer's Close."""
        self._cut_off = True
        self.close(1008, reason)
        if self._underlying is not None:
            self._underlying.pause_reading()

    def received(self, message: Message) -> None:
        """Pass a complete message to the receiver."""
        self._heard = True
        if not self.closing:
            self._counters.messages_from_application += 1
            self._on_message(message)

    def closed_by_peer(self, code: int, reason: str) -> None:
        """Store the application's Close frame, or its protocol error; the library's side answers."""
        if not self.closing:
            self.closing = True
            self._end = (code, reason)
            self._drop_waiting()
            self._cancel_timer()  # an application that does not read must not keep the connection open
            self._timer = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self._disconnect)

    def paused(self) -> None:
        """Hold messages back: the transport is full."""
        self._paused = True
        if self._underlying is not None and held_bytes(self._underlying) > MAX_UNSENT_BYTES:
            self.abort(1008, f"more than {MAX_UNSENT_BYTES} bytes unread")

    def resumed(self) -> None:
        """Send waiting messages: the transport has room again."""
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
        """Handle the end of the connection."""
        if self.closed:
            return
        self.closed = self.closing = True
        self._underlying = None
        self._cancel_timer()
        self._drop_waiting()
        on_closed, self.on_closed = self.on_closed, _ignore  # it refers to this link
        on_closed(*self._end)

    # Methods that each library implements

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

    # Internals

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
            missing = "read" if self._paused else "received"
            self.abort(1006, f"nothing {missing} for {2 * self._ping_interval_s:g} s")
            return
        self._heard = False
        self._write_ping()
        self._schedule_ping()

    def _discard_unacked(self) -> None:
        unread = unacknowledged(self._socket)
        if self._paused or unread:  # paused: the transport holds data too
            log.warning(
                "undelivered data of an application discarded, its connection is handed over unsent_bytes=%d", unread
            )
            self._reset()
        else:
            self._timer = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self._disconnect)

    def _reset(self) -> None:
        """Disconnect and reset: otherwise the kernel could continue to deliver data for minutes."""
        reset_on_close(self._socket)
        self._disconnect()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _short(reason: str) -> str:
    """Return a reason cut to the size of a Close frame: 123 bytes (RFC 6455 section 5.5)."""
    return reason.encode()[:123].decode(errors="ignore")
