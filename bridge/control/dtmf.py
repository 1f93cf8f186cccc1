"""DTMF digits from a party, in order, until they are consumed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

MAX_WAITING = 128
"""Limit of waiting digits of one party; the oldest are dropped."""


class DigitQueue:
    """The digits of one leg: each is consumed once.

    ``watch`` shows every digit to others without consuming it.
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
        """Discard the waiting digits."""
        self._waiting.clear()

    async def get(self, timeout_s: float | None = None) -> str | None:
        """Return and remove the next digit; None after ``timeout_s`` (None: wait indefinitely)."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self._waiting:
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            return None
        return self._waiting.popleft()

    def watch(self, callback: Callable[[str], object]) -> Callable[[], None]:
        """Call ``callback(digit)`` for every digit from now on; return a function that stops this."""
        self._watchers.append(callback)

        def stop() -> None:
            if callback in self._watchers:
                self._watchers.remove(callback)

        return stop
