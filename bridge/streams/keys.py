"""Keys that an application presses on a party: in order, and not more than a party could hear."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from bridge.media.counters import Counters

MAX_QUEUED_KEYS = 100
"""So many keys wait here, and about as many in Asterisk; more are dropped and counted."""
KEY_S = 0.2
"""How long Asterisk takes for a key: it sounds for 100 ms, and 100 ms of silence follow (ARI's defaults)."""

log = logging.getLogger(__name__)


class KeyPresses:
    """The keys of one stream.

    One task at a time sends them, and joins what has come meanwhile into one request: requests side by side would
    overtake each other. Asterisk answers before the keys have sounded, so this counts what it must still have to do.

    Args:
        press: presses some keys, one after the other.
        counters: the process's counters.
    """

    def __init__(self, press: Callable[[str], Awaitable[None]], counters: Counters) -> None:
        self._press = press
        self._counters = counters
        self._waiting = ""
        self._task: asyncio.Task[None] | None = None
        self._sounded_at = 0.0  # when Asterisk will be through with what it was given
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, digits: str) -> None:
        """Press ``digits`` after those that wait already; those that find no room are lost and counted."""
        if self._closed:
            return
        room = MAX_QUEUED_KEYS - len(self._waiting)
        self._waiting += digits[:room]
        self._counters.keys_dropped += max(len(digits) - room, 0)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain(), name="keys")

    def close(self) -> None:
        """Forget what waits."""
        self._closed = True
        self._waiting = ""
        if self._task is not None:
            self._task.cancel()

    async def _drain(self) -> None:
        while self._waiting:
            ahead_s = self._sounded_at - time.monotonic() - MAX_QUEUED_KEYS * KEY_S
            if ahead_s > 0:
                await asyncio.sleep(ahead_s)
            digits, self._waiting = self._waiting, ""
            self._sounded_at = max(self._sounded_at, time.monotonic()) + len(digits) * KEY_S
            try:
                await self._press(digits)
            except Exception:  # the keys that come after these are worth another try
                log.exception("keys could not be sent")
