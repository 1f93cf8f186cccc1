"""DTMF digits that a party has sent, in order, until something takes them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

MAX_WAITING = 128
"""Digits of one party that may wait; the oldest go first."""


class DigitQueue:
    """The digits of one leg: each is taken once.

    ``watch`` shows every digit to others besides, without taking it.
    """

    def __init__(self) -> None:
        self._waiting: deque[str] = deque(maxlen=MAX_WAITING)
        self._came = asyncio.Event()
        self._watchers: list[Callable[[str], object]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, digit: str) -> None:
        """Add a digit."""
        self._waiting.append(digit)
        self._came.set()
        for watcher in tuple(self._watchers):
            watcher(digit)

    def clear(self) -> None:
        """Discard what waits."""
        self._waiting.clear()

    async def get(self, timeout_s: float | None = None) -> str | None:
        """Take the next digit; None if none comes in time (``timeout_s`` None: wait indefinitely)."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self._waiting:
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            return None
        return self._waiting.popleft()

    def watch(self, callback: Callable[[str], object]) -> Callable[[], None]:
        """Call ``callback(digit)`` for every digit from now on; the result stops that."""
        self._watchers.append(callback)

        def stop() -> None:
            if callback in self._watchers:
                self._watchers.remove(callback)

        return stop
