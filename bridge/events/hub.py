"""The event hub: components publish events, and subscribers receive them.

Pure: no network, and no clock but the injected one. Subscribers do what is slow, such as sending.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any
from uuid import uuid4

from msgspec import Struct

from bridge.config.webhooks import EVENT_TYPES
from bridge.texts import cut_all
from bridge.times import utc

__all__ = ["EVENT_TYPES", "Event", "Events", "as_json"]

log = logging.getLogger(__name__)


class Event(Struct, frozen=True, dict=True):
    """An event.

    Args:
        id: unique; the same for every receiver, and in every attempt to deliver it.
        type: one of `EVENT_TYPES`.
        time: seconds since 1970.
        data: JSON; by convention not changed after it was published.
    """

    id: str
    type: str
    time: float
    data: Mapping[str, Any]

    @cached_property
    def text(self) -> str:
        """The event as JSON (ASCII), created once for all receivers.

        Raises:
            TypeError, ValueError: the data is not JSON.
        """
        # ASCII, since half a surrogate pair, which a peer can send, has no UTF-8.
        return json.dumps(as_json(self), separators=(",", ":"), allow_nan=False)


class Events:
    """Passes every event to every subscriber, in order, synchronously.

    Args:
        clock: seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._subscribers: dict[object, Callable[[Event], object]] = {}

    def publish(self, type: str, data: Mapping[str, Any]) -> None:
        """Publish an event. Never raises, never blocks; costs next to nothing without subscribers.

        Args:
            type: one of `EVENT_TYPES`.
            data: JSON; a copy is kept, whose strings are cut (`bridge.texts.cut_all`).
        """
        if not self._subscribers:
            return
        self.deliver(Event(f"evt_{uuid4().hex}", type, self._clock(), cut_all(data)))

    def deliver(self, event: Event) -> None:
        """Pass an event to the subscribers that was published here or in another process. Never raises."""
        for callback in list(self._subscribers.values()):
            try:
                callback(event)
            except Exception:
                log.exception("subscriber failed with an internal error type=%s", event.type)

    def subscribe(self, callback: Callable[[Event], object]) -> Callable[[], None]:
        """Call ``callback`` with every event from now on; it must return quickly and not block.

        Returns:
            A function that ends the subscription; it may be called twice.
        """
        key = object()
        self._subscribers[key] = callback
        return lambda: self._subscribers.pop(key, None) and None


def as_json(event: Event) -> dict[str, Any]:
    """Return the event as receivers get it: ``{"id", "type", "tm_create", "data"}``."""
    return {"id": event.id, "type": event.type, "tm_create": utc(event.time), "data": dict(event.data)}
