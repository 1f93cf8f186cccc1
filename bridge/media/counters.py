"""Counters of the media path: plain integers, incremented on the frame path and read by ``/metrics``."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

LAG_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0)
"""Upper limits in seconds: from 0.02 audio stutters, and callers notice 0.1."""


@dataclass(slots=True, eq=False, repr=False)
class Histogram:
    """A histogram as in Prometheus.

    Args:
        limits: of the buckets, ascending; one without limit is added.
    """

    limits: tuple[float, ...] = LAG_BUCKETS
    counts: list[int] = field(default_factory=list)
    """Count of each bucket alone, without the buckets below."""
    total: float = 0.0

    def __post_init__(self) -> None:
        """Begin with empty buckets."""
        self.counts = [0] * (len(self.limits) + 1)

    def add(self, value: float) -> None:
        """Count one measurement."""
        self.counts[bisect_left(self.limits, value)] += 1
        self.total += value


@dataclass(slots=True, eq=False, repr=False)
class Counters:
    """Totals of one process since its start. Each field is a count unless its name has a unit."""

    legs_opened: int = 0
    """AudioSocket connections with an expected UUID."""
    legs_refused: int = 0
    """AudioSocket connections without a UUID in time, or with an unexpected one."""
    frames_from_asterisk: int = 0
    frames_to_asterisk: int = 0
    """Frames written to Asterisk, silence included."""
    silent_frames_to_asterisk: int = 0
    """Frames of silence among them, as nothing was queued."""
    ticks_skipped: int = 0
    """Frames not written because the process was delayed for longer than can be caught up."""
    frames_blocked: int = 0
    """Frames not written because Asterisk did not read."""
    protocol_errors: int = 0
    """AudioSocket connections ended because of invalid data."""
    tokens_rejected: int = 0
    """Requests rejected for an invalid or missing token or other credential."""
    streams_opened: int = 0
    starts_refused: int = 0
    """Calls and streams that were refused: overload, a limit, or shutdown."""
    overloads: int = 0
    """Number of times that the process became overloaded."""
    messages_from_application: int = 0
    messages_to_application: int = 0
    messages_dropped: int = 0
    """Audio messages dropped, oldest first, because the application did not read."""
    dropped_to_application_ms: float = 0.0
    """Audio in those messages, in milliseconds."""
    dropped_from_application_ms: float = 0.0
    """Audio from applications beyond ``media.max_queued_ms``, in milliseconds."""
    rate_mismatches: int = 0
    """Streams whose application sends audio at the speed of another format than agreed."""
    marks_dropped: int = 0
    """Marks dropped because too many were pending."""
    taps_renewed: int = 0
    """Taps reopened because their party's peer had changed."""
    silences_repaired: int = 0
    """Taps reopened because they received only silence while the peer sent audio."""
    keys_dropped: int = 0
    """DTMF digits dropped because applications sent them faster than they can be played."""
    loop_lag: Histogram = field(default_factory=Histogram)
    """Lateness of timers of the event loop, in seconds (`bridge.media.loop_lag`)."""
    worker_messages_dropped: int = 0
    """Messages between this worker and the supervisor dropped because they were too long or not JSON."""
    events_delivered: int = 0
    """Events that a webhook's server has accepted."""
    event_attempts_failed: int = 0
    """Failed attempts to deliver an event."""
    events_dropped: int = 0
    """Events that a webhook's server will never receive."""
