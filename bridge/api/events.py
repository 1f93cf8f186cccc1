"""``GET /v1.0/events``: events as they happen, on a WebSocket; one text message per event.

Events are not stored for disconnected clients: one that reconnects reads the state (``/v1.0/calls``) and continues.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from bridge.api.auth import SECRET_PARAMETERS
from bridge.api.backend import BACKEND, PRINCIPAL
from bridge.api.errors import invalid, unavailable
from bridge.api.reach import sees_event
from bridge.api.routing import RECORDED
from bridge.api.upgrade import check_upgrade
from bridge.config.webhooks import EventPatterns, check_event_pattern
from bridge.events.hub import Event, Events
from bridge.logs import cause

log = logging.getLogger(__name__)

MAX_CLIENTS = 100
"""Clients that may be connected at the same time."""
MAX_WAITING = 1000
"""Events that may wait for a client, in addition to those in its connection; a slower client is closed with 1013."""
MAX_WAITING_BYTES = 4 << 20
"""The same in bytes of JSON."""
MAX_PATTERNS = 50
MAX_MESSAGE_BYTES = 4096
MAX_SAID = 1000
"""Messages and pings that a client may send within a second, although messages are ignored."""
PING_S = 20.0
CLOSE_S = 10.0
"""How long a client may take to read what was sent before the close frame, and to respond to it."""
STOP_S = 2.0
"""The same for all clients when asterisk-bridge stops."""
RETRY_AFTER_S = 5

_WHY = {
    WSCloseCode.GOING_AWAY: b"the bridge stops",
    WSCloseCode.POLICY_VIOLATION: b"the token is no longer valid",
    WSCloseCode.TRY_AGAIN_LATER: b"events were not read fast enough; some are lost",
}


class EventSockets:
    """All clients of ``/v1.0/events``.

    Args:
        events: the event hub.
        max_clients: how many clients may be connected at the same time.
        max_waiting: events that may wait for one client.
        ping_s: seconds between pings; a client that does not respond within half of that is disconnected.
    """

    def __init__(
        self, events: Events, *, max_clients: int = MAX_CLIENTS, max_waiting: int = MAX_WAITING, ping_s: float = PING_S
    ) -> None:
        self._events = events
        self._max_clients = max_clients
        self._max_waiting = max_waiting
        self._ping_s = ping_s
        self._clients: set[_Client] = set()
        self._closing = False

    def __len__(self) -> int:
        """Return how many clients are connected."""
        return len(self._clients)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Respond to a request of the route.

        Raises:
            ApiError: before the upgrade: 400 invalid query, 426 not a WebSocket handshake, 503 limit reached or
                stopping.
        """
        patterns = patterns_of(request.query)
        check_upgrade(request)
        if self._closing or len(self._clients) >= self._max_clients:
            raise unavailable(
                "OVERLOADED", f"{self._max_clients} clients are connected to the event stream", RETRY_AFTER_S
            )
        socket = web.WebSocketResponse(
            heartbeat=self._ping_s, timeout=CLOSE_S, max_msg_size=MAX_MESSAGE_BYTES, compress=False, autoping=False
        )
        sees = sees_event(request.app[BACKEND], request[PRINCIPAL])
        client = _Client(request, socket, patterns, sees, self._max_waiting)
        self._clients.add(client)
        # Before the upgrade is answered: a client that is connected misses nothing.
        unsubscribe = self._events.subscribe(client.add)
        audit, principal = request.app[BACKEND].audit, request[PRINCIPAL]
        try:
            await socket.prepare(request)
            opened_at = time.time()
            audit.record("events.start", principal, types=patterns)
            request[RECORDED] = True
            try:
                await client.run()
            finally:
                audit.record("events.end", principal, types=patterns, seconds=round(time.time() - opened_at, 3))
        finally:
            unsubscribe()
            self._clients.discard(client)
        return socket

    def end_of_principal(self, principal_id: str) -> None:
        """Close with 1008 the clients of a token that is no longer valid."""
        for client in tuple(self._clients):
            if client.principal.id == principal_id:
                client.end(WSCloseCode.POLICY_VIOLATION)

    async def close(self) -> None:
        """Send every client its waiting events and close it with 1001, within a bounded time; accept no more."""
        self._closing = True
        clients = list(self._clients)
        for client in clients:
            client.end(WSCloseCode.GOING_AWAY)
        if clients:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await asyncio.gather(*(client.ended.wait() for client in clients))


