"""Limits of the HTTP port: its connections, those of one address, and how long one lasts without progress.

They are counted when they are accepted, before TLS and before any request: anyone can connect without a token, and each
connection costs a descriptor, of which Asterisk's audio needs some too. See docs/decisions/http-connections.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import resource
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web
from msgspec import Struct

from bridge.access import ANONYMOUS
from bridge.api.backend import PRINCIPAL
from bridge.api.errors import unavailable
from bridge.api.handshakes import Handshakes, HandshakeSocket
from bridge.api.request_pacing import RequestPacer
from bridge.logs import cause
from bridge.media.sockets import SparingSocket
from bridge.outbound.policy import IpNetwork

log = logging.getLogger(__name__)


FILES_SHARE = 4
"""Plain HTTP gets at most this fraction (1/n) of the descriptors that the process may open."""
ADDRESS_SHARE = 4
"""One address gets at most this fraction (1/n) of ``http.max_connections``, ..."""
MIN_ADDRESS_SHARE = 8
"""... but never fewer than this: a browser opens six."""
PROBES = frozenset({"/health", "/health/live"})
RESERVED = 3
"""Connections from this machine that are accepted beyond the maximum, for health probes."""
RESERVED_S = 5.0
"""How long such a connection may last."""
RESERVED_IDLE_S = 0.02
"""How long it may last without a request if another one arrives."""
UNREAD_S = 30.0
"""How long a client may take to read a response once the handler has returned."""
USER_TIMEOUT_MS = 10_000
"""How long sent data may stay unacknowledged, or unsent because the client's window is closed (TCP_USER_TIMEOUT)."""
SWEEP_S = 1.0
TIDY_S = 0.1
RETRY_AFTER_S = 5


