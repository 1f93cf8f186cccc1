"""Minutes of models by day, in a small SQLite file beside the state file, which all workers share."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from bridge.config.streams import NOT_KEPT
from bridge.logs import cause

log = logging.getLogger(__name__)

BUSY_TIMEOUT_S = 5.0
_SCHEMA = "CREATE TABLE IF NOT EXISTS usage (day TEXT, agent TEXT, seconds REAL NOT NULL, PRIMARY KEY (day, agent))"
_ADD = """
    INSERT INTO usage VALUES (?, ?, ?) ON CONFLICT (day, agent) DO UPDATE SET seconds = seconds + excluded.seconds
    RETURNING seconds
"""


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


class AgentUsage:
    """The seconds that each model has been connected today.

    Args:
        state_file: the path of the state file; empty or ``:memory:``: counts last as long as the process.
        today: returns the current day.
    """

    def __init__(self, state_file: str, today: Callable[[], str] = _today) -> None:
        self._path = None if state_file in NOT_KEPT else Path(f"{state_file}.agents")
        self._today = today
        self._seconds: dict[tuple[str, str], float] = {}

    async def add(self, agent: str, seconds: float) -> float:
        """Count seconds of a model; return its total of today.

        Args:
            agent: what the model is counted by.
            seconds: may be 0, to query the total.
        """
        key = (self._today(), agent)
        known = self._seconds = {each: total for each, total in self._seconds.items() if each[0] == key[0]}
        known[key] = known.get(key, 0.0) + seconds
        if self._path is not None:
            try:
                known[key] = await asyncio.to_thread(self._add, self._path, *key, seconds)
            except (sqlite3.Error, OSError) as problem:
                log.warning(
                    "minutes of a model not stored, counted until the next start path=%s error=%s",
                    *(self._path, problem),
                    extra=cause(),
                )
        return known[key]

    @staticmethod
    def _add(path: Path, day: str, agent: str, seconds: float) -> float:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as database:
            database.execute(_SCHEMA)
            database.execute("DELETE FROM usage WHERE day < ?", (day,))
            (total,) = database.execute(_ADD, (day, agent, seconds)).fetchone()
        return float(total)
