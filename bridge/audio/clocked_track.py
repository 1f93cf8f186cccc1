"""Turns audio that arrives irregularly into audio that lasts exactly as long as the clock.

Applications count samples to measure time, so a track has one sample for every sample period. Asterisk sends silence
too, and a track that it sends regularly passes unchanged. Filling is for legs that are late, streams that Asterisk
pauses (hold, a party without media), and stalls, after which delayed audio arrives in a burst.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bridge.audio.format import FRAME_MS, AudioFormat
from bridge.audio.framing import Framer
from bridge.audio.raw import WholeSamples

LATE_MS: Final = 200
"""Audio may lag the clock by this much before the difference counts as missing."""
GRACE_S: Final = 0.06
"""Time in seconds that audio after a gap is held, to distinguish a gap from a stall.

After a stall everything arrives in a burst and takes the time that it was recorded at: while it arrives faster than the
clock, or was not read at all, the wait begins again. After a gap, silence fills that time.
"""
HOLD_S: Final = 1.0
"""The longest wait, in seconds."""
AHEAD_MS: Final = 40
"""Audio may be this much ahead of the clock before some is dropped."""
MAX_FILL_MS: Final = 60_000
"""Longest silence inserted in one step, in ms. The rest of a longer one is skipped: an hour is 100 MB of JSON."""

DEAF_S: Final = 0.5
"""Time in seconds without a call for a track, after which audio of another track advances its time.

