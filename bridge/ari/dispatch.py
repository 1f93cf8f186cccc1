"""Delivery of ARI events to callbacks and to awaited expectations; without sockets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from types import TracebackType
from typing import ParamSpec

from bridge.ari.model import (
    BridgeBlindTransfer,
    Channel,
    ChannelDestroyed,
    Event,
    StasisEnd,
    StasisStart,
    channel_of,
    subject_ids,
)
from bridge.errors import AriError

log = logging.getLogger("bridge.ari")

P = ParamSpec("P")

EventCallback = Callable[[Event], object]
Unsubscribe = Callable[[], None]

ANY = "*"
"""Matches every type of event."""

_MAY_FOLLOW_STASIS_END = frozenset(
    {
        *("ChannelDestroyed", "ChannelHangupRequest", "ChannelDialplan", "ChannelEnteredBridge", "ChannelLeftBridge"),
        *("ChannelStateChange", "Dial"),
    }
)
"""Events whose expectation continues after the channel leaves the Stasis application."""


class Expectation:
    """One awaited event, watched from before the request that causes it.

    Use as a context manager; leaving it stops watching.
    """

    def __init__(self, dispatcher: Dispatcher, event_type: str, subject_id: str) -> None:
        self._dispatcher = dispatcher
        self._event_type = event_type
        self._subject_id = subject_id
        self._outcome: asyncio.Future[Event] = asyncio.get_running_loop().create_future()

    def __enter__(self) -> Expectation:
        self._dispatcher._watch(self._subject_id, self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._dispatcher._unwatch(self._subject_id, self)
        if not self._outcome.cancel() and not self._outcome.cancelled():
            self._outcome.exception()  # retrieved, as asyncio logs exceptions that nobody retrieves

    async def wait(self, timeout_s: float) -> Event:
        """Return the event, immediately if it came already.

        Args:
            timeout_s: time to wait, in seconds.

        Raises:
            AriError: status 0 if the event did not come in time or the events connection was lost, 404 if the channel
                ended or left the Stasis application first.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(self._outcome)
        except TimeoutError:
            raise self._error(0, f"did not arrive within {timeout_s:g} s") from None

    def _see(self, event: Event) -> None:
        if self._outcome.done():
            return
        if self._event_type in (event.type, ANY):
            self._outcome.set_result(event)
        elif isinstance(event, ChannelDestroyed):
            self._fail(404, f"the channel ended first: {event.cause_txt or event.cause}")
        elif isinstance(event, StasisEnd) and self._event_type not in _MAY_FOLLOW_STASIS_END:
            self._fail(404, "the channel left the application first")

    def _fail(self, status: int, reason: str) -> None:
        if not self._outcome.done():
            self._outcome.set_exception(self._error(status, reason))

    def _error(self, status: int, reason: str) -> AriError:
        return AriError(status, "EVENT", f"{self._event_type} {self._subject_id}", reason)


class Dispatcher:
    """Delivers events to their subscribers. A callback that raises is logged and does not stop the others."""

    def __init__(self) -> None:
        self._callbacks: dict[str, tuple[EventCallback, ...]] = {}
        self._watched: dict[str, list[Expectation]] = {}

    def on_event(self, event_type: str, callback: EventCallback) -> Unsubscribe:
        """Call ``callback(event)`` for every event of a type, or all with ``*``; return a function that removes it."""
        self._callbacks[event_type] = (*self._callbacks.get(event_type, ()), callback)

        def remove() -> None:
            left = list(self._callbacks[event_type])
            left.remove(callback)
            self._callbacks[event_type] = tuple(left)

        return once(remove)

    def on_channel_event(self, event_type: str, callback: Callable[[Channel, Event], object]) -> Unsubscribe:
        """Call ``callback(channel, event)`` for events about a channel (for Dial: the dialed one).

        Returns:
            A function that removes the callback.
        """

        def with_channel(event: Event) -> None:
            channel = channel_of(event)
            if channel is not None:
                callback(channel, event)

        return self.on_event(event_type, with_channel)

    def on_replaced(self, callback: Callable[[Channel, Channel], object]) -> Unsubscribe:
        """Call ``callback(old, new)`` when a channel replaces one in the Stasis application.

        This happens in a transfer (``new`` is then often a Local channel with the other party behind it) and in a call
        pickup. Asterisk puts ``new`` where ``old`` was, also into its bridge, and reports the end of ``old``
        afterwards. Both are snapshots of that time: ``old.dialplan`` is the position at which ``old`` left the
        dialplan.
        """

        def with_both(event: Event) -> None:
            if isinstance(event, StasisStart) and event.replace_channel is not None:
                callback(event.replace_channel, event.channel)

        return self.on_event("StasisStart", with_both)

    def on_parked(self, callback: Callable[[str], object]) -> Unsubscribe:
        """Call ``callback(bridge_id)`` when a phone parks the only other channel of a mixing bridge of ARI.

        In such a bridge every other transfer puts a Local channel in the phone's place. Afterwards Asterisk moves the
        other channel out of the bridge and the Stasis application. Other bridges are reported too.
        """

        def with_bridge(event: Event) -> None:
            if not isinstance(event, BridgeBlindTransfer) or event.result != "Success":
                return
            bridge = event.bridge
            if event.replace_channel is None and bridge is not None and len(bridge.channels) == 2:
                callback(bridge.id)

        return self.on_event("BridgeBlindTransfer", with_bridge)

    def expect(self, event_type: str, subject_id: str) -> Expectation:
        """Watch for one event about a channel, bridge or recording; enter the result before the causing request."""
        return Expectation(self, event_type, subject_id)

    def dispatch(self, event: Event) -> None:
        """Deliver one event to all its subscribers, in the order in which they subscribed."""
        if self._watched:
            for subject_id in subject_ids(event):
                for expectation in self._watched.get(subject_id, ()):
                    expectation._see(event)
        for callback in (*self._callbacks.get(event.type, ()), *self._callbacks.get(ANY, ())):
            call_safely(callback, event)

    def lose(self, reason: str) -> None:
        """Fail all expectations: the events connection is lost, and with it perhaps their events."""
        for expectations in list(self._watched.values()):
            for expectation in expectations:
                expectation._fail(0, reason)

    def _watch(self, subject_id: str, expectation: Expectation) -> None:
        self._watched.setdefault(subject_id, []).append(expectation)

    def _unwatch(self, subject_id: str, expectation: Expectation) -> None:
        watching = self._watched.get(subject_id, [])
        if expectation in watching:
            watching.remove(expectation)
        if not watching:
            self._watched.pop(subject_id, None)


def once(undo: Callable[[], None]) -> Unsubscribe:
    """Return a function that calls ``undo`` the first time only."""
    pending = [undo]

    def unsubscribe() -> None:
        while pending:
            pending.pop()()

    return unsubscribe


def subscribe(callbacks: list[Callable[P, object]], callback: Callable[P, object]) -> Unsubscribe:
    """Add a callback to a list; return a function that removes it."""
    callbacks.append(callback)
    return once(lambda: callbacks.remove(callback))


def call_safely(callback: Callable[..., object], *args: object) -> None:
    """Call a callback; log what it raises, with its traceback, and return."""
    try:
        callback(*args)
    except Exception:
        log.exception("ARI callback failed callback=%r", callback)
