"""Call admission: whether one more call or stream may start without harm to those that are up.

Whatever starts one asks `CallAdmission`: streams that clients open or that we dial, calls that we originate, calls of
the dialplan before they are answered. What belongs to a call that was admitted (its stream, a transfer) is not refused
because of lateness: calls that are up keep what they have.
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
"""Latest measurements that count: 2 s, as `bridge.media.lag` measures ten times a second."""
LATE_OF_MEASURED = 5
"""How many of them must be late: a stall of any length is one measurement."""
BUSY_OF_MEASURED = 10
"""Latest measurements whose median is how busy the event loop is: of 1 s, in which a stall is one of them."""
MAX_BUSY = 0.75
"""How busy the event loop may be: close to 1, what comes at uneven times waits longer and longer."""
LESS_BUSY = 0.9
"""Part of `MAX_BUSY` to which it must fall before anything starts again."""
CALM_S = 3.0
"""For how long it must be below that, and lateness below half its limit."""
SHED = 0.9
"""The ceiling after an overload, as a part of the load at which it began."""
DOUBLED_S = 30.0
"""How long the process must not be strained until the ceiling is twice that. It grows with the square of the time:
after 10 s the load that was too much is tried again, as another program may have been the cause."""
MAX_DOUBLED_S = 240.0
"""An overload that comes back before the ceiling has doubled makes it grow half as fast, down to this."""
AT_ONCE = 3
"""How much of ``from_load`` may start within a second whatever is up; beyond, the load may at most double."""
FREED_EVERY_S = 1.0
"""Least time between two calls of `CallAdmission.on_free`."""
RETRY_AFTER_S = 5
"""When a client should try again that was refused in an overload."""
DRAINING = "asterisk-bridge is draining: it stops when the calls and streams that are up have ended"


class Overload:
    """Detects overload, and finds how much can be carried. Pure: the clock is an argument.

    Overloaded is a process whose event loop is busy nearly all the time, or runs timers late because other programs
    take the processors. The load at which that begins gives a ceiling just below it. Afterwards the ceiling grows,
    slowly at first, so that clients that try again together do not overload the process again.

    What started within the last second is not in the measurements yet. So a crowd is let in step by step.

    Args:
        limit_s: lateness from which audio is at risk; 0: never overloaded.
        from_load: load below which nothing is refused: then other programs are the cause, and refusing helps nobody.
    """

    def __init__(self, limit_s: float, from_load: int) -> None:
        self.active = False
        """Whether it is overloaded now, or was a moment ago."""
        self.ceiling = math.inf
        """The load up to which more may start while it is not active."""
        self._limit_s = limit_s
        self._from_load = from_load
        self._loads: deque[int] = deque(maxlen=BUSY_OF_MEASURED)
        self._lateness: deque[float] = deque(maxlen=MEASURED)
        self._busy: deque[float] = deque(maxlen=BUSY_OF_MEASURED)
        self._base = math.inf
        """The ceiling as the last overload has left it."""
        self._doubled_s = DOUBLED_S
        self._calm_since = 0.0

    # Computed when needed: ten times a second, for every measurement, they would be a third of an idle process' CPU.

    @property
    def late_s(self) -> float:
        """How late a quarter of the latest timers were, at least."""
        return sorted(self._lateness)[-LATE_OF_MEASURED] if len(self._lateness) >= LATE_OF_MEASURED else 0.0

    @property
    def busy(self) -> float:
        """The part of the last second in which the event loop was busy, 0 to 1."""
        measured = sorted(self._busy)
        middle = len(measured) // 2
        return (measured[middle] + measured[~middle]) / 2 if measured else 0.0

    @property
    def settled(self) -> int:
        """The load that was up for the whole of that second, at least: what caused it."""
        return min(self._loads, default=0)

    @property
    def step(self) -> int:
        """The load up to which more may start before the next measurement."""
        settled, busy = self.settled, self.busy
        if settled >= self._from_load and busy > MAX_BUSY / 2:
            return math.floor(settled * MAX_BUSY / busy)
        return settled + max(settled, AT_ONCE * self._from_load)

    def measured(self, late_s: float, busy: float, load: int, now: float) -> None:
        """Take in one measurement.

        Args:
            late_s: how late a timer was, in seconds.
            busy: the part of the time since the one before in which the event loop was busy, 0 to 1.
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
        """Return why nothing may be added to ``load``; None: something may."""
        if not self._limit_s or load < self._from_load:
            return None
        if self.active or load + 1 > self.ceiling:
            return Overloaded(
                f"overloaded: no more than the {load} calls and streams that are up can be carried in time",
                retry_after_s=RETRY_AFTER_S,
            )
        if load + 1 > self.step:
            return Overloaded(
                f"too many calls and streams start at once: {load} are up, not all of them for a second",
                retry_after_s=1,
            )
        return None


