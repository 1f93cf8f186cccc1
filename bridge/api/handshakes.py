"""Pacing of TLS handshakes: a few in each slice of time, so a burst of them does not delay audio.

A handshake occupies the loop for one millisecond, or for five with a long RSA key, before any token was checked.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import Any

from bridge.media.loop import FrameLoop

SLICE_S = 0.005
PER_SLICE = 4
"""Blocks of data read in one slice on connections without a request: 800 a second."""
PAUSE = 2
"""The pause after a slice, as a multiple of the time that its handshakes took."""


class Handshakes:
    """Counts the reads on connections that have not made a request."""

    def __init__(self) -> None:
        self._left = PER_SLICE
        self._waits = False
        self._waiting: deque[HandshakeSocket] = deque()

    def may_read(self, connection: HandshakeSocket) -> bool:
        """Return whether another block may be read now, and count it; otherwise its connection waits for its turn."""
        loop = asyncio.get_running_loop()
        if not self._waits:
            # A timer, not the clock: however long handshakes take, the loop serves everything else in between.
            self._waits = True
            loop.call_soon(self._measure, loop, loop.time())
        if connection.has_turn:
            connection.has_turn = False
            return True
        if self._left and not self._waiting:
            self._left -= 1
            return True
        if isinstance(loop, FrameLoop):
            loop.hold(connection.fileno())
            self._waiting.append(connection)
        return False

    def _measure(self, loop: asyncio.AbstractEventLoop, began: float) -> None:
        """Begin the pause after the first handshakes of a slice."""
        loop.call_later(max(SLICE_S, PAUSE * (loop.time() - began)), self._next, loop)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        self._left, self._waits = PER_SLICE, bool(self._waiting)
        if self._waiting:  # they are read in the next turn of the loop
            loop.call_soon(loop.call_soon, self._measure, loop, loop.time())
        while self._waiting and self._left and isinstance(loop, FrameLoop):
            connection = self._waiting.popleft()
            connection.has_turn = loop.release(connection.fileno())
            self._left -= connection.has_turn


class HandshakeSocket(socket.socket):
    """An accepted connection that is read only in turn until its first request has come.

    Out of turn it behaves like a socket without data, and the loop reads it again when its turn comes.

    Args:
        accepted: the socket that this one replaces.
            handshakes: gives the turns.
    """

    def __init__(self, accepted: socket.socket, handshakes: Handshakes) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, fileno=accepted.detach())
        self.settimeout(0)
        self._handshakes: Handshakes | None = handshakes
        self.has_turn = False
        """Whether it has waited, and may be read now."""

    def end_turns(self) -> None:
        """Read without turns from now on."""
        self._handshakes = None

    def recv_into(self, *arguments: Any) -> int:
        """Read as any socket does.

        Raises:
            BlockingIOError: no data is available, or it is not this connection's turn.
        """
        if self._handshakes is not None and not self._handshakes.may_read(self):
            raise BlockingIOError
        return super().recv_into(*arguments)
