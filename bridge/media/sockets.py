"""Listening sockets: bound to what a host's name means, and never stuck when the process may open no more files."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import socket
import time

import aiofastnet

from bridge.logs import cause
from bridge.media.loop import FrameLoop

log = logging.getLogger(__name__)


async def bind(host: str, port: int, *, shared: bool = False) -> list[socket.socket]:
    """A socket for each address of ``host``, bound, but not yet listening.

    An address that this machine does not have (``::1`` where IPv6 is off) is left out, unless no other is left:
    aiofastnet does so, and asyncio only in newer Pythons.

    Args:
        shared: whether other sockets of this user, with the same wish, may be bound to the same port.

    Raises:
        OSError: that cannot be done.
    """
    loop = asyncio.get_running_loop()
    server = await aiofastnet.create_server(
        loop, asyncio.Protocol, host, port, start_serving=False, reuse_port=True if shared else None
    )
    try:
        return [bound.dup() for bound in server.sockets]
    finally:
        server.close()


ACCEPTED_AT_ONCE = 16
"""Servers accept until nothing is left, a thousand connections in one turn of the loop; the rest waits for the next."""
ACCEPT_EVERY_S = 0.01
"""Least time from one such turn to the next: 1600 connections a second. One takes the loop for a tenth of a
millisecond, so that a flood of them does not keep it busy."""


class SparingSocket(socket.socket):
    """A listening socket that yields to the loop's timers, and closes connections that it has no descriptor for.

    Left in the queue they would wake the loop up again and again, which aiofastnet 1.2 does not prevent as asyncio
    does. So a descriptor is kept back, and given for as long as it takes to accept and close.

    Args:
        bound: the bound socket to take the place of; it is closed.
    """

    def __init__(self, bound: socket.socket) -> None:
        super().__init__(bound.family, bound.type, bound.proto, fileno=bound.detach())
        self._spare: int | None = _spare()
        self._accepted = 0
        self._since = 0.0

    def accept(self) -> tuple[socket.socket, object]:
        """As of any socket.

        Raises:
            ConnectionAbortedError: the connection has been closed again. Servers go on to the next then.
            BlockingIOError: no connection is left, or enough were accepted for now; or no spare descriptor is left.
        """
        now = time.monotonic()
        if self._accepted >= ACCEPTED_AT_ONCE:
            self._accepted = 0
            self._hold(self._since + ACCEPT_EVERY_S - now)
            raise BlockingIOError
        if not self._accepted or now - self._since > ACCEPT_EVERY_S:
            self._accepted, self._since = 0, now
        self._accepted += 1
        try:
            return super().accept()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            log.error("connections closed: %s, at most %d (ulimit -n)", error.strerror, limit, extra=cause())
        self._give_up_spare()
        try:
            super().accept()[0].close()
        except OSError:
            raise BlockingIOError from None
        finally:
            self._spare = _spare()
        raise ConnectionAbortedError("there is no descriptor for another connection")

    def close(self) -> None:
        """As of any socket."""
        super().close()
        self._give_up_spare()

    def _hold(self, seconds: float) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        if seconds > 0 and isinstance(loop, FrameLoop):
            loop.hold(self.fileno())
            loop.call_later(seconds, loop.release, self.fileno())

    def _give_up_spare(self) -> None:
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None


def _spare() -> int | None:
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