class CallAdmission:
    """Decides for the whole process what may start.

    Args:
        max_streams: how many streams may be open at once.
        numbering: first number of a stream and the step to the next one, so that workers number differently.
        late_ms: lateness of timers from which nothing may start; 0: whatever the lateness is.
        late_from: calls and streams below which lateness refuses nothing.
        counters: counts overloads, and what is refused.
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
        """Streams that are open."""
        self.closing = False
        """The process stops: nothing new is started."""
        self.draining = False
        """The process stops when what is up has ended: only what belongs to that is started."""
        self.load: Callable[[], int] = lambda: self.open
        """Counts the calls or streams that are up, whichever are more."""
        self.on_free: Callable[[], object] = lambda: None
        """Called when more may start after something was refused."""
        self.overload = Overload(late_ms / 1000, late_from)
        self._max_streams = max_streams
        self._numbering = numbering
        self._counters = counters or Counters()
        self._waiting = False
        """Something was refused since `on_free` was called."""
        self._freed_at = -math.inf

    def numbers(self) -> Iterator[int]:
        """Return numbers for one kind of stream."""
        return itertools.count(*self._numbering)

    def may_start(self, streams: int = 1) -> bool:
        """Return whether a call or stream may start now.

        Args:
            streams: how many streams it begins with: 0 for a call that has none.
        """
        return self._refusal(streams, admitted=False) is None

    def check(self, streams: int = 1, *, admitted: bool = False) -> None:
        """Check that a call or stream may start now; count and note a refusal.

        Args:
            streams: how many streams it begins with: 0 for a call that has none.
            admitted: it belongs to a call that has been admitted, and is not refused because of lateness.

        Raises:
            Overloaded: it may not.
        """
        refusal = self._refusal(streams, admitted=admitted)
        if refusal is not None:
            self._waiting = True
            self._counters.starts_refused += 1
            raise refusal

    def measured(self, late_s: float, busy: float, now: float) -> None:
        """Take in one measurement, as `Overload.measured`."""
        was_active, load = self.overload.active, self.load()
        self.overload.measured(late_s, busy, load, now)
        if self.overload.active and not was_active:
            self._counters.overloads += 1
            log.warning(
                "overloaded, refusing new calls and streams: timers are %.0f ms late, the event loop is %.0f %% busy,"
                " calls and streams up: %d",
                self.overload.late_s * 1000,
                self.overload.busy * 100,
                load,
            )
        elif was_active and not self.overload.active:
            log.info("no longer overloaded, accepting calls and streams up to %.0f", self.overload.ceiling)
        if self._waiting and now - self._freed_at >= FREED_EVERY_S and self.may_start():
            self._waiting, self._freed_at = False, now
            self.on_free()

    def _refusal(self, streams: int, *, admitted: bool) -> Overloaded | None:
        if self.closing:
            return Overloaded("the bridge is shutting down")
        if self.draining and not admitted:
            return Overloaded(DRAINING, retry_after_s=RETRY_AFTER_S)
        if streams and self.open + streams > self._max_streams:
            return Overloaded(f"{self.open} streams are open and media.max_streams allows no more")
        return None if admitted else self.overload.refusal(self.load())
