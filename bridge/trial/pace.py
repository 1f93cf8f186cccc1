"""How fast an application sends audio: a wrong sampling rate or encoding shows as a wrong amount per time. Pure."""

from __future__ import annotations

from msgspec import Struct

PAUSE_S = 0.3
"""Time without audio that ends a talkspurt, in seconds."""
MIN_RUN_S = 1.0
"""Duration of the shortest talkspurt that is judged, in seconds."""
MIN_MESSAGES = 8
"""Messages of the shortest talkspurt that is judged: few long ones are sent ahead of time."""
REAL_TIME = (0.9, 1.1)


class Talkspurt(Struct, frozen=True):
    """Audio without a pause.

    Args:
        seconds: how long it took to arrive.
        ratio: duration of the audio in relation to that time.
    """

    seconds: float
    ratio: float

    @property
    def is_real_time(self) -> bool:
        """Whether the audio arrives as fast as it is played."""
        return REAL_TIME[0] <= self.ratio <= REAL_TIME[1]


class Pace:
    """Measures the longest talkspurt of audio."""

    def __init__(self) -> None:
        self._longest: Talkspurt | None = None
        self._began = self._last = 0.0
        self._messages = 0
        self._before_last_ms = 0.0
        self._last_ms = 0.0

    def add(self, duration_ms: float, now: float) -> None:
        """Add the audio of one message.

        Args:
            duration_ms: its duration as it will be played, in milliseconds.
            now: seconds on a monotonic clock.
        """
        if self._messages and now - self._last > PAUSE_S:
            self._finish()
        if not self._messages:
            self._began, self._before_last_ms, self._last_ms = now, 0.0, 0.0
        self._messages += 1
        self._before_last_ms += self._last_ms
        self._last, self._last_ms = now, duration_ms

    @property
    def longest(self) -> Talkspurt | None:
        """The longest talkspurt so far; None if none is long enough."""
        self._finish(ends=False)
        return self._longest

    def _finish(self, *, ends: bool = True) -> None:
        seconds = self._last - self._began
        if self._messages >= MIN_MESSAGES and seconds >= MIN_RUN_S:
            # Without the last message: its audio is due after it.
            spurt = Talkspurt(seconds, self._before_last_ms / 1000 / seconds)
            if self._longest is None or spurt.seconds > self._longest.seconds:
                self._longest = spurt
        if ends:
            self._messages = 0