def patterns_of(query: Mapping[str, str]) -> EventPatterns:
    """Return the patterns in ``types=call_*,flow_*``; ``*`` if there is none.

    Raises:
        ApiError: 400: another parameter, one given twice, or a pattern that matches no type of event.
    """
    names = [name for name, _ in query.items() if name not in SECRET_PARAMETERS]
    for name in names:
        if name != "types":
            raise invalid("INVALID_EVENT_OPTIONS", f"{name[:64]!r} is an unknown parameter; expected types")
    if len(names) > 1:
        raise invalid("INVALID_EVENT_OPTIONS", "types is given more than once; separate patterns by commas")
    patterns = tuple(part.strip() for part in query.get("types", "*").split(","))
    if len(patterns) > MAX_PATTERNS:
        raise invalid("INVALID_EVENT_OPTIONS", f"types: more than {MAX_PATTERNS} patterns")
    try:
        return EventPatterns(map(check_event_pattern, patterns))
    except ValueError as error:
        raise invalid("INVALID_EVENT_OPTIONS", f"types: {error}") from None


class _Client:
    """A connected client: its waiting events, and the task that sends them."""

    def __init__(
        self,
        request: web.Request,
        socket: web.WebSocketResponse,
        patterns: EventPatterns,
        sees: Callable[[str, Mapping[str, Any]], bool],
        max_waiting: int,
    ) -> None:
        self._request = request
        self._socket = socket
        self.principal = request[PRINCIPAL]
        self._patterns = patterns
        self._sees = sees
        self._max_waiting = max_waiting
        self._waiting: deque[str] = deque()
        self._waiting_bytes = 0
        self._changed = asyncio.Event()
        self._code: WSCloseCode | None = None
        self._sender: asyncio.Task[None] | None = None
        self.ended = asyncio.Event()

    def add(self, event: Event) -> None:
        """Queue an event if it matches the client's patterns and the token's."""
        if self._code is not None or not self._patterns.match(event.type):
            return
        if not self._sees(event.type, event.data):
            return
        size = len(event.text)  # ASCII
        if len(self._waiting) < self._max_waiting and self._waiting_bytes + size <= MAX_WAITING_BYTES:
            self._waiting.append(event.text)
            self._waiting_bytes += size
            self._changed.set()
            return
        log.warning(
            "event stream closed: the client reads too slowly peer=%s dropped=%d",
            self._request.remote,
            len(self._waiting) + 1,
            extra=cause(self._request.remote),
        )
        self._waiting.clear()
        self.end(WSCloseCode.TRY_AGAIN_LATER)
        if self._sender is not None:
            self._sender.cancel()  # it waits for the client, and would indefinitely

    def end(self, code: WSCloseCode) -> None:
        """Close as soon as the waiting events have been sent."""
        self._code = self._code or code
        self._changed.set()

    async def run(self) -> None:
        """Send until the client disconnects or is closed."""
        transport = self._request.transport
        reader = asyncio.create_task(self._read())
        self._sender = asyncio.create_task(self._send())
        try:
            await asyncio.wait({reader, self._sender}, return_when=asyncio.FIRST_COMPLETED)
            if self._code is not None and not reader.done():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CLOSE_S):
                        await self._socket.close(code=self._code, message=_WHY[self._code], drain=False)
        finally:
            reader.cancel()
            self._sender.cancel()
            await asyncio.gather(reader, self._sender, return_exceptions=True)
            self._sender = None  # the traceback of its cancellation refers to this client
            # aiohttp closes the connection once everything was sent: never, if the client does not read.
            if transport is not None:
                asyncio.get_running_loop().call_later(CLOSE_S, transport.abort)
            self.ended.set()

    async def _read(self) -> None:
        """Process pings and the close frame; other messages are ignored."""
        since, count = time.monotonic(), 0
        async for message in self._socket:
            now = time.monotonic()
            if now - since >= 1:
                since, count = now, 0
            count += 1
            transport = self._request.transport
            if count > MAX_SAID or transport is None:
                log.warning(
                    "event stream closed: the client sends too much peer=%s",
                    self._request.remote,
                    extra=cause(self._request.remote),
                )
                if transport is not None:
                    transport.abort()
                return
            # A client that does not read gets no more pongs; its messages are still read and counted.
            if message.type is WSMsgType.PING and not transport.get_write_buffer_size():
                await self._socket.pong(message.data)

    async def _send(self) -> None:
        while True:
            while self._waiting:
                text = self._waiting.popleft()
                self._waiting_bytes -= len(text)
                await self._socket.send_str(text)
            if self._code is not None:
                return
            self._changed.clear()
            await self._changed.wait()
