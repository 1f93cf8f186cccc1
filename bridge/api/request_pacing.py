"""Pacing of HTTP requests: a few begin in each slice of time, so a burst of them does not delay audio."""

from __future__ import annotations

import asyncio
from collections import deque

SLICE_S = 0.005
PER_SLICE = 4
"""Requests that begin in one slice: 800 a second. One occupies the loop for about half a millisecond."""


class RequestPacer:
    """Starts requests in the order of arrival.

    The event loop runs everything that is ready before it checks its timers again: a thousand simultaneous requests
    would be a second without audio for any call.
    """

    def __init__(self) -> None:
        self._left = PER_SLICE
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._probes: deque[asyncio.Future[None]] = deque()

    async def wait(self, *, probe: bool = False) -> None:
        """Wait for a turn.

        Args:
            probe: whether it is a health check: one in each slice comes before all others.
        """
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SLICE_S, self._next)
        if self._left and not self._waiting and not self._probes:
            self._left -= 1
            return
        future = asyncio.get_running_loop().create_future()
        (self._probes if probe else self._waiting).append(future)
        await future

    def _next(self) -> None:
        self._left = PER_SLICE
        for queue, most in ((self._probes, 1), (self._waiting, PER_SLICE), (self._probes, PER_SLICE)):
            turns = min(most, self._left)
            while queue and turns:
                future = queue.popleft()
                if not future.done():  # its client may have disconnected
                    future.set_result(None)
                    self._left -= 1
                    turns -= 1
        used = self._left < PER_SLICE or self._waiting or self._probes
        self._timer = asyncio.get_running_loop().call_later(SLICE_S, self._next) if used else None