def open_files_limit() -> int | None:
    """Return how many descriptors this process may open; None if there is no limit."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if limit == resource.RLIM_INFINITY else limit


def bounded_by_open_files(max_connections: int) -> int:
    """Return ``max_connections``, or less if the process may open only a few descriptors."""
    limit = open_files_limit()
    return max_connections if limit is None else max(1, min(max_connections, limit // FILES_SHARE))


class _Connection(Struct, eq=False):
    """One plain connection.

    Args:
        socket: closed as soon as the connection is.
        owner: the address that it counts for; empty: exempt.
        since: when it was accepted or, unless it is reserved, last made progress; monotonic, seconds.
        reserved: whether it was accepted beyond the maximum.
        transport: set when a request has arrived.
        handling: whether a handler runs, which has bounds of its own.
    """

    socket: socket.socket
    owner: str
    since: float
    reserved: bool
    transport: asyncio.Transport | None = None
    handling: bool = False


class Connections:
    """The plain HTTP connections that are open now.

    Args:
        maximum: how many may be open; the next one is closed as soon as it is accepted.
        proxies: networks whose connections carry the requests of many clients; no share applies to them.
    """

    def __init__(self, maximum: int, proxies: Iterable[IpNetwork] = ()) -> None:
        self.maximum = maximum
        self.share = max(MIN_ADDRESS_SHARE, maximum // ADDRESS_SHARE)
        self._proxies = tuple(proxies)
        self._open: dict[int, _Connection] = {}  # by descriptor; some may have been closed
        self._of_address: Counter[str] = Counter()
        self._reserved = 0
        self._tidied_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._turns = RequestPacer()

    def __len__(self) -> int:
        """Return how many connections are open."""
        self._tidy()
        return len(self._open)

    def admit(self, connection: socket.socket, address: object) -> bool:
        """Count a connection that has just been accepted.

        Args:
            connection: the accepted socket.
            address: of its peer, as `socket.socket.accept` returns it.

        Returns:
            False if there are too many connections, or too many of this address; the caller closes it then.
        """
        now = time.monotonic()
        host = _host(address)
        local = host is None or host.is_loopback
        owner = "" if host is None or local or any(host in network for network in self._proxies) else _owner(host)
        reserved = False
        if owner and self._is_full(now, lambda: self._of_address[owner] >= self.share):
            log.warning(
                "limit of HTTP connections of one address reached peer=%s count=%d",
                owner,
                self.share,
                extra=cause("share"),
            )
            return False
        if self._is_full(now, lambda: len(self._open) - self._reserved >= self.maximum):
            log.warning("limit of HTTP connections reached count=%d", self.maximum, extra=cause("maximum"))
            if not local:
                return False
            if self._is_full(now, lambda: self._reserved >= RESERVED):
                # In a flood, a probe's request has come by the time that it is accepted (but TLS hides it).
                idle_s = 0.0 if _is_probe(connection) else RESERVED_IDLE_S
                if not self._make_room(now, idle_s):
                    return False
            reserved = True
        self._forget(connection.fileno())  # closed in the meantime, or the kernel would not use its number again
        self._open[connection.fileno()] = _Connection(connection, owner, now, reserved)
        self._of_address[owner] += 1
        self._reserved += reserved
        _set_user_timeout(connection, USER_TIMEOUT_MS)
        return True

    def release(self, transport: asyncio.BaseTransport) -> None:
        """Stop counting this connection: it has become a stream, which has limits of its own."""
        found = self._find(transport)
        if found is not None:
            self._forget(found.socket.fileno())
            _set_user_timeout(found.socket, 0)  # a slow stream loses audio, not its connection

    @web.middleware
    async def watch(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Store whether the handler of a request runs, and restrict reserved connections to health checks.

        Raises:
            ApiError: 503, anything else was requested on a reserved connection.
        """
        await self._turns.wait(probe=request.path in PROBES)
        found = self._find(request.transport)
        if found is None:
            return await handler(request)
        if found.reserved:
            request.protocol.close()  # after this response
            if request.path not in PROBES:
                raise unavailable("OVERLOADED", "the limit of open HTTP connections is reached", RETRY_AFTER_S)
        if found.transport is None and isinstance(found.socket, HandshakeSocket):
            found.socket.end_turns()
        found.transport, found.handling = request.transport, True
        try:
            return await handler(request)
        finally:
            found.handling = False
            if not found.reserved:
                found.since = time.monotonic()

    @web.middleware
    async def vouch(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Exempt a connection from its address's share once a request on it has had a valid token."""
        if request.get(PRINCIPAL, ANONYMOUS) is not ANONYMOUS:
            found = self._find(request.transport)
            if found is not None and found.owner:
                self._of_address[found.owner] -= 1
                found.owner = ""
                self._of_address[""] += 1
        return await handler(request)

    def start(self) -> None:
        """Check the connections every second from now on."""
        self._timer = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def stop(self) -> None:
        """Stop checking them; does nothing if never started."""
        if self._timer is not None:
            self._timer.cancel()

    def _sweep(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)
        self._tidy()
        now = time.monotonic()
        for each in tuple(self._open.values()):
            if each.reserved:
                overdue = now - each.since > RESERVED_S
            elif each.handling or each.transport is None or not _unsent(each.transport):
                # Until the first request, aiohttp's time for a request head counts.
                each.since, overdue = now, False
            else:
                overdue = now - each.since > UNREAD_S
            if overdue:
                log.debug("HTTP connection aborted owner=%s unread_s=%.0f", each.owner or "exempt", now - each.since)
                _abort(each)

    def _make_room(self, now: float, idle_s: float) -> bool:
        """Discard a reserved connection that is closed or has not sent its request yet; False if there is none."""
        for number, each in self._open.items():
            closed = each.socket.fileno() < 0
            if each.reserved and (closed or (not each.handling and now - each.since >= idle_s)):
                if not closed:
                    _abort(each)
                self._forget(number)
                return True
        return False

    def _is_full(self, now: float, full: Callable[[], bool]) -> bool:
        """Return whether a limit is reached, not counting connections that have been closed.

        Closed ones are looked for only near the limit, not for every connection of a flood.
        """
        if full() and now - self._tidied_at >= TIDY_S:
            self._tidy()
        return full()

    def _tidy(self) -> None:
        self._tidied_at = time.monotonic()
        for number in [number for number, each in self._open.items() if each.socket.fileno() < 0]:
            self._forget(number)

    def _forget(self, number: int) -> None:
        found = self._open.pop(number, None)
        if found is None:
            return
        self._reserved -= found.reserved
        self._of_address[found.owner] -= 1
        if not self._of_address[found.owner]:
            del self._of_address[found.owner]

    def _find(self, transport: asyncio.BaseTransport | None) -> _Connection | None:
        connection = transport.get_extra_info("socket") if transport is not None else None
        return self._open.get(connection.fileno()) if connection is not None else None


def _host(address: object) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the peer's address; None if it has none, as on a Unix socket."""
    if not isinstance(address, tuple) or not address:
        return None
    try:
        host = ipaddress.ip_address(str(address[0]).partition("%")[0])
    except ValueError:
        return None
    return (host.ipv4_mapped or host) if isinstance(host, ipaddress.IPv6Address) else host


def _owner(host: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """Return the address that is counted: for IPv6 the /64, which is one customer's at least."""
    return str(host) if host.version == 4 else str(ipaddress.ip_network((host, 64), strict=False))


def _is_probe(connection: socket.socket) -> bool:
    """Return whether the data that has arrived is the request of a health probe."""
    try:
        return connection.recv(12, socket.MSG_PEEK | socket.MSG_DONTWAIT).startswith((b"GET /health", b"HEAD /health"))
    except OSError:
        return False


def _set_user_timeout(connection: socket.socket, milliseconds: int) -> None:
    option = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux only
    if option is not None:
        with contextlib.suppress(OSError):  # the peer has disconnected, or it is not TCP
            connection.setsockopt(socket.IPPROTO_TCP, option, milliseconds)


def _unsent(transport: asyncio.Transport) -> int:
    """Return how many bytes wait to be sent."""
    try:
        return transport.get_write_buffer_size()
    except AttributeError:  # asyncio's TLS (3.11), closed twice: its shutdown has a limit of its own
        return 0


def _abort(connection: _Connection) -> None:
    if connection.transport is not None:
        connection.transport.abort()
    else:
        with contextlib.suppress(OSError):
            connection.socket.shutdown(socket.SHUT_RDWR)


class BoundedListener(SparingSocket):
    """A listening socket that hands out only connections that ``connections`` admits.

    Args:
        bound: the bound socket that this one replaces; it is closed.
        connections: counts the connections.
        tls: whether connections begin with a handshake; these take turns.
    """

    def __init__(self, bound: socket.socket, connections: Connections, *, tls: bool = False) -> None:
        super().__init__(bound)
        self._connections = connections
        self._handshakes = Handshakes() if tls else None

    def accept(self) -> tuple[socket.socket, object]:
        """Accept a connection; overrides that of any socket.

        Raises:
            BlockingIOError: no connection waits, or enough were accepted for now.
            ConnectionAbortedError: there were too many, and the new one has been closed again. Servers continue
                    then (``_accept_connection`` in `asyncio.selector_events` and `aiofastnet.api_utils`).
        """
        connection, address = super().accept()
        if self._handshakes is not None:
            connection = HandshakeSocket(connection, self._handshakes)
        if not self._connections.admit(connection, address):
            connection.close()
            raise ConnectionAbortedError("too many connections")
        return connection, address
