"""Call admission: whether another call or stream may start without harm to the existing ones.

Everything that starts one checks `CallAdmission`: streams that clients open or that asterisk-bridge opens, calls that
it originates, calls of the dialplan before they are answered. Parts of an admitted call (its stream, a transfer) are
not refused because of lateness: existing calls keep what they have.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections import deque
from collections.abc import Callable, Iterator

from bridge.errors import Overloaded
from bridge.media.counters import Counters

log = logging.getLogger(__name__)

MEASURED = 20
"""Number of latest measurements that count: 2 s, as `bridge.media.loop_lag` measures ten times a second."""
LATE_OF_MEASURED = 5
"""How many of them must be late: a stall of any length is one measurement."""
BUSY_OF_MEASURED = 10
"""Number of latest measurements whose median is the load of the event loop: 1 s, in which a stall is one of them."""
MAX_BUSY = 0.75
"""Limit for the busy share of the event loop: close to 1, irregular work waits longer and longer."""
LESS_BUSY = 0.9
"""Share of `MAX_BUSY` below which the load must fall before anything starts again."""
CALM_S = 3.0
"""How long it must stay below that, and lateness below half its limit, in seconds."""
SHED = 0.9
"""Ceiling after an overload, as a share of the load at which it began."""
DOUBLED_S = 30.0
"""Time in seconds without strain after which the ceiling has doubled.

