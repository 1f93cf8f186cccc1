"""How much audio to buffer for one sender, and how much of its backlog to recover. Pure: the clock is an argument."""

from __future__ import annotations

import math
from collections.abc import Callable

from bridge.audio.cut_budget import CutBudget
from bridge.audio.format import FRAME_MS

AHEAD_FRAMES = 15
"""A sender that is ever further ahead of real time than this, in frames, is not live."""
STALL_FRAMES = 150
"""A longer silence is a pause: audio after it is not late."""
HOLE_FRAMES = 25
"""A longer silence is a stall, which no lead could have covered."""
GROWTH_FRAMES = 2
"""Largest growth of the lead for one hole."""
WINDOW_TICKS = 25
"""Ticks after which the depth of the queue is judged."""
DRAINED_FRAMES = 8
"""A sender whose queue becomes shorter by more than this in a window does not send in real time."""
LIVE_WINDOWS = 6
"""Windows in real time after which a sender is considered live."""
CALM_WINDOWS = 40
"""Windows with a frame to spare at every tick after which the lead shrinks; doubled with each hole..."""
MOST_CALM_WINDOWS = 320
"""... up to this."""
MARGIN_S = 0.004
"""Smallest age of the first audio when it is played: a tick right after it would leave no time for the next."""


class AdaptiveLead:
    """The lead of one sender, judged by the depth of its queue at each tick; times are in frames of 20 ms.

    A hole is silence that the sender makes up for: its audio was late. Silence that it does not make up for is a pause,
    which does not concern the lead. Silence inserted before late audio delays all audio after it: this is the
    backlog. Only that is ever recovered, and only from a sender that is live.

    Args:
        min_ms: smallest lead, and the first, in milliseconds.
        max_ms: largest lead, in milliseconds.
        clock: returns seconds on a monotonic clock.
        cuts: limits the recovery of all senders together; by default this one has a budget of its own.

    Attributes:
        backlog: frames to recover.
        cuts: the limit of the recovery.
        frames: the lead.
        sends_ahead: whether the sender has ever been further ahead of real time than a live one can be.
        watching: whether `observe` is to be called at each tick.
    """

    __slots__ = (
        "_ahead",
        "_arrived",
        "_calm",
        "_calm_needed",
        "_clock",
        "_first",
        "_high",
        "_inserted",
        "_low",
        "_max",
        "_min",
        "_silence",
        "_steady",
        "_ticks",
        "backlog",
        "cuts",
        "frames",
        "sends_ahead",
        "watching",
    )

    def __init__(self, min_ms: int, max_ms: int, clock: Callable[[], float], cuts: CutBudget | None = None) -> None:
        self._min = max(min_ms // FRAME_MS, 1)
        self._max = max(max_ms // FRAME_MS, self._min)
        self._clock = clock
        self.cuts = cuts or CutBudget(clock)
        self.frames = self._min
        self.backlog = 0.0
        self.sends_ahead = False
        self.watching = False
        self._arrived = 0.0
        self._inserted = 0.0  # silence that the sender has made up for: its audio waits as much longer
        self._silence: float | None = None  # silence that is not judged yet
        self._ahead = 0.0  # farthest ahead of real time in the last window
        self._steady = 0  # windows in real time
        self._calm = 0
        self._calm_needed = CALM_WINDOWS
        self._new_window()

    def _new_window(self) -> None:
        self._first: float | None = None
        self._low = math.inf
        self._high = 0.0
        self._ticks = 0

    @property
    def live(self) -> bool:
        """Whether the sender has been sending in real time for some seconds, and never ahead of it."""
        return self._steady >= LIVE_WINDOWS and not self.sends_ahead

    @property
    def fresh(self) -> bool:
        """Whether the first audio after silence has arrived too recently to be played."""
        return not self.sends_ahead and self._clock() - self._arrived < MARGIN_S

    @property
    def most(self) -> float:
        """Depth of the queue above which the sender is ahead of real time."""
        return AHEAD_FRAMES + self._inserted + (self._silence or 0.0)

    def arrived(self) -> None:
        """Note the arrival of the first audio after silence."""
        self._arrived = self._clock()

    def filled(self, depth: float) -> None:
        """Compare the depth of the queue with what a live sender can have sent."""
        if depth > self.most:
            self.sends_ahead = True
            self.watching = False
            self.frames = self._min
            self.backlog = 0.0

    def resumed(self, silence: float | None) -> None:
        """Handle the first frame after silence.

        Args:
            silence: its length in frames; None at the start, and after the queue was cleared.
        """
        if self.sends_ahead:
            return
        self.backlog = 0.0  # until the silence is judged
        if silence is None or silence > STALL_FRAMES:
            self._inserted = 0.0
            self._silence = None
        else:
            self._silence = (self._silence or 0.0) + silence
            if not self._steady:
                self._ahead = max(self._ahead, self._high - self._inserted)
        self._new_window()
        self.watching = True

    def observe(self, depth: float) -> None:
        """Judge the depth of the queue at a tick, before a frame is taken."""
        if self._first is None:
            self._first = depth
        self._low = min(self._low, depth)
        if depth > self._high:
            self._high = depth
            self.filled(depth)
        self._ticks += 1
        if self._ticks >= WINDOW_TICKS and not self.sends_ahead:
            self._judge(depth)

    def recovered(self, frames: float) -> None:
        """Reduce the backlog by a number of frames."""
        self.backlog = max(self.backlog - frames, 0.0)
        self._inserted = max(self._inserted - frames, 0.0)
        self._low -= frames
        self._first = None if self._first is None else self._first - frames

    def _judge(self, depth: float) -> None:
        if self._silence is not None:
            self._judge_silence(self._silence)
            self._silence = None
        self._ahead = self._high - self._inserted
        in_time = self._first is None or depth >= self._first - DRAINED_FRAMES
        self._steady = self._steady + 1 if in_time else 0
        if self.frames > self._min:
            self._calm = self._calm + 1 if self._low >= 2 else 0
            if self._calm >= self._calm_needed:
                self._calm = 0
                self.frames -= 1
        self.backlog = max(min(self._low - self.frames, self._inserted), 0.0) if self.live else 0.0
        self.watching = self.frames > self._min or self._steady < LIVE_WINDOWS or self.backlog >= 1
        self._new_window()

    def _judge_silence(self, silence: float) -> None:
        """Judge silence by what came after it: audio that makes up for it was late."""
        unproven = silence > HOLE_FRAMES and not self.live  # the audio after it may as well be sent ahead
        if unproven or self._high - self._inserted - silence / 2 < self._ahead:
            self._inserted = 0.0
            return
        self._inserted += silence
        if silence <= HOLE_FRAMES:
            self.frames = min(self.frames + min(math.ceil(silence), GROWTH_FRAMES), self._max)
            self._calm = 0
            self._calm_needed = min(2 * self._calm_needed, MOST_CALM_WINDOWS)
