"""Audio that comes when it likes in, audio that lasts as long as the clock says out.

Applications count samples to know the time, so a track has one sample for every sample of time. Asterisk sends silence
too, and a track that is heard needs nothing of this. What it is for: legs that are late, streams of Asterisk that pause
(hold, a party without traffic), and stalls on the way, whose audio comes later and all at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bridge.audio.format import FRAME_MS, AudioFormat
from bridge.audio.framing import Framer
from bridge.audio.raw import WholeSamples

LATE_MS: Final = 200
"""Audio may be this much behind the clock before the rest is taken for missing."""
GRACE_S: Final = 0.06
"""How long audio that comes after a gap is held, in seconds, to see whether it was a gap or a stall.

After a stall everything comes at once, and takes the place that it was made for: as long as it comes faster than the
clock, or nobody has read it, the wait begins again. After a gap silence takes that place.
"""
HOLD_S: Final = 1.0
"""The longest wait."""
AHEAD_MS: Final = 40
"""Audio may be this much ahead of the clock before some is thrown away."""
MAX_FILL_MS: Final = 60_000
"""The longest silence that is made up at once. Of a longer one the rest is left out: an hour is 100 MB of JSON."""

DEAF_S: Final = 0.5
"""How long a track must not have been called itself before the audio of another one lets its time pass, in seconds.

A leg that is open calls every 20 ms, whether audio came or not, after the audio that waited in its socket has been
read. The audio of another track is no proof of that: after a stall it may be read long before this track's.
"""

_ASLEEP_S = 0.1  # nobody called for so long: a stall of this process perhaps, whose audio is waiting in the sockets


@dataclass(slots=True)
class Tally:
    """What tracks have added and left out."""

    filled_bytes: int = 0
    """Silence that was made up."""
    dropped_bytes: int = 0
    """Audio that the clock had no room for."""


class SteadyTrack:
    """Cuts one track into chunks of one size and keeps it at the clock: silence for what is missing, no more than fits.

    The clock is ``now``, in seconds on a monotonic clock, and is looked at in every call. A track whose audio has
    stopped continues only when somebody calls: its own leg ``push`` with nothing, or another track ``wait``.

    Args:
        fmt: the slin format, in and out.
        chunk_ms: how long every chunk is, in milliseconds.
        now: when the track begins.
        ahead_ms: how far the track may be ahead of the clock, in milliseconds; a frame at least.
        tally: what the track adds and leaves out is counted here.

    Attributes:
        began: when the track began.
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
        self, fmt: AudioFormat, chunk_ms: int, now: float, *, ahead_ms: int = AHEAD_MS, tally: Tally | None = None
    ) -> None:
        self.began = now
        self._tally = tally or Tally()
        self._origin = now  # the time of the first sample; moves only over what MAX_FILL_MS leaves out
        self._rate = fmt.rate
        self._frame = fmt.frame_bytes
        self._late = fmt.bytes_of(LATE_MS)
        self._ahead = fmt.bytes_of(max(ahead_ms, FRAME_MS)) + fmt.bytes_of(1)  # clocks are not exact to the sample
        self._max_fill = fmt.bytes_of(MAX_FILL_MS)
        self._framer = Framer(fmt.bytes_of(chunk_ms))
        self._whole = WholeSamples()
        self._sent = 0  # bytes of the track so far: its own and made up
        self._filled = False  # the last of them are made up: the audio is away
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._held_since = 0.0
        self._release_at = 0.0
        self._behind = 0  # bytes that were missing when the last audio was held
        self._seen = now  # the last call
        self._awake = now  # since when calls come regularly
        self._waited = now  # the last call for another track
        self._waiting = now  # since when those come regularly

    def push(self, pcm: bytes, now: float) -> list[bytes]:
        """The chunks that ``pcm`` completes, or that time completes when it is empty."""
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
            # A whole frame at least: a few samples out of every frame would be a buzz, this is one click in minutes.
            excess = max(-behind - self._ahead, self._frame)
            self._tally.dropped_bytes += min(excess, len(pcm))
            pcm = pcm[excess:]
        self._sent += len(pcm)
        return self._framer.push(pcm)

    def wait(self, now: float) -> list[bytes]:
        """Return the chunks that time completes, now that another track has been called: none while this one is."""
        if now - self._waited > _ASLEEP_S:
            self._waiting = now
        self._waited = now
        if now - self._seen < DEAF_S or now - self._waiting < DEAF_S:
            return []
        return self._pass_time(now)

    def finish(self, now: float) -> tuple[list[bytes], bytes]:
        """The last chunks, and what is left and fills none. Less than a frame of the time up to ``now`` is left out."""
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
        """Bytes that the track should have at ``now``."""
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
        """What was held, at the place in time that its end says: after silence, or without what silence stands for."""
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
