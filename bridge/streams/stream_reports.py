"""What a stream reports: its entry in lists, and in the log its connection, end, and the application's mistakes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any, Protocol

from bridge.audio.arrival import Arrival, Sample
from bridge.audio.format import slin
from bridge.dialects.base import CallInfo, Dialect, Message
from bridge.logs import Fields, cause
from bridge.media.counters import Counters
from bridge.media.dial import GOING_AWAY, clean
from bridge.media.pump import Pump
from bridge.media.websocket import Link
from bridge.streams.invalid_messages import describe
from bridge.streams.origin import Origin

log = logging.getLogger(__name__)

SERVICE_RESTART = 1012
"""The WebSocket's close code when the process stops: a new process takes over, so clients should reconnect."""
_STOPPING = (GOING_AWAY, SERVICE_RESTART)
"""Close codes of a client or process that stops: its streams have not failed."""
REPORT_S = 1.0
"""Minimum interval between two reports of the same kind about a stream, in seconds."""


class Reported(Protocol):
    """A stream (`bridge.streams.stream.Stream`)."""

    stream_id: str
    origin: Origin
    call: CallInfo
    dialect: Dialect
    link: Link | None
    tracks: Any
    opened_at: float
    connects: int
    trouble: str | None
    close_code: int
    reports: InputReports

    @property
    def name(self) -> Fields:
        """The stream's fields in log lines."""

    @property
    def live(self) -> bool:
        """Whether the WebSocket is open and audio of every track flows."""

    @property
    def sensitive(self) -> bool:
        """Whether the application receives silence."""

    @property
    def queued_ms(self) -> float:
        """Audio that waits to be played, in milliseconds."""

    @property
    def dropped_ms(self) -> float:
        """Audio lost because the application did not read, in milliseconds."""


def described(stream: Reported, pump: Pump) -> Mapping[str, object]:
    """Return the entry of a stream in lists (`bridge.api.models.streams.Stream`)."""
    dialect, origin = stream.dialect, stream.origin
    fmt, tally = slin(dialect.rate), dialect.tally
    return {
        "id": stream.stream_id,
        "call_id": stream.call.call_id,
        "channel_id": origin.party_id,
        "conference_id": origin.conference_id,
        "started_by": origin.started_by,
        "principal": origin.principal.id,
        "dialect": dialect.name,
        "direction_listen": origin.direction_listen,
        "tracks": [{"name": each.name, "channel_id": each.channel_id} for each in stream.tracks.received],
        "live": stream.live,
        "trouble": stream.trouble,
        "connects": stream.connects,
        "sensitive": stream.sensitive,
        "opened_at": stream.opened_at,
        "queued_ms": round(pump.queued_ms),
        "unsent_ms": round(stream.link.unsent_ms) if stream.link is not None else 0,
        "dropped_to_application_ms": round(pump.missed_ms + stream.dropped_ms),
        "dropped_from_application_ms": round(pump.dropped_ms),
        "discarded_messages": dialect.discarded,
        "missed_messages": pump.missed_messages,
        "padded_frames": pump.padded_frames,
        "rate_mismatch": stream.reports.rate_mismatch,
        "filled_ms": round(fmt.duration_ms(tally.filled_bytes)),
        "skipped_ms": round(fmt.duration_ms(tally.dropped_bytes)),
    }


def ended_well(stream: Reported) -> bool:
    """Return whether an ended stream was connected, and neither its connection nor its application has failed."""
    return bool(stream.connects) and (clean(stream.close_code) or stream.close_code in _STOPPING)


def refused(stream: Reported, error: Exception) -> None:
    """Log that the application refuses a stream."""
    log.warning("stream refused by the application %s error=%s", stream.name, error, extra=_cause(stream, error))


def disconnected(stream: Reported, reason: str) -> None:
    """Log why a stream has no connection, which is retried."""
    log.warning("stream not connected, retrying %s error=%s", stream.name, reason, extra=_cause(stream, reason))


def gave_up(stream: Reported, error: Exception, trouble: str) -> None:
    """Log that connecting is not retried any more.

    Args:
        stream: the stream, which ends.
        error: the limit.
        trouble: why there was no connection most recently.
    """
    log.warning(
        "stream ends, no stable connection %s reason=%s error=%s",
        *(stream.name, error, trouble),
        extra=_cause(stream, trouble),
    )


def ended(stream: Reported, pump: Pump, reason: str) -> None:
    """Log the end of a stream."""
    log.info(
        "stream ended %s code=%d missed_ms=%.0f dropped_to_application_ms=%.0f dropped_from_application_ms=%.0f"
        " discarded_messages=%d reason=%s",
        *(stream.name, stream.close_code),
        *(pump.missed_ms, stream.dropped_ms, pump.dropped_ms),
        *(stream.dialect.discarded, reason),
    )


def _cause(stream: Reported, reason: object) -> dict[str, str]:
    """Return the cause by which the log groups repeated lines: an application may have many streams."""
    return cause(f"{stream.origin.started_by} {reason}")


class InputReports:
    """Logs messages from the application that a stream does not accept, at most once a second, and wrong rates, once.

    Args:
        stream: the stream.
        counters: the process's counters.

    Attributes:
        rate_mismatch: how fast audio arrives, if that is the speed of another format; else None.
    """

    def __init__(self, stream: Reported, counters: Counters) -> None:
        self._stream = stream
        self._counters = counters
        self._timer: asyncio.TimerHandle | None = None
        self.rate_mismatch: str | None = None
        self._discarded_at = self._refused_at = float("-inf")

    def discarded(self, message: Message, expected: str) -> None:
        """Log an invalid message, or a part of one."""
        now = time.monotonic()
        if now - self._discarded_at >= REPORT_S:  # one message may have thousands of invalid parts
            self._discarded_at = now
            log.warning(
                "message from the application discarded %s type=%s expected=%s",
                *(self._stream.name, describe(message), expected),
                extra=cause(self._stream.stream_id),
            )

    def refused(self, duration_ms: float) -> None:
        """Log audio that does not fit into the queue."""
        now = time.monotonic()
        if now - self._refused_at >= REPORT_S:
            self._refused_at = now
            log.warning(
                "audio from the application refused, playout queue full %s refused_ms=%.0f queued_ms=%.0f",
                *(self._stream.name, duration_ms, self._stream.queued_ms),
                extra=cause(self._stream.stream_id),
            )

    def begin(self, pump: Pump) -> None:
        """Log the beginning of the stream, and judge from now on how fast the application's audio arrives."""
        log.info("stream begins %s", self._stream.name)
        if self._stream.dialect.two_way:
            self._sample(pump, Arrival(self._stream.dialect.rate))

    def _sample(self, pump: Pump, arrival: Arrival) -> None:
        # By a timer instead of with each message: the frame path only counts.
        loop = asyncio.get_running_loop()
        found = arrival.add(Sample(loop.time(), pump.arrived_ms, pump.dropped_ms, pump.queued_ms))
        if not found:
            self._timer = loop.call_later(arrival.wait_s, self._sample, pump, arrival)
            return
        self._timer = None
        self.rate_mismatch = found
        self._counters.rate_mismatches += 1
        log.warning(
            "audio from the application arrives at the wrong rate %s received=%s expected=%s",
            *(self._stream.name, found, f"{self._stream.dialect.expected}: audio at {self._stream.dialect.rate} Hz"),
            extra=cause(self._stream.stream_id),
        )

    def end(self) -> None:
        """Stop, and drop the references to the stream."""
        self._stream.dialect.on_discarded = None
        if self._timer is not None:
            self._timer.cancel()
        del self._stream