It grows with the square of the time: after 10 s the load that was too high is tried again, as another program may have
been the cause.
"""
MAX_DOUBLED_S = 240.0
"""Limit for the doubling time: an overload that returns before the ceiling has doubled makes it grow half as fast."""
AT_ONCE = 3
"""Multiple of ``from_load`` that may start within a second at any load; beyond, the load may at most double."""
FREED_EVERY_S = 1.0
"""Minimum interval of calls of `CallAdmission.on_free`, in seconds."""
RETRY_AFTER_S = 5
"""Retry-After in seconds for clients refused in an overload."""
DRAINING = "asterisk-bridge is draining: it stops when its calls and streams have ended"


class Overload:
    """Detects overload, and determines the load that can be carried. Pure: the clock is an argument.

    A process is overloaded when its event loop is busy nearly all the time, or runs timers late because other programs
    use the CPU. The load at which that begins gives a ceiling just below it. Afterwards the ceiling grows, slowly at
    first: clients that retry together must not overload the process again.

    Starts of the last second are not in the measurements yet, so many simultaneous starts are admitted step by step.

    Args:
        limit_s: lateness above which audio is at risk, in seconds; 0: never overloaded.
        from_load: load below which nothing is refused: other programs are then the cause, and refusing does not help.
    """

    def __init__(self, limit_s: float, from_load: int) -> None:
        self.active = False
        """Whether it is overloaded now, or was very recently."""
        self.ceiling = math.inf
        """The load up to which more may start while it is not active."""
        self._limit_s = limit_s
        self._from_load = from_load
        self._loads: deque[int] = deque(maxlen=BUSY_OF_MEASURED)
        self._lateness: deque[float] = deque(maxlen=MEASURED)
        self._busy: deque[float] = deque(maxlen=BUSY_OF_MEASURED)
        self._base = math.inf
        """The ceiling right after the last overload."""
        self._doubled_s = DOUBLED_S
        self._calm_since = 0.0

    # Computed when needed: ten times a second, for every measurement, they would be a third of an idle process' CPU.

    @property
    def late_s(self) -> float:
        """The delay in seconds that a quarter of the recent timers reached or exceeded."""
        return sorted(self._lateness)[-LATE_OF_MEASURED] if len(self._lateness) >= LATE_OF_MEASURED else 0.0

    @property
    def busy(self) -> float:
        """The part of the last second in which the event loop was busy, 0 to 1."""
        measured = sorted(self._busy)
        middle = len(measured) // 2
        return (measured[middle] + measured[~middle]) / 2 if measured else 0.0

    @property
    def settled(self) -> int:
        """The load that existed for the whole of that second: the load that caused the delay."""
        return min(self._loads, default=0)

    @property
    def step(self) -> int:
        """The load up to which calls and streams may start before the next measurement."""
        settled, busy = self.settled, self.busy
        if settled >= self._from_load and busy > MAX_BUSY / 2:
            return math.floor(settled * MAX_BUSY / busy)
        return settled + max(settled, AT_ONCE * self._from_load)

    def measured(self, late_s: float, busy: float, load: int, now: float) -> None:
        """Process one measurement.

        Args:
            late_s: lateness of a timer, in seconds.
            busy: share of the time since the previous measurement in which the event loop was busy, 0 to 1.
            load: calls and streams of the process.
            now: seconds on a monotonic clock.
        """
        self._lateness.append(late_s)
        self._busy.append(busy)
        self._loads.append(load)
        if not self._limit_s or len(self._busy) < LATE_OF_MEASURED:
            return
        if load < self._from_load and math.isinf(self._base):  # it has never been overloaded, and is not now
            return
        late_s, busy = self.late_s, self.busy
        if late_s > self._limit_s / 2 or busy > MAX_BUSY * LESS_BUSY:
            self._calm_since = now
        calm_s = now - self._calm_since
        strained = late_s > self._limit_s or busy > MAX_BUSY
        if strained and load >= self._from_load and not self.active:
            self.active = True
            again = self.ceiling < 2 * self._base
            self._doubled_s = min(2 * self._doubled_s, MAX_DOUBLED_S) if again else DOUBLED_S
            self._base = max(load * SHED, self._from_load)
        elif self.active and (load < self._from_load or calm_s >= CALM_S):
            self.active = False
        self.ceiling = self._base * (1 + (calm_s / self._doubled_s) ** 2)

    def refusal(self, load: int) -> Overloaded | None:
        """Return why nothing may be added to ``load``; None if something may."""
        if not self._limit_s or load < self._from_load:
            return None
        if self.active or load + 1 > self.ceiling:
            return Overloaded(
                f"overloaded: cannot carry more than the current {load} calls and streams in time",
                retry_after_s=RETRY_AFTER_S,
            )
        if load + 1 > self.step:
            return Overloaded(
                f"too many calls and streams started within a second; {load} exist",
                retry_after_s=1,
            )
        return None


class CallAdmission:
    """Decides for the whole process what may start.

    Args:
        max_streams: limit of open streams.
        numbering: first number of a stream and the step to the next one, to give workers different numbers.
        late_ms: lateness of timers above which nothing may start, in milliseconds; 0: no limit.
        late_from: number of calls and streams below which lateness refuses nothing.
        counters: counts overloads and refusals.
    """

    def __init__(
        self,
        max_streams: int,
        numbering: tuple[int, int] = (1, 1),
        *,
        late_ms: float = 0,
        late_from: int = 1,
        counters: Counters | None = None,
    ) -> None:
        self.open = 0
        """Number of open streams."""
        self.closing = False
        """Whether the process stops: nothing may start."""
        self.draining = False
        """Whether the process stops when its calls and streams have ended: only parts of these may start."""
        self.load: Callable[[], int] = lambda: self.open
        """Returns the number of calls or of streams, whichever is larger."""
        self.on_free: Callable[[], object] = lambda: None
        """Called when more may start after a refusal."""
        self.overload = Overload(late_ms / 1000, late_from)
        self._max_streams = max_streams
        self._numbering = numbering
        self._counters = counters or Counters()
        self._waiting = False
        """Whether something was refused since `on_free` was called."""
        self._freed_at = -math.inf

    def numbers(self) -> Iterator[int]:
        """Return numbers for one kind of stream."""
        return itertools.count(*self._numbering)

    def may_start(self, streams: int = 1) -> bool:
        """Return whether a call or stream may start now.

        Args:
            streams: how many streams it begins with; 0 for a call without streams.
        """
        return self._refusal(streams, admitted=False) is None

    def check(self, streams: int = 1, *, admitted: bool = False) -> None:
        """Check that a call or stream may start now; count a refusal.

        Args:
            streams: how many streams it begins with; 0 for a call without streams.
            admitted: part of an admitted call, which is not refused because of lateness.

        Raises:
            Overloaded: it may not start.
        """
        refusal = self._refusal(streams, admitted=admitted)
        if refusal is not None:
            self._waiting = True
            self._counters.starts_refused += 1
            raise refusal

    def measured(self, late_s: float, busy: float, now: float) -> None:
        """Process one measurement, as `Overload.measured`."""
        was_active, load = self.overload.active, self.load()
        self.overload.measured(late_s, busy, load, now)
        if self.overload.active and not was_active:
            self._counters.overloads += 1
            log.warning(
                "overloaded, refusing new calls and streams late_ms=%.0f busy=%.0f %% calls_and_streams=%d",
                self.overload.late_s * 1000,
                self.overload.busy * 100,
                load,
            )
        elif was_active and not self.overload.active:
            log.info(
                "no longer overloaded, accepting calls and streams up to a limit calls_and_streams=%.0f",
                self.overload.ceiling,
            )
        if self._waiting and now - self._freed_at >= FREED_EVERY_S and self.may_start():
            self._waiting, self._freed_at = False, now
            self.on_free()

    def _refusal(self, streams: int, *, admitted: bool) -> Overloaded | None:
        if self.closing:
            return Overloaded("asterisk-bridge is shutting down")
        if self.draining and not admitted:
            return Overloaded(DRAINING, retry_after_s=RETRY_AFTER_S)
        if streams and self.open + streams > self._max_streams:
            return Overloaded(f"{self.open} streams are open, the limit media.max_streams")
        return None if admitted else self.overload.refusal(self.load())
