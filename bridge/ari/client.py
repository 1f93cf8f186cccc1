"""The ARI client: requests, typed events, and an events connection that reconnects by itself.

The decision for an own client: docs/decisions/ari-client.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
from collections.abc import Callable
from types import TracebackType

import aiohttp
import msgspec

from bridge.ari.dispatch import Dispatcher, EventCallback, Expectation, Unsubscribe, call_safely, subscribe
from bridge.ari.model import ApplicationReplaced, Channel, Event, decode_event
from bridge.ari.resources import Applications, Bridges, Channels, Endpoints, Recordings, System
from bridge.ari.rest import CONNECT_TIMEOUT_S, Rest, explain_failure, explain_status
from bridge.ari.versions import ENDED_APPLICATIONS, parse_version
from bridge.errors import AriError, ConfigError
from bridge.logs import cause
from bridge.tls import TrustError

log = logging.getLogger("bridge.ari")

BACKOFF_FIRST_S = 0.1
BACKOFF_LAST_S = 5.0
HEARTBEAT_S = 15.0
"""Interval of pings on the events connection, in seconds; without a response for half of that it counts as lost."""
STABLE_S = 1.0
"""Connections that last shorter than this do not reset the backoff."""
REPLACED_RETRY_S = 10.0
"""Interval of checks whether the client that took the Stasis application is gone, in seconds.

Do not take it back: two instances would disconnect each other indefinitely.
"""
RECLAIM_FIRST_S, RECLAIM_LAST_S = 60.0, 960.0
"""When to reclaim the application from an Asterisk that lacks `ENDED_APPLICATIONS`, and so keeps it without its client.

In seconds; the wait doubles each time that the application is taken again soon, as its client may still be connected.
"""
RELEASE_S = 1.0
"""Time limit, in seconds, of a new connection's wait for Asterisk to clean up after the last one.

