"""How fast audio from an application arrives: a wrong sampling rate or encoding shows as a wrong amount per time. Pure.

Sending ahead of time is legitimate at any speed, and so are pauses. So only two things are reported: audio that
arrives without a pause but too slowly, which leaves holes, and audio that overflows the queue again and again; both
only near the speed that audio of another usual format would have.
"""

from __future__ import annotations

from itertools import pairwise

from msgspec import Struct

RATES = (8000, 16000, 24000, 44100, 48000)
"""Sampling rates in Hz that senders confuse."""
G711_RATE = 8000
TOLERANCE = 0.06
"""Largest deviation from a speed that still counts as that speed, as a share."""
SECOND_TOLERANCE = 0.25
"""The same for a single second, of which one message may be a large part."""
TOO_SLOW = 0.9
"""Speed below which audio leaves holes; between this and 1, the sender's timer is imprecise."""
TOO_FAST = 1.1
CALM_S = 1.0
"""Time between two samples, in seconds."""
CLOSE_S = 0.1
"""Time between two samples while audio may be too slow, in seconds."""
MAX_EMPTY = 1
"""Consecutive close samples without audio that are not a pause yet."""
SLOW_S = 4
"""Whole seconds without a pause after which a sender is too slow."""
FULL_S = 10
"""Whole seconds without a pause since the queue overflowed, after which a sender is too fast."""
QUEUED_MS = 500
"""Queued audio in milliseconds with which a slow sender leaves no holes yet."""


def another_format(speed: float, rate: int) -> str:
    """Return the format whose audio arrives at this speed if it is taken for the agreed one; empty: none.

    Args:
        speed: duration of the audio as it is played, in relation to the time in which it arrived.
        rate: the agreed sampling rate in Hz.
    """
    speeds = {f"audio at {each} Hz": each / rate for each in RATES}
    speeds["G.711"] = G711_RATE / rate / 2  # one byte for each sample instead of two
    if rate == G711_RATE:
        speeds |= {f"s16le at {each} Hz": 2 * each / rate for each in RATES}
    near = {name: abs(speed / each - 1) for name, each in speeds.items()}
    best = min(near, key=near.__getitem__)
    return best if near[best] <= TOLERANCE and not TOO_SLOW <= speed <= TOO_FAST else ""


class Sample(Struct, frozen=True):
    """Totals of a stream.

    Args:
        now: seconds on a monotonic clock.
        arrived_ms: audio that has arrived, in milliseconds, refused audio included.
        refused_ms: audio that did not fit into the queue, in milliseconds.
        queued_ms: audio that waits, in milliseconds.
    """

    now: float
    arrived_ms: float
    refused_ms: float
    queued_ms: float

    def speed_since(self, earlier: Sample) -> float:
        """Return the duration of the audio that has arrived in relation to the time; negative: not comparable."""
        elapsed_ms = 1000 * (self.now - earlier.now)
        return (self.arrived_ms - earlier.arrived_ms) / elapsed_ms if elapsed_ms > 0 else -1.0


class Arrival:
    """Judges samples of a stream, of which the next is due `wait_s` later.

    Args:
        rate: the agreed sampling rate in Hz.

    Attributes:
        wait_s: time until the next sample, in seconds.
    """

    __slots__ = ("_empty", "_last", "_rate", "_seconds", "wait_s")

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self.wait_s = CALM_S
        self._last: Sample | None = None
        self._seconds: list[Sample] = []  # the first sample of a run, and one at the end of each whole second
        self._empty = 0

    def add(self, sample: Sample) -> str:
        """Judge the next sample; return the finding, for the application's author, or an empty string."""
        last, self._last = self._last, sample
        if last is None or sample.speed_since(last) < 0:
            self._begin()
            return ""
        if self.wait_s == CLOSE_S:
            return self._look_closely(last, sample)
        return self._look(last, sample)

    def _begin(self, *first: Sample, wait_s: float = CALM_S) -> None:
        self._seconds, self._empty, self.wait_s = list(first), 0, wait_s

    def _look(self, last: Sample, sample: Sample) -> str:
        """Judge about a second."""
        overflows = sample.refused_ms > last.refused_ms
        if overflows or (self._seconds and sample.speed_since(last) > TOO_FAST):
            self._seconds = [*(self._seconds or [last]), sample]
            return self._finding(FULL_S)
        self._begin()
        if 0 < sample.speed_since(last) < TOO_SLOW and sample.queued_ms < QUEUED_MS:
            self._begin(sample, wait_s=CLOSE_S)
        return ""

    def _look_closely(self, last: Sample, sample: Sample) -> str:
        """Judge a fraction of a second: a pause, or enough audio, ends the suspicion."""
        self._empty = 0 if sample.arrived_ms > last.arrived_ms else self._empty + 1
        if self._empty > MAX_EMPTY or sample.queued_ms >= QUEUED_MS:
            self._begin()
            return ""
        if sample.now - self._seconds[-1].now < CALM_S:
            return ""
        self._seconds.append(sample)
        if sample.speed_since(self._seconds[-2]) >= TOO_SLOW:
            self._begin()
            return ""
        return self._finding(SLOW_S)

    def _finding(self, needed_s: int) -> str:
        """Judge a run once it is long enough; the next one begins."""
        run = self._seconds
        if len(run) <= needed_s:
            return ""
        self._begin()
        speed = run[-1].speed_since(run[0])
        steady = all(
            abs(later.speed_since(earlier) / speed - 1) <= SECOND_TOLERANCE for earlier, later in pairwise(run)
        )
        found = another_format(speed, self._rate) if steady else ""
        return f"{speed:.2f} times real time, as {found} would" if found else ""
