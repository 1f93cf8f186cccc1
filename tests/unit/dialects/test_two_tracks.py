"""Two tracks of one stream when the machine stalls: late audio of both is delivered, whichever is read first."""

from __future__ import annotations

import random

import pytest

from bridge import dialects
from bridge.dialects.base import CallInfo, Dialect, TrackInfo

STEP_S = 0.02
PCM = b"\x01\x02" * 160


class Machine:
    """A process that reads the sockets of two tracks, and gets the processor in slices.

    Args:
        likely: how likely each step of its work is to be interrupted.
        pauses: the shortest and longest interruption, in seconds.
    """

    def __init__(self, dialect: Dialect, likely: float, pauses: tuple[float, float]) -> None:
        self._dialect = dialect
        self._likely = likely
        self._pauses = pauses
        self._rng = random.Random(7)
        self._now = 0.0
        self._read = {"inbound": 0, "outbound": 0}
        dialect.opened(CallInfo("call", "inbound", "1", "2", "3"), tuple(self._read), 0.0, 0.0)
        for name in self._read:
            dialect.track_started(TrackInfo(name, channel_id=name, channel=name), 0.0)

    def run(self, seconds: float) -> None:
        tick = STEP_S
        while self._now < seconds:
            silent = [name for name in self._read if not self._drain(name)]
            if self._now >= tick:  # after the sockets, as an event loop does it
                for name in silent:
                    self._dialect.audio(name, b"", self._now)
                tick = (int(self._now / STEP_S) + 1) * STEP_S
            self._now = max(self._now + 0.0001, min(tick, self._now + STEP_S))

    def _drain(self, name: str) -> bool:
        due = int(self._now / STEP_S + 1e-9)
        waiting = due - self._read[name]
        for _ in range(waiting):
            self._dialect.audio(name, PCM, self._now)
            self._read[name] += 1
            self._now += 0.00005
            if self._rng.random() < self._likely:
                self._now += self._rng.uniform(*self._pauses)
        return waiting > 0


@pytest.mark.parametrize(
    ("likely", "pauses"), [(0.05, (0.02, 0.1)), (0.03, (0.03, 0.2)), (0.02, (0.05, 0.3)), (0.01, (0.2, 0.6))]
)
@pytest.mark.parametrize(
    "options", [("twilio", {"tracks": "both_tracks"}), ("voxology", {}), ("yeastar", {"rate": 8000})]
)
def test_stalls_cost_neither_track_anything(
    options: tuple[str, dict[str, object]], likely: float, pauses: tuple[float, float]
) -> None:
    name, values = options
    dialect = dialects.find(name)(**values)
    Machine(dialect, likely, pauses).run(60)
    assert (dialect.tally.dropped_bytes, dialect.tally.filled_bytes) == (0, 0)
