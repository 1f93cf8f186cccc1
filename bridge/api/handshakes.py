"""Turns for TLS handshakes: a few in each slice of time, so that a burst of them leaves the loop to the calls.

A handshake takes the loop for one millisecond, or for five with a long RSA key, before anybody has shown a token.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

SLICE_S = 0.005
PER_SLICE = 4
"""Blocks of data that are read in one slice on connections without a request: 800 a second."""


class Handshakes:
    """Counts what is read on connections that have not made a request."""

    def __init__(self) -> None:
        self._left = PER_SLICE
        self._waits = False

    def may_read(self) -> bool:
        """Return whether another block may be read now, and count it."""
        if not self._waits:
            # A timer, not the clock: however long handshakes take, the loop serves everybody else in between.
            self._waits = True
            asyncio.get_running_loop().call_later(SLICE_S, self._next)
        if not self._left:
            return False
        self._left -= 1
        return True

    def _next(self) -> None:
        self._left, self._waits = PER_SLICE, False


class HandshakeSocket(socket.socket):
    """An accepted connection that is read only in turn until its first request has come.

    Out of turn there is nothing to read, and the loop asks again when it has served the others.

    Args:
        accepted: the socket to take the place of.
        handshakes: whose turns.
    """

    def __init__(self, accepted: socket.socket, handshakes: Handshakes) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, fileno=accepted.detach())
        self.settimeout(0)
        self._handshakes: Handshakes | None = handshakes

    def end_turns(self) -> None:
        """Read without turns from now on."""
        self._handshakes = None

    def recv_into(self, *arguments: Any) -> int:
        """As of any socket.

        Raises:
            BlockingIOError: there is nothing to read, or it is not this connection's turn.
        """
        if self._handshakes is not None and not self._handshakes.may_read():
            raise BlockingIOError
        return super().recv_into(*arguments)
