"""What the media path counts: plain integers, incremented on the frame path and read by ``/metrics``."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

LAG_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0)
"""Upper limits in seconds: audio stutters from 0.02 on, and callers notice 0.1."""


@dataclass(slots=True)
class Histogram:
    """How many measurements were at most how large, as Prometheus has it.

    Args:
        limits: of the buckets, ascending; one without limit is added.
    """

    limits: tuple[float, ...] = LAG_BUCKETS
    counts: list[int] = field(default_factory=list)
    """In each bucket alone, not in those below it."""
    total: float = 0.0

    def __post_init__(self) -> None:
        """Begin with empty buckets."""
        self.counts = [0] * (len(self.limits) + 1)

    def add(self, value: float) -> None:
        """Count one measurement."""
        self.counts[bisect_left(self.limits, value)] += 1
        self.total += value


@dataclass(slots=True)
class Counters:
    """Totals of one process since it started. Each field is a count unless its name carries a unit."""

    legs_opened: int = 0
    """AudioSocket connections that named a UUID that we had asked for."""
    legs_refused: int = 0
    """AudioSocket connections that named no UUID in time, or one that nobody had asked for."""
    frames_from_asterisk: int = 0
    frames_to_asterisk: int = 0
    """Frames written to Asterisk, silence included."""
    silent_frames_to_asterisk: int = 0
    """Those of them that were silence because nothing was queued."""
    ticks_skipped: int = 0
    """Frames not written because the process was held up for longer than the catch-up allows."""
    frames_blocked: int = 0
    """Frames not written because Asterisk did not read."""
    protocol_errors: int = 0
    """AudioSocket connections ended because of bytes that make no sense."""
    tokens_rejected: int = 0
    """Requests that were refused because they had no good token or other credential."""
    streams_opened: int = 0
    starts_refused: int = 0
    """Calls and streams that were refused: the process was overloaded, a limit was reached, or it was stopping."""
    overloads: int = 0
    """Times that the process became overloaded."""
    messages_from_application: int = 0
    messages_to_application: int = 0
    messages_dropped: int = 0
    """Audio messages thrown away, oldest first, because the application did not read."""
    dropped_to_application_ms: float = 0.0
    """How much audio those messages held, in milliseconds."""
    dropped_from_application_ms: float = 0.0
    """Audio from applications beyond ``media.max_queued_ms``, in milliseconds."""
    marks_dropped: int = 0
    """Marks of applications that set more than can wait in a playout."""
    taps_renewed: int = 0
    """Taps that were closed and opened again because the partner of their party had changed."""
    silences_repaired: int = 0
    """Parties whose taps were silent although their partner was heard, and were therefore opened again."""
    keys_dropped: int = 0
    """Keys that applications wanted pressed faster than a party could hear them."""
    loop_lag: Histogram = field(default_factory=Histogram)
    """How late timers of the event loop are, in seconds (`bridge.media.lag`)."""
    worker_messages_dropped: int = 0
    """Messages between this worker and the supervisor that were too long, or no JSON."""
    events_delivered: int = 0
    """Events that a webhook's server has taken."""
    event_attempts_failed: int = 0
    """Attempts to deliver one that did not succeed."""
    events_dropped: int = 0
    """Events that a webhook's server will never get."""