An open leg calls every 20 ms, with audio or without, after reading all audio that waited in its socket. Audio of
another track proves nothing: after a stall it may be read long before this track's.
"""

_ASLEEP_S = 0.1  # seconds without any call: perhaps a stall of this process, with audio still in the sockets


@dataclass(slots=True)
class FillCounters:
    """Totals of the audio that tracks have inserted and dropped."""

    filled_bytes: int = 0
    """Inserted silence."""
    dropped_bytes: int = 0
    """Dropped audio that was ahead of the clock."""


class ClockedTrack:
    """Cuts one track into chunks of one size and keeps it in step with the clock: fills gaps, drops excess.

    The clock is ``now``, in seconds on a monotonic clock. A track whose audio has stopped advances only by calls:
    ``push`` with empty audio from its own leg, or ``wait`` from another track.

    Args:
        fmt: the slin format, in and out.
        chunk_ms: length of every chunk, in milliseconds.
        now: start of the track.
        ahead_ms: limit of audio ahead of the clock, in milliseconds; at least a frame.
        tally: receives the totals of inserted and dropped audio.

    Attributes:
        began: start of the track.
    """

    __slots__ = (
        "_ahead",
        "_awake",
        "_behind",
        "_filled",
        "_frame",
        "_framer",
        "_held",
        "_held_bytes",
        "_held_since",
        "_late",
        "_max_fill",
        "_origin",
        "_rate",
        "_release_at",
        "_seen",
        "_sent",
        "_tally",
        "_waited",
        "_waiting",
        "_whole",
        "began",
    )

    def __init__(
        self,
        fmt: AudioFormat,
        chunk_ms: int,
        now: float,
        *,
        ahead_ms: int = AHEAD_MS,
        tally: FillCounters | None = None,
    ) -> None:
        self.began = now
        self._tally = tally or FillCounters()
        self._origin = now  # the time of the first sample; moves only when MAX_FILL_MS skips time
        self._rate = fmt.rate
        self._frame = fmt.frame_bytes
        self._late = fmt.bytes_of(LATE_MS)
        self._ahead = fmt.bytes_of(max(ahead_ms, FRAME_MS)) + fmt.bytes_of(1)  # clocks are not exact to the sample
        self._max_fill = fmt.bytes_of(MAX_FILL_MS)
        self._framer = Framer(fmt.bytes_of(chunk_ms))
        self._whole = WholeSamples()
        self._sent = 0  # bytes of the track so far, inserted silence included
        self._filled = False  # the last of them are inserted: the audio has stopped
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._held_since = 0.0
        self._release_at = 0.0
        self._behind = 0  # bytes that were missing when the last audio was held
        self._seen = now  # the last call
        self._awake = now  # start of the current run of regular calls
        self._waited = now  # the last call for another track
        self._waiting = now  # start of their current regular run

    def push(self, pcm: bytes, now: float) -> list[bytes]:
        """Return the chunks that ``pcm`` completes; with empty ``pcm``, those that the clock completes."""
        slept = now - self._seen
        if slept > _ASLEEP_S:
            self._awake = now
        self._seen = now
        if len(pcm) & 1 or self._whole.half:
            pcm = self._whole.push(pcm)
        if not pcm:
            return self._pass_time(now)
        clock = self._clock(now)
        behind = clock - self._sent - len(pcm)
        if self._held or self._filled or behind > self._late:
            return self._hold(pcm, now, clock, slept)
        if behind < -self._ahead:
            # At least a whole frame: one click in minutes instead of a buzz from a few samples of every frame.
            excess = max(-behind - self._ahead, self._frame)
            self._tally.dropped_bytes += min(excess, len(pcm))
            pcm = pcm[excess:]
        self._sent += len(pcm)
        return self._framer.push(pcm)

    def wait(self, now: float) -> list[bytes]:
        """Return the chunks that the clock completes while other tracks receive audio; none if this one does."""
        if now - self._waited > _ASLEEP_S:
            self._waiting = now
        self._waited = now
        if now - self._seen < DEAF_S or now - self._waiting < DEAF_S:
            return []
        return self._pass_time(now)

    def finish(self, now: float) -> tuple[list[bytes], bytes]:
        """Return the last chunks and the remainder; a gap of at most a frame before ``now`` is not filled."""
        clock = self._clock(now)
        chunks = self._release(clock) if self._held else []
        missing = self._clock(now) - self._sent
        if missing >= self._frame:
            chunks += self._fill(missing)
        rest = self._framer.rest()
        if missing < 0:
            excess = min(-missing, len(rest))
            self._tally.dropped_bytes += excess
            self._sent -= excess
            rest = rest[: len(rest) - excess]
        return chunks, rest

    def _clock(self, now: float) -> int:
        """Return the bytes that the track should have at ``now``."""
        return round((now - self._origin) * self._rate) * 2

    def _pass_time(self, now: float) -> list[bytes]:
        if self._held:
            return self._release(self._clock(now)) if now >= self._release_at else []
        missing = self._clock(now) - self._sent - self._late
        if missing < self._frame or now - self._awake < GRACE_S:
            return []
        self._filled = True
        return self._fill(missing - missing % self._frame)

    def _hold(self, pcm: bytes, now: float, clock: int, slept: float) -> list[bytes]:
        first = not self._held
        if first:
            self._held_since = now
        self._held.append(pcm)
        self._held_bytes += len(pcm)
        before, self._behind = self._behind, clock - self._sent - self._held_bytes
        if first or slept > GRACE_S or self._behind <= before - self._frame // 2:
            self._release_at = min(now + GRACE_S, self._held_since + HOLD_S)
        caught_up = not self._filled and self._behind <= self._late
        return self._release(clock) if caught_up or now >= self._release_at else []

    def _release(self, clock: int) -> list[bytes]:
        """Return the held audio, placed by the time of its end: after silence, or cut where silence was sent."""
        pcm = b"".join(self._held)
        missing = clock - self._sent - len(pcm)
        bearable = 0 if self._filled else self._late
        self._held = []
        self._held_bytes = 0
        self._filled = False
        chunks = self._fill(missing) if missing > bearable else []
        if missing < -self._ahead:
            self._tally.dropped_bytes += min(-missing, len(pcm))
            pcm = pcm[-missing:]
        self._sent += len(pcm)
        return chunks + self._framer.push(pcm)

    def _fill(self, size: int) -> list[bytes]:
        if size > self._max_fill:
            self._origin += (size - self._max_fill) / 2 / self._rate
            size = self._max_fill
        self._sent += size
        self._tally.filled_bytes += size
        return self._framer.push(bytes(size))
