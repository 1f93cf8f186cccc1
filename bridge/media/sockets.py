"""Listening sockets: bound to all addresses of a host, and functional at the limit of open files."""

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
    """Return a socket for each address of ``host``, bound, but not yet listening.

    An address that this machine does not have (``::1`` where IPv6 is off) is skipped, unless no other is left:
    aiofastnet does so, asyncio only in newer Pythons.

    Args:
        host: name or address.
        port: 0: any free port.
        shared: other sockets of this user, also shared, may be bound to the same port.

    Raises:
        OSError: binding failed.
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
"""Connections accepted per turn of the loop: servers would accept all, a thousand in one turn; the rest waits."""
ACCEPT_EVERY_S = 0.01
"""Minimum time between such turns in seconds: 1600 connections a second.

Accepting one takes 0.1 ms of the loop's time, so a flood of connections does not keep it busy.
"""


class SparingSocket(socket.socket):
    """A listening socket that yields to the loop's timers, and closes connections for which no descriptor is left.

    Left in the queue, those would wake the loop again and again, which asyncio prevents but aiofastnet 1.2 does not. So
    one descriptor is held in reserve, and used to accept and close them.

    Args:
        bound: the bound socket to replace; it is closed.
    """

    def __init__(self, bound: socket.socket) -> None:
        super().__init__(bound.family, bound.type, bound.proto, fileno=bound.detach())
        self._spare: int | None = _spare()
        self._accepted = 0
        self._since = 0.0

    def accept(self) -> tuple[socket.socket, object]:
        """Accept a connection, as any socket.

        Raises:
            ConnectionAbortedError: the connection was closed. Servers then continue with the next one.
            BlockingIOError: no connection is left, or the limit for now is reached, or no reserve descriptor is left.
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
            log.error(
                "connections closed, too many open files (ulimit -n) error=%s count=%d",
                error.strerror,
                limit,
                extra=cause(),
            )
        self._give_up_spare()
        try:
            super().accept()[0].close()
        except OSError:
            raise BlockingIOError from None
        finally:
            self._spare = _spare()
        raise ConnectionAbortedError("no file descriptor for another connection")

    def close(self) -> None:
        """Close the socket, and its reserve descriptor."""
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
