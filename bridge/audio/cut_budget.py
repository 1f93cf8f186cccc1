"""Limits the cuts of all streams together: many have a backlog at the same time after a stall of the network. Pure."""

from __future__ import annotations

from collections.abc import Callable

from bridge.audio.format import FRAME_MS

MAX_CUTS = 10
"""Limit of attempts to shorten speech within `PERIOD_S`; each takes about 0.1 ms."""
PERIOD_S = FRAME_MS / 1000


class CutBudget:
    """Allows `MAX_CUTS` in each period, to whichever stream comes first: the others recover their backlog after it.

    Args:
        clock: returns seconds on a monotonic clock.
    """

    __slots__ = ("_began", "_clock", "_left")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = float("-inf")
        self._left = 0

    def spend(self) -> bool:
        """Return whether one more attempt is allowed now, and count it."""
        now = self._clock()
        if now - self._began >= PERIOD_S:
            self._began, self._left = now, MAX_CUTS
        self._left -= 1
        return self._left >= 0
