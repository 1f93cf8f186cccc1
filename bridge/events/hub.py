"""Where the parts of the bridge say what happens, and whoever wants to know of it is told.

Pure: no clock but the one that is handed in, no network. What is slow (sending) is the business of the subscribers.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from uuid import uuid4

from bridge.config.webhooks import EVENT_TYPES
from bridge.texts import cut_all
from bridge.times import utc

__all__ = ["EVENT_TYPES", "Event", "Events", "as_json"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Event:
    """Something that happened.

    Args:
        id: unique; the same wherever the event arrives, and in every attempt to deliver it.
        type: one of `EVENT_TYPES`.
        time: seconds since 1970.
        data: JSON; by convention not changed by anybody after it was published.
    """

    id: str
    type: str
    time: float
    data: Mapping[str, Any] = field(hash=False)

    @cached_property
    def text(self) -> str:
        """The event as JSON text (ASCII), made once however many receivers there are.

        Raises:
            TypeError, ValueError: the data is no JSON.
        """
        # ASCII, since half a surrogate pair, which a peer can make us hold, has no UTF-8.
        return json.dumps(as_json(self), separators=(",", ":"), allow_nan=False)


class Events:
    """Tells every subscriber of every event, in order, at once.

    Args:
        clock: seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._subscribers: dict[object, Callable[[Event], object]] = {}

    def publish(self, type: str, data: Mapping[str, Any]) -> None:
        """Tell of something. Never raises, never blocks; costs next to nothing when nobody listens.

        Args:
            type: one of `EVENT_TYPES`.
            data: JSON; a copy is kept, whose texts are cut (`bridge.texts.cut_all`).
        """
        if not self._subscribers:
            return
        self.tell(Event(f"evt_{uuid4().hex}", type, self._clock(), cut_all(data)))

    def tell(self, event: Event) -> None:
        """Tell of an event that was published, here or in another process. Never raises."""
        for callback in list(self._subscribers.values()):
            try:
                callback(event)
            except Exception:
                log.exception("a receiver of the event %s failed: a fault of the bridge", event.type)

    def subscribe(self, callback: Callable[[Event], object]) -> Callable[[], None]:
        """Call ``callback`` with every event from now on; it must be quick and not wait for anything.

        Returns:
            Ends it; harmless when called again.
        """
        key = object()
        self._subscribers[key] = callback
        return lambda: self._subscribers.pop(key, None) and None


def as_json(event: Event) -> dict[str, Any]:
    """The event as receivers see it: ``{"id", "type", "tm_create", "data"}``."""
    return {"id": event.id, "type": event.type, "tm_create": utc(event.time), "data": dict(event.data)}
