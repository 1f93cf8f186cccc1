"""Turns for TLS handshakes: a few in each slice of time, so that a burst of them leaves the loop to the calls.

A handshake takes the loop for one millisecond, or for five with a long RSA key, before anybody has shown a token.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import Any

from bridge.media.loop import FrameLoop

SLICE_S = 0.005
PER_SLICE = 4
"""Blocks of data that are read in one slice on connections without a request: 800 a second."""
PAUSE = 2
"""Times as long as a slice's handshakes have taken the loop, they take a pause at least."""


class Handshakes:
    """Counts what is read on connections that have not made a request."""

    def __init__(self) -> None:
        self._left = PER_SLICE
        self._waits = False
        self._waiting: deque[HandshakeSocket] = deque()

    def may_read(self, connection: HandshakeSocket) -> bool:
        """Return whether another block may be read now, and count it; else its connection waits for its turn."""
        loop = asyncio.get_running_loop()
        if not self._waits:
            # A timer, not the clock: however long handshakes take, the loop serves everybody else in between.
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
        """Begin the pause, now that the first handshakes of a slice have taken place."""
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

    Out of turn there is nothing to read, and the loop asks again when its turn comes.

    Args:
        accepted: the socket to take the place of.
        handshakes: whose turns.
    """

    def __init__(self, accepted: socket.socket, handshakes: Handshakes) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, fileno=accepted.detach())
        self.settimeout(0)
        self._handshakes: Handshakes | None = handshakes
        self.has_turn = False
        """It has waited, and may be read now."""

    def end_turns(self) -> None:
        """Read without turns from now on."""
        self._handshakes = None

    def recv_into(self, *arguments: Any) -> int:
        """As of any socket.

        Raises:
            BlockingIOError: there is nothing to read, or it is not this connection's turn.
        """
        if self._handshakes is not None and not self._handshakes.may_read(self):
            raise BlockingIOError
        return super().recv_into(*arguments)
