"""How many connections the HTTP port holds at once: counted when they are accepted, before TLS and before any request.

Who has no token can still connect, and each connection costs a descriptor, of which Asterisk's audio needs some too.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import time

from bridge.media.sockets import SparingSocket

log = logging.getLogger(__name__)

FILES_SHARE = 4
"""Plain HTTP gets at most this part (1 in so many) of the descriptors that the process may open."""
COMPLAINT_INTERVAL_S = 60.0


def open_files_limit() -> int | None:
    """How many descriptors this process may have open; None if there is no limit."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if limit == resource.RLIM_INFINITY else limit


def bounded_by_open_files(max_connections: int) -> int:
    """``max_connections``, or less where the process may open only a few descriptors."""
    limit = open_files_limit()
    return max_connections if limit is None else max(1, min(max_connections, limit // FILES_SHARE))


class Connections:
    """The plain HTTP connections that are open now.

    Args:
        maximum: how many may be open at once; the next one is closed as soon as it is accepted.
    """

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self._sockets: dict[int, socket.socket] = {}  # by descriptor; those that have been closed are still in it
        self._complained_at = float("-inf")

    def __len__(self) -> int:
        self._sockets = {number: it for number, it in self._sockets.items() if it.fileno() >= 0}
        return len(self._sockets)

    def admit(self, connection: socket.socket) -> bool:
        """Count a connection that has just been accepted; False if there are too many."""
        # The descriptors of closed ones are looked for only where it matters.
        if len(self._sockets) >= self.maximum and len(self) >= self.maximum:
            self._complain()
            return False
        self._sockets[connection.fileno()] = connection
        return True

    def release(self, transport: asyncio.BaseTransport) -> None:
        """Count this connection no longer: it has become a stream, and those have a limit of their own."""
        connection = transport.get_extra_info("socket")
        if connection is not None:
            self._sockets.pop(connection.fileno(), None)

    def _complain(self) -> None:
        now = time.monotonic()
        if now - self._complained_at >= COMPLAINT_INTERVAL_S:
            self._complained_at = now
            log.warning("%d HTTP connections are open (http.max_connections): closing further ones", self.maximum)


class BoundedListener(SparingSocket):
    """A listening socket that hands out only connections that ``connections`` admits.

    Args:
        bound: the bound socket to take the place of; it is closed.
        connections: who counts.
    """

    def __init__(self, bound: socket.socket, connections: Connections) -> None:
        super().__init__(bound)
        self._connections = connections

    def accept(self) -> tuple[socket.socket, object]:
        """As of any socket.

        Raises:
            ConnectionAbortedError: there were too many, and the new one has been closed again. Servers go on then
                (``_accept_connection`` in asyncio's selector_events.py and in aiofastnet's api_utils.py).
        """
        connection, address = super().accept()
        if not self._connections.admit(connection):
            connection.close()
            raise ConnectionAbortedError("too many connections")
        return connection, address
