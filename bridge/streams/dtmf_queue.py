"""A queue of DTMF digits that an application sends to a party: in order, and limited."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from bridge.logs import cause
from bridge.media.counters import Counters

MAX_QUEUED_DIGITS = 100
"""Limit of digits queued here; about as many wait in Asterisk. More are dropped and counted."""
DIGIT_S = 0.2
"""Time that Asterisk takes for a digit: a tone of 100 ms and a pause of 100 ms (ARI's defaults)."""

log = logging.getLogger(__name__)


class DtmfQueue:
    """The DTMF digits that one stream sends.

    One task at a time sends them, and joins digits that arrive meanwhile into one request: concurrent requests could
    overtake each other. Asterisk responds before the tones are played, so the queue estimates the remaining time.

    Args:
        send: sends digits, in order.
        counters: the process's counters.
    """

    def __init__(self, send: Callable[[str], Awaitable[None]], counters: Counters) -> None:
        self._send = send
        self._counters = counters
        self._waiting = ""
        self._task: asyncio.Task[None] | None = None
        self._sounded_at = 0.0  # when Asterisk will have played the digits sent so far
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, digits: str) -> None:
        """Queue ``digits``; drop and count those above the limit."""
        if self._closed:
            return
        room = MAX_QUEUED_DIGITS - len(self._waiting)
        self._waiting += digits[:room]
        self._counters.keys_dropped += max(len(digits) - room, 0)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain(), name="DTMF digits")

    def close(self) -> None:
        """Discard the queued digits."""
        self._closed = True
        self._waiting = ""
        task, self._task = self._task, None  # the traceback of its cancellation refers to this queue
        if task is not None:
            task.cancel()

    async def _drain(self) -> None:
        while self._waiting:
            ahead_s = self._sounded_at - time.monotonic() - MAX_QUEUED_DIGITS * DIGIT_S
            if ahead_s > 0:
                await asyncio.sleep(ahead_s)
            digits, self._waiting = self._waiting, ""
            self._sounded_at = max(self._sounded_at, time.monotonic()) + len(digits) * DIGIT_S
            try:
                await self._send(digits)
            except Exception:  # later digits may succeed
                log.exception("DTMF digits not sent, an internal error")


def ignore_digits(digits: str) -> None:
    """Log DTMF digits from an application that may not send any; without the digits, as they may be a PIN."""
    log.info("DTMF digits ignored, the application may not send any count=%d", len(digits), extra=cause())