That cleanup can take the application away from the new connection (seen on 22.10.1: connected, but without events).
"""
CHECKS_S = (0.5, 2.0, 10.0)
"""When to check after connecting, in seconds, that the application still exists in Asterisk; the last one repeats."""
MAX_EVENT_BYTES = 16 * 1024 * 1024

NOISE = (
    "ChannelVarset",
    "ContactStatusChange",
    "DeviceStateChanged",
    "EndpointStateChange",
    "PeerStatusChange",
    "BridgeVideoSourceChanged",
    "TextMessageReceived",
)
"""Events that the product does not use; ChannelVarset alone is most of the events of a busy PBX."""


class AriClient:
    """One Stasis application's connection to one Asterisk.

    Callbacks run in the reader's task and must not block: Asterisk disconnects a reader that stalls for 100 ms.

    Args:
        url: URL of Asterisk's HTTP server, for example ``http://127.0.0.1:8088``.
        user: ARI user of ari.conf.
        password: the user's password.
        app: name of the Stasis application.
        subscribe_all: receive events of all channels and bridges of the PBX, not only of those in the Stasis
            application.
        ca_file: PEM file with the only authorities to trust for ``https://``; empty: those of the system.

    Raises:
        ConfigError: the URL is invalid.
    """

    def __init__(
        self,
        url: str,
        user: str,
        password: str,
        app: str,
        *,
        subscribe_all: bool = True,
        ca_file: str = "",
    ) -> None:
        if not app:
            raise ConfigError("ari.app", "must not be empty")
        self.app = app
        self.connected = False
        """Whether events are received."""
        self.replaced = False
        """Whether another events connection has taken the Stasis application; the client waits until it is gone."""
        self.trouble: str | None = None
        """Why there is no connection, for an administrator; None while connected."""
        self.undecodable = 0
        """Number of skipped events that could not be decoded."""
        self._rest = Rest(url, user, password, ca_file)
        self.channels = Channels(self._rest, app)
        self.bridges = Bridges(self._rest)
        self.applications = Applications(self._rest)
        self.recordings = Recordings(self._rest)
        self.endpoints = Endpoints(self._rest)
        self.asterisk = System(self._rest)
        self._subscribe_all = subscribe_all
        self._dispatcher = Dispatcher()
        self._on_connected: list[Callable[[], object]] = []
        self._on_disconnected: list[Callable[[], object]] = []
        self._task: asyncio.Task[None] | None = None
        self._first_attempt: asyncio.Future[None] | None = None
        self._fault: AriError | None = None
        """Why the client itself closed the events connection."""

    @property
    def url(self) -> str:
        """The URL of ARI, without credentials."""
        return str(self._rest.url)

    async def start(self, wait: bool = False) -> None:
        """Begin to connect, and stay connected until ``stop``.

        Args:
            wait: return after the first attempt. A service does not wait: it starts while Asterisk is down, reports
                that in the log and in ``trouble``, and connects when Asterisk is up.

        Raises:
            AriError: the first attempt failed, and ``wait`` is true. The client is stopped then.
        """
        if self._task is None:
            self._first_attempt = asyncio.get_running_loop().create_future()
            self._task = asyncio.create_task(self._stay_connected(), name="ari-events")
        if wait and self._first_attempt is not None:
            try:
                await asyncio.shield(self._first_attempt)
            except AriError:
                await self.stop()
                raise

    def finish_within(self, seconds: float) -> None:
        """Limit all requests, running ones included, to end within ``seconds``; for shutdown."""
        self._rest.finish_within(seconds)

    def allow_only(self, allows: Callable[[str], bool]) -> None:
        """Refuse requests from now on as if the client were stopped, except to paths that ``allows`` accepts."""
        self._rest.allow_only(allows)

    async def stop(self) -> None:
        """Close the events connection and the session; later requests fail. Stopping twice is harmless."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._settle_first_attempt(AriError(0, "GET", "/events", "the client was stopped"))
        await self._rest.close()

    async def __aenter__(self) -> AriClient:
        await self.start(wait=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def on_event(self, event_type: str, callback: EventCallback) -> Unsubscribe:
        """Call ``callback(event)`` for every event of a type, or all with ``*``; return a function that removes it."""
        return self._dispatcher.on_event(event_type, callback)

    def on_channel_event(self, event_type: str, callback: Callable[[Channel, Event], object]) -> Unsubscribe:
        """Call ``callback(channel, event)`` for events about a channel (for Dial: the dialed one).

        Returns:
            A function that removes the callback.
        """
        return self._dispatcher.on_channel_event(event_type, callback)

    def on_replaced(self, callback: Callable[[Channel, Channel], object]) -> Unsubscribe:
        """Call ``callback(old, new)`` when a channel replaces one in the Stasis application.

        Returns:
            A function that removes the callback.
        """
        return self._dispatcher.on_replaced(callback)

    def on_parked(self, callback: Callable[[str], object]) -> Unsubscribe:
        """Call ``callback(bridge_id)`` when a phone parks the only other channel of a mixing bridge of ARI.

        See `Dispatcher.on_parked`.
        """
        return self._dispatcher.on_parked(callback)

    def expect(self, event_type: str, subject_id: str) -> Expectation:
        """Watch for one event about a channel, bridge or recording, from before the request that causes it.

        For example::

            with client.expect("StasisStart", media_id) as started:
                await client.channels.external_media(channel_id=media_id, ...)
                event = await started.wait(5.0)
        """
        return self._dispatcher.expect(event_type, subject_id)

    def on_connected(self, callback: Callable[[], object]) -> Unsubscribe:
        """Call ``callback()`` on each connection; requests from now on miss none of the events.

        Returns:
            A function that removes the callback.
        """
        return subscribe(self._on_connected, callback)

    def on_disconnected(self, callback: Callable[[], object]) -> Unsubscribe:
        """Call ``callback()`` each time that the events connection is lost; return a function that removes it."""
        return subscribe(self._on_disconnected, callback)

    async def _stay_connected(self) -> None:
        """Connect, read until the connection ends, wait, repeat; until ``stop``."""
        loop = asyncio.get_running_loop()
        wait_s, reclaim_s = BACKOFF_FIRST_S, RECLAIM_FIRST_S
        while True:
            began = loop.time()
            try:
                await self._connect_and_read()
                reason = "Asterisk closed the events connection"
            except AriError as exc:
                reason = exc.message
                self._settle_first_attempt(exc)
            except Exception as exc:
                reason = f"{type(exc).__name__}: {exc}"
                log.exception("events connection failed with an unexpected error, reconnecting")
                self._settle_first_attempt(AriError(0, "GET", "/events", reason))
            self._say_trouble(reason)
            if self.replaced:
                if loop.time() - began > RECLAIM_LAST_S:
                    reclaim_s = RECLAIM_FIRST_S
                await self._until_application_is_free(reclaim_s)
                wait_s, reclaim_s = BACKOFF_FIRST_S, min(2 * reclaim_s, RECLAIM_LAST_S)
            elif loop.time() - began > STABLE_S:
                wait_s = BACKOFF_FIRST_S
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))
            wait_s = min(wait_s * 2, BACKOFF_LAST_S)

    async def _connect_and_read(self) -> None:
        await self._until_application_is_released()
        socket = await self._connect()
        self._fault = None
        attending = asyncio.create_task(self._attend(socket), name="ari-application")
        try:
            while True:
                message = await socket.receive()
                if message.type is aiohttp.WSMsgType.TEXT:
                    self._take(message.data)
                elif message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING):
                    if self._fault is not None:
                        raise self._fault
                    return
                elif message.type is aiohttp.WSMsgType.ERROR:
                    raise AriError(0, "GET", "/events", f"events connection failed: {message.data}")
                if self.replaced:
                    raise AriError(409, "GET", "/events", f"another client took the application {self.app!r}")
        finally:
            attending.cancel()
            self._closed()
            await socket.close()

    async def _connect(self) -> aiohttp.ClientWebSocketResponse[bool]:
        # Without subscribeAll: it includes device states, with which Asterisk may deadlock when the connection ends
        # (asterisk#2170; seen on 22.10.1 within 25 reconnects).
        params = {"app": self.app, "subscribeAll": "false"}
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                return await self._rest.session.ws_connect(
                    self._rest.url / "events",
                    params=params,
                    protocols=("ari",),
                    ssl=await self._rest.tls(),
                    heartbeat=HEARTBEAT_S,
                    timeout=aiohttp.ClientWSTimeout(ws_close=0.5),
                    max_msg_size=MAX_EVENT_BYTES,
                    decode_text=False,
                )
        except aiohttp.WSServerHandshakeError as exc:
            raise AriError(exc.status, "GET", "/events", explain_status(exc.status, "")) from None
        except (TimeoutError, TrustError, aiohttp.ClientError, OSError) as exc:
            raise AriError(0, "GET", "/events", explain_failure(exc)) from exc

    async def _attend(self, socket: aiohttp.ClientWebSocketResponse[bool]) -> None:
        """Subscribe (once connected: before, the application does not exist), then check the application repeatedly."""
        try:
            await self._filter_events()
            if self._subscribe_all:
                await self.applications.subscribe(self.app, ("channel:", "bridge:"))
            self._opened()
            for pause_s in itertools.chain(CHECKS_S, itertools.repeat(CHECKS_S[-1])):
                await asyncio.sleep(pause_s)
                await self._check_application()
        except AriError as exc:
            self._fault = exc
            await socket.close()

    async def _filter_events(self) -> None:
        try:
            await self.applications.set_event_filter(self.app, NOISE)
        except AriError as exc:
            if exc.status in (0, 404):
                raise
            log.warning("event filter failed, receiving all events error=%s", exc)

    async def _check_application(self) -> None:
        try:
            await self.applications.get(self.app)
        except AriError as exc:
            if exc.status == 404:
                raise AriError(
                    404, "GET", "/events", f"the application {self.app!r} no longer exists in Asterisk"
                ) from None

    def _opened(self) -> None:
        self.connected, self.replaced, self.trouble = True, False, None
        log.info("connected to Asterisk url=%s application=%s", self.url, self.app)
        for callback in list(self._on_connected):
            call_safely(callback)
        self._settle_first_attempt(None)

    def _closed(self) -> None:
        self._dispatcher.lose("the events connection was lost")
        if self.connected:
            self.connected = False
            for callback in list(self._on_disconnected):
                call_safely(callback)

    def _take(self, data: bytes) -> None:
        try:
            event = decode_event(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            self.undecodable += 1
            log.warning("event skipped, cannot be decoded error=%s", exc, extra=cause())
            return
        if isinstance(event, ApplicationReplaced) and event.application in ("", self.app):
            self.replaced = True
            log.error(
                "application taken by another client, no more events: set another ari.app application=%s",
                self.app,
            )
        self._dispatcher.dispatch(event)

    async def _until_application_is_released(self) -> None:
        with contextlib.suppress(TimeoutError, AriError):  # connecting reports any fault
            async with asyncio.timeout(RELEASE_S):
                while True:
                    await self.applications.get(self.app)
                    await asyncio.sleep(0.02)

    async def _until_application_is_free(self, reclaim_s: float) -> None:
        """Wait until the application has ended, or for ``reclaim_s`` where applications do not end."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + reclaim_s
        while self.replaced:
            await asyncio.sleep(REPLACED_RETRY_S)
            try:
                await self.applications.get(self.app)
                if loop.time() >= deadline and not await self._applications_end():
                    log.warning("application reclaimed, another client may still be connected application=%s", self.app)
                    self.replaced = False
            except AriError as exc:
                if exc.status == 404:
                    self.replaced = False

    async def _applications_end(self) -> bool:
        """Return whether this Asterisk ends an application with its connection; true if its version is unknown."""
        version = parse_version((await self.asterisk.info()).system.version)
        return version is None or ENDED_APPLICATIONS.is_in(version)

    def _settle_first_attempt(self, error: AriError | None) -> None:
        attempt, self._first_attempt = self._first_attempt, None
        if attempt is None or attempt.done():
            return
        if error is None:
            attempt.set_result(None)
        else:
            attempt.set_exception(error)
            attempt.exception()  # retrieved, as asyncio logs exceptions that nobody retrieves

    def _say_trouble(self, reason: str) -> None:
        if reason != self.trouble:
            self.trouble = reason
            log.warning("events connection unavailable, retrying url=%s error=%s", self.url, reason)
