"""Who wants to know about which event: callbacks and awaited events. No sockets here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from types import TracebackType
from typing import ParamSpec

from bridge.ari.model import Channel, ChannelDestroyed, Event, StasisEnd, StasisStart, channel_of, subject_ids
from bridge.errors import AriError

log = logging.getLogger("bridge.ari")

P = ParamSpec("P")

Callback = Callable[[Event], object]
Unsubscribe = Callable[[], None]

ANY = "*"
"""Instead of a type of event: all of them."""

_MAY_FOLLOW_STASIS_END = frozenset(
    {
        *("ChannelDestroyed", "ChannelHangupRequest", "ChannelDialplan", "ChannelEnteredBridge", "ChannelLeftBridge"),
        *("ChannelStateChange", "Dial"),
    }
)
"""Waiting for one of these goes on when the channel leaves our application."""


class Expectation:
    """One event that somebody will wait for, watched from before the act that causes it.

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
            self._outcome.exception()  # seen: nobody may have asked, and asyncio would complain

    async def wait(self, timeout_s: float) -> Event:
        """The event, at once if it came already.

        Raises:
            AriError: status 0 when it did not come in time or the events connection was lost, 404 when the channel
                ended or left our application first.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(self._outcome)
        except TimeoutError:
            raise self._error(0, f"not seen within {timeout_s:g} s") from None

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
    """Hands events to those who asked. A callback that raises is logged and does not stop the others."""

    def __init__(self) -> None:
        self._callbacks: dict[str, tuple[Callback, ...]] = {}
        self._watched: dict[str, list[Expectation]] = {}

    def on_event(self, event_type: str, callback: Callback) -> Unsubscribe:
        """Call ``callback(event)`` for every event of a type, or of all types with ``*``."""
        self._callbacks[event_type] = (*self._callbacks.get(event_type, ()), callback)

        def remove() -> None:
            left = list(self._callbacks[event_type])
            left.remove(callback)
            self._callbacks[event_type] = tuple(left)

        return once(remove)

    def on_channel_event(self, event_type: str, callback: Callable[[Channel, Event], object]) -> Unsubscribe:
        """Call ``callback(channel, event)`` for events about a channel (of Dial: the dialled leg)."""

        def with_channel(event: Event) -> None:
            channel = channel_of(event)
            if channel is not None:
                callback(channel, event)

        return self.on_event(event_type, with_channel)

    def on_replaced(self, callback: Callable[[Channel, Channel], object]) -> Unsubscribe:
        """Call ``callback(old, new)`` when a channel takes the place of one in our application.

        A phone transfers its call (``new`` is then often a Local channel with the other party behind it), or a phone
        picks up the call of one that rings. Asterisk puts ``new`` where ``old`` was, also into its bridge; the end of
        ``old`` is reported afterwards. Both are as Asterisk saw them then: ``old.dialplan`` is where ``old`` left the
        dialplan.
        """

        def with_both(event: Event) -> None:
            if isinstance(event, StasisStart) and event.replace_channel is not None:
                callback(event.replace_channel, event.channel)

        return self.on_event("StasisStart", with_both)

    def expect(self, event_type: str, subject_id: str) -> Expectation:
        """Watch for one event about a channel, bridge or recording; enter the result before the act that causes it."""
        return Expectation(self, event_type, subject_id)

    def dispatch(self, event: Event) -> None:
        """Give one event to all who wait for it, in the order in which they asked."""
        if self._watched:
            for subject_id in subject_ids(event):
                for expectation in self._watched.get(subject_id, ()):
                    expectation._see(event)
        for callback in (*self._callbacks.get(event.type, ()), *self._callbacks.get(ANY, ())):
            call_safely(callback, event)

    def lose(self, reason: str) -> None:
        """The events connection is gone: what is waited for may never be told."""
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
    """Something to undo one subscription with; only the first call does, so it cannot undo another's."""
    pending = [undo]

    def unsubscribe() -> None:
        while pending:
            pending.pop()()

    return unsubscribe


def subscribe(callbacks: list[Callable[P, object]], callback: Callable[P, object]) -> Unsubscribe:
    """Add a callback to a list of them."""
    callbacks.append(callback)
    return once(lambda: callbacks.remove(callback))


def call_safely(callback: Callable[..., object], *args: object) -> None:
    """Call somebody else's code; what it raises is logged, with its traceback, and goes no further."""
    try:
        callback(*args)
    except Exception:
        log.exception("a callback for ARI failed: %r", callback)
