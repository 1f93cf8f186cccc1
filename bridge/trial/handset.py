"""The caller's handset: a media leg whose other side is this object instead of Asterisk."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable

from bridge.audio.adaptive_lead import AdaptiveLead
from bridge.audio.format import AudioFormat, slin
from bridge.audio.playout import Playout
from bridge.audio.sound import Sound
from bridge.media.counters import Counters
from bridge.media.leg import MediaLeg
from bridge.trial.pace import Pace

MAX_QUEUED_MS = 60_000
LEAD_MS = (20, 100)
"""As in the configuration's defaults."""
AUDIBLE = 300
"""Smallest amplitude that counts as sound, of 32767: noise of idle lines stays below."""


class ObservedPlayout(Playout):
    """A playout that measures what the application sends and clears."""

    __slots__ = ("cleared_at", "cleared_ms", "offered_ms", "pace")

    def __init__(self, fmt: AudioFormat) -> None:
        super().__init__(fmt, MAX_QUEUED_MS, lead=AdaptiveLead(*LEAD_MS, time.monotonic))
        self.pace = Pace()
        self.offered_ms = 0.0
        self.cleared_at = float("-inf")
        self.cleared_ms = 0.0

    def play(self, pcm: bytes, rate: int | None = None, follows: bool = False) -> int:
        """Queue whole samples, and measure them."""
        duration_ms = slin(rate or self.fmt.rate).duration_ms(len(pcm))
        self.offered_ms += duration_ms
        self.pace.add(duration_ms, time.monotonic())
        return super().play(pcm, rate, follows)

    def clear(self) -> list[str]:
        """Empty the queue, and note when and how much."""
        self.cleared_at, self.cleared_ms = time.monotonic(), self.queued_ms
        return super().clear()


class Handset:
    """Plays the frames that a leg writes, and sends one frame for each, as Asterisk does.

    Args:
        rate: sampling rate of the leg in Hz.
        on_frame: called every 20 ms with the frame that the caller sends and the one that the caller hears.
    """

    def __init__(self, rate: int, on_frame: Callable[[bytes, bytes], None]) -> None:
        self.fmt = slin(rate)
        self.playout = ObservedPlayout(self.fmt)
        self.leg = MediaLeg(self.fmt, self.playout, Counters())
        self._on_frame = on_frame
        self._silence = self.fmt.silence(self.fmt.frame_bytes)
        self._speaking: deque[bytes] = deque()
        self._heard: list[float] = []  # times of audible frames

    # For the leg

    def write(self, message: bytes) -> None:
        """Store a received frame, and send one."""
        heard = message[len(self.leg.header) :]
        samples = memoryview(heard).cast("h")
        if max(samples) >= AUDIBLE or min(samples) <= -AUDIBLE:
            self._heard.append(time.monotonic())
        self._on_frame(self._speaking.popleft() if self._speaking else self._silence, heard)

    def hang_up(self) -> None:
        """Do nothing: the caller decides when the call ends."""

    def hand_over(self, leg: MediaLeg) -> None:
        """Do nothing: a trial has one leg."""

    # For the script

    def speak(self, sound: Sound) -> None:
        """Send a sound from now on."""
        pcm, size = sound.at(self.fmt.rate).pcm, self.fmt.frame_bytes
        frames = (pcm[at : at + size] for at in range(0, len(pcm), size))
        self._speaking.extend(frame.ljust(size, b"\0") for frame in frames)

    @property
    def speaks(self) -> bool:
        """Whether a sound is being sent."""
        return bool(self._speaking)

    def received_since(self, since: float) -> float | None:
        """Return when sound was first received at or after ``since``; None if never."""
        at = bisect_left(self._heard, since)
        return self._heard[at] if at < len(self._heard) else None

    @property
    def quiet_s(self) -> float:
        """Time since the last sound in seconds; infinite if there was none."""
        return time.monotonic() - self._heard[-1] if self._heard else float("inf")
