"""Lateness of the event loop: a histogram, and a warning with the stack of the code that blocks it.

A timer of the loop records its own lateness ten times a second. A thread, asleep in between, detects when the timer has
not run for too long, and logs the stack of the loop's thread at that time.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType

from bridge.media.counters import Histogram
from bridge.media.loop import FrameLoop

log = logging.getLogger(__name__)

INTERVAL_S = 0.1
BLOCKED_S = 0.2
"""Lateness in seconds that causes a warning: ten frames of every call."""
QUIET_S = 60.0
"""Minimum interval between warnings, in seconds."""


class LoopLag:
    """Measures the loop on which it is started.

    Args:
        histogram: receives each measurement, in seconds.
        on_measured: called with each measurement, the share of the time since the previous one in which the loop was
            busy (0 to 1; 0 where it cannot be measured), and the loop's time in seconds.
    """

    def __init__(
        self, histogram: Histogram, on_measured: Callable[[float, float, float], object] = lambda *_: None
    ) -> None:
        self._histogram = histogram
        self._on_measured = on_measured
        self._before = (0.0, 0.0)
        """The loop's time and idle time at the previous measurement."""
        self._due = 0.0
        """When the timer should run next, on `time.monotonic`, the loop's clock."""
        self._timer: asyncio.TimerHandle | None = None
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()

    def start(self) -> None:
        """Begin to measure the running loop, from its thread."""
        loop = asyncio.get_running_loop()
        self._ending.clear()
        self._before = (loop.time(), _idle_s(loop))
        self._arm(loop)
        self._thread = threading.Thread(
            target=self._watch, args=(threading.get_ident(),), name="loop watchdog", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop; harmless if not started."""
        if self._timer is not None:
            self._timer.cancel()
        if self._thread is not None:
            self._ending.set()
            self._thread.join(1.0)
            self._thread = None

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = loop.time() + INTERVAL_S
        self._timer = loop.call_at(self._due, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        late_s = max(now - self._due, 0.0)
        self._histogram.add(late_s)
        self._arm(loop)
        (before, idle_before), self._before = self._before, (now, _idle_s(loop))
        idle = (self._before[1] - idle_before) / (now - before) if now > before else 1.0
        self._on_measured(late_s, 1.0 - idle, now)

    def _watch(self, loop_thread: int) -> None:
        quiet_until = 0.0
        while True:
            before, used_before = time.monotonic(), time.process_time()
            if self._ending.wait(INTERVAL_S):
                return
            now = time.monotonic()
            late_s = now - self._due
            if late_s < BLOCKED_S or now < quiet_until:
                continue
            slept_s = now - before
            if slept_s > 2 * INTERVAL_S and time.process_time() - used_before < slept_s / 2:
                continue  # the whole process got no CPU time, or was stopped: nothing blocks the loop
            frame = sys._current_frames().get(loop_thread)
            if frame is not None and self._due <= now - BLOCKED_S:
                quiet_until = now + QUIET_S
                _warn(late_s, frame)


def _idle_s(loop: asyncio.AbstractEventLoop) -> float:
    return loop.idle_s if isinstance(loop, FrameLoop) else loop.time()


def _warn(late_s: float, frame: FrameType) -> None:
    log.warning(
        "event loop blocked, calls received no audio, next warning is delayed late_ms=%.0f limit_s=%.0f",
        late_s * 1000,
        QUIET_S,
        extra={"stack": "".join(traceback.format_stack(frame)).rstrip()},
    )
