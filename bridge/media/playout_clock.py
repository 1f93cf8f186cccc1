"""The common 20 ms tick: one timer for all legs of the process.

Asterisk plays frames as they arrive, so a leg needs exactly one frame every 20 ms. A timer for each call costs more,
and ``sleep(0.02)`` drifts; here every deadline is absolute, counted from one start. Legs are spread over four phases, 5
ms apart, which keeps each burst small.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Protocol

from bridge.audio.format import FRAME_MS
from bridge.media.counters import Counters

PHASES = 4
SLOT_S = FRAME_MS / 1000 / PHASES
CATCH_UP_FRAMES = 3
"""Limit of frames written together after a stall.

Asterisk's conference mixer discards everything when it holds more than 80 ms (bridge_softmix).
"""

log = logging.getLogger(__name__)


class Ticked(Protocol):
    """A member that is called every 20 ms."""

    def tick(self, frames: int) -> None:
        """Write ``frames`` frames now: 1, or more after a stall."""

    def close(self) -> None:
        """Hang up after a failed tick; no other follows."""


class Schedule:
    """The phases that are due at a given time. Pure: the clock is an argument, in seconds."""

    def __init__(self, start: float) -> None:
        self._start = start
        self._next_slot = 0

    @property
    def next_deadline(self) -> float:
        """Time of the next phase."""
        return self._start + self._next_slot * SLOT_S

    def due(self, now: float) -> list[tuple[int, int]]:
        """Return the phases that have become due, as (phase, how many times)."""
        # The tolerance keeps a timer that fires early by a rounding error from waking twice.
        last = math.floor((now - self._start) / SLOT_S + 1e-6)
        count = last - self._next_slot + 1
        if count <= 0:
            return []
        first = self._next_slot
        self._next_slot = last + 1
        return [((first + i) % PHASES, (count - i + PHASES - 1) // PHASES) for i in range(min(count, PHASES))]


class PlayoutClock:
    """Calls every member once in 20 ms."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._phases: list[dict[Ticked, None]] = [{} for _ in range(PHASES)]
        self._phase_of: dict[Ticked, int] = {}
        self._schedule: Schedule | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._phase_of)

    def add(self, member: Ticked) -> None:
        """Start ticking ``member``; the first tick comes within 20 ms."""
        phase = min(range(PHASES), key=lambda p: len(self._phases[p]))
        self._phases[phase][member] = None
        self._phase_of[member] = phase
        if self._schedule is None:
            self._schedule = Schedule(asyncio.get_running_loop().time() + SLOT_S)
            self._arm(self._schedule)

    def remove(self, member: Ticked) -> None:
        """Stop ticking ``member``; removing it twice is harmless."""
        phase = self._phase_of.pop(member, None)
        if phase is not None:
            del self._phases[phase][member]
        if not self._phase_of and self._timer is not None:
            self._timer.cancel()
            self._timer = self._schedule = None

    def _arm(self, schedule: Schedule) -> None:
        self._timer = asyncio.get_running_loop().call_at(schedule.next_deadline, self._turn, schedule)

    def _turn(self, schedule: Schedule) -> None:
        for phase, count in schedule.due(asyncio.get_running_loop().time()):
            members = self._phases[phase]
            if not members:
                continue
            frames = min(count, CATCH_UP_FRAMES)
            self._counters.ticks_skipped += (count - frames) * len(members)
            for member in tuple(members):
                try:
                    member.tick(frames)
                except Exception:  # one failing leg must not silence the others
                    log.exception("tick of a leg failed, an internal error, hanging up")
                    self._give_up(member)
        # A tick may have removed the last member, and even started a new schedule with the next one.
        if self._schedule is schedule:
            self._arm(schedule)

    def _give_up(self, member: Ticked) -> None:
        """Hang up a failed leg; its owner is notified and can open it again. Otherwise it would stay silent."""
        self.remove(member)
        try:
            member.close()
        except Exception:
            log.exception("leg not hung up, an internal error")
