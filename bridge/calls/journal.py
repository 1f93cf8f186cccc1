"""Small facts about existing calls, stored on disk as they change, for the next run to resume the calls.

A fact is a table of plain values with a kind and an id (``leg`` of a channel, ``flow`` of a call). State that Asterisk
reports is not stored. A thread writes facts, joining changes that arrive faster than it writes; a crash loses the last
fraction of a second. The file is SQLite's, so it is never torn. It is expendable: an unreadable file costs the calls
that existed, and nothing else.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeVar

from bridge.config.streams import NOT_KEPT

log = logging.getLogger(__name__)

T = TypeVar("T")

Fact = Mapping[str, Any]
_Key = tuple[str, str]
"""Kind and id."""

OF_LEGS = ("flow", "ringing", "held", "member", "transfer")
"""Kinds of facts that say what a leg does, under its channel's id."""
ON_HOLD = "on_hold"
"""Kind of facts: calls that a model has put on hold; the next run resumes their callers."""
LIMIT = "limit"
"""Kind of facts: when calls without a flow are hung up."""
OF_CHANNELS = (*OF_LEGS, "programs", ON_HOLD, LIMIT)
"""Kinds of facts that a replacing channel inherits; those of a call keep the call's id, even if a channel has it."""
SCHEMA_VERSION = 1
MAX_FACTS = 50_000
MAX_FACT_BYTES = 4 << 20
"""Limit of one fact. A larger one, or one that JSON cannot represent, is dropped with its previous version: its call is
not resumed.
"""
BUSY_TIMEOUT_S = 2.0
PAUSE_S = 0.05
"""Pause between two writes, in seconds."""
RETRY_S = 1.0
_SIDE_FILES = ("", "-wal", "-shm", "-journal")


def journal_file(state_file: str, worker: int = 0) -> str:
    """Return the file of a process, beside the state file; empty: none."""
    return "" if state_file in NOT_KEPT else f"{state_file}.calls{worker or ''}"


def channels_in(path: str, kinds: Collection[str]) -> set[str]:
    """Return the channels with facts of these kinds. Blocks; for a process that has ended."""
    if not path or not Path(path).exists():
        return set()
    marks = ", ".join("?" * len(kinds))
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as database:
            return {row[0] for row in database.execute(f"SELECT id FROM facts WHERE kind IN ({marks})", [*kinds])}
    except sqlite3.Error as problem:
        log.warning("stored state of calls not readable path=%s error=%s", path, problem)
        return set()


class Journal:
    """The facts of one process.

    Args:
        path: the file, which no other process writes; empty: nothing is stored.
    """

    def __init__(self, path: str = "") -> None:
        self.found: dict[str, dict[str, dict[str, Any]]] = {}
        """The facts of the previous run, by kind and id; `settled` empties it."""
        self._path = Path(path) if path else None
        self._left: set[_Key] = set()
        """Keys in the file from the previous run."""
        self._keys: set[_Key] = set()
        """Current keys."""
        self._stored: set[_Key] = set()
        """Keys in the file, also while a write is in progress."""
        self._pending: dict[_Key, Fact | None] = {}
        self._renames: list[tuple[str, str]] = []
        """Facts to be renamed before the pending write."""
        self._writing = asyncio.Lock()
        self._changed = asyncio.Event()
        self._database: sqlite3.Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._frozen = False
        self._failing = False

    @property
    def kept(self) -> bool:
        """Whether there is a file."""
        return self._path is not None

    @property
    def frozen(self) -> bool:
        """Whether the next run continues from what is stored: nothing is recorded any more."""
        return self._frozen

    def put(self, kind: str, identity: str, fact: Fact) -> None:
        """Store a fact, replacing the previous one; it must not change afterwards."""
        if self._path is None or self._frozen:
            return
        key = kind, identity
        if key not in self._keys and len(self._keys) >= MAX_FACTS:
            return
        self._keys.add(key)
        self._pending[key] = fact
        self._changed.set()

    def drop(self, kind: str, identity: str) -> None:
        """Delete a fact; ignore an unknown one."""
        if self._frozen or (kind, identity) not in self._keys:
            return
        self._keys.discard((kind, identity))
        self._discard_fact((kind, identity))

    def renamed(self, old: str, new: str) -> None:
        """Assign the facts of a channel to the one that replaced it."""
        if self._frozen or self._keys.isdisjoint((kind, old) for kind in OF_CHANNELS):
            return
        self._keys = {_new_key(key, old, new) for key in self._keys}
        self._pending = {_new_key(key, old, new): fact for key, fact in self._pending.items()}
        if not self._stored.isdisjoint((kind, old) for kind in OF_CHANNELS):
            self._stored = {_new_key(key, old, new) for key in self._stored}
            self._renames.append((new, old))
        self._changed.set()

    def take(self, kind: str, identity: str) -> dict[str, Any] | None:
        """Return a fact of the previous run, once."""
        return self.found.get(kind, {}).pop(identity, None)

    def take_all(self, kind: str, make: Callable[[Fact], T]) -> list[T]:
        """Return the results of ``make`` for each fact of a kind of the previous run, once; invalid facts are dropped.

        Args:
            kind: the kind.
            make: raises TypeError or KeyError if a fact is not from this version.
        """
        made = []
        for fact in self.found.pop(kind, {}).values():
            try:
                made.append(make(fact))
            except (TypeError, KeyError) as problem:
                log.error("invalid stored state of the previous run ignored type=%s error=%r", kind, problem)
        return made

    def settled(self) -> None:
        """Discard the remaining facts of the previous run: their objects no longer exist."""
        self.found = {}
        for key in self._left - self._keys:
            self._discard_fact(key)
        self._left = set()

    def _discard_fact(self, key: _Key) -> None:
        """Delete a fact from the file, if it was written."""
        if key in self._stored:
            self._pending[key] = None
            self._changed.set()
        else:
            self._pending.pop(key, None)

    async def start(self) -> None:
        """Read the facts of the previous run, and begin to write."""
        if self._path is None:
            return
        self.found = await asyncio.to_thread(self._read)
        self._left = {(kind, identity) for kind, facts in self.found.items() for identity in facts}
        self._stored = set(self._left)
        self._task = asyncio.create_task(self._keep_writing(), name="journal")

    async def freeze(self) -> None:
        """Keep everything as it is: the process stops, and the next one resumes the calls."""
        self._frozen = True
        await self._flush()

    async def stop(self) -> None:
        """Write pending facts, and close the file."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            await self._flush()
        database, self._database = self._database, None
        if database is not None:
            await asyncio.to_thread(database.close)

    async def _keep_writing(self) -> None:
        while True:
            await self._changed.wait()
            # Shielded: a batch is written completely, also at a stop.
            await asyncio.sleep(PAUSE_S if await asyncio.shield(self._flush()) else RETRY_S)

    async def _flush(self) -> bool:
        async with self._writing:
            batch, self._pending = self._pending, {}
            renames, self._renames = self._renames, []
            self._changed.clear()
            if not batch and not renames:
                return True
            added = batch.keys() - self._stored
            self._stored |= added
            try:
                await asyncio.to_thread(self._write, batch, renames)
            except (sqlite3.Error, OSError) as problem:
                batch, added = self._renamed_meanwhile(batch), set(self._renamed_meanwhile(dict.fromkeys(added)))
                self._stored -= added
                waiting = batch | self._pending
                self._pending = {key: fact for key, fact in waiting.items() if fact is not None or key not in added}
                self._renames = renames + self._renames
                self._changed.set()
                if not self._failing:
                    log.error(
                        "state of calls not stored, a restart may lose calls path=%s error=%s", self._path, problem
                    )
                self._failing = True
                return False
            self._stored -= {key for key, fact in self._renamed_meanwhile(batch).items() if fact is None}
            self._failing = False
            return True

    def _renamed_meanwhile(self, batch: Mapping[_Key, Fact | None]) -> dict[_Key, Fact | None]:
        """Return a batch with the current names of channels."""
        renamed = dict(batch)
        for new, old in self._renames:
            renamed = {_new_key(key, old, new): fact for key, fact in renamed.items()}
        return renamed

    # In threads, one at a time

    def _read(self) -> dict[str, dict[str, dict[str, Any]]]:
        try:
            self._database = self._open()
            rows = self._database.execute("SELECT kind, id, fact FROM facts").fetchall()
            found: dict[str, dict[str, dict[str, Any]]] = {}
            for kind, identity, text in rows:
                fact = _fact(kind, text)
                if fact is not None:
                    found.setdefault(kind, {})[identity] = fact
                else:
                    self._database.execute("DELETE FROM facts WHERE kind = ? AND id = ?", (kind, identity))
        except (sqlite3.Error, OSError, ValueError) as problem:
            log.error(
                "stored state of calls unusable, calls of the previous run are not resumed path=%s error=%s",
                self._path,
                problem,
            )
            self._discard()
            return {}
        return found

    def _write(self, batch: Mapping[_Key, Fact | None], renames: Iterable[tuple[str, str]]) -> None:
        if self._database is None:
            self._database = self._open()
        values = {key: _text(key[0], fact) for key, fact in batch.items()}
        with self._database as database:
            database.execute("BEGIN IMMEDIATE")
            database.executemany(
                "UPDATE OR REPLACE facts SET id = ? WHERE kind = ? AND id = ?",
                [(new, kind, old) for new, old in renames for kind in OF_CHANNELS],
            )
            database.executemany(
                "DELETE FROM facts WHERE kind = ? AND id = ?", [key for key, text in values.items() if text is None]
            )
            database.executemany(
                "INSERT OR REPLACE INTO facts VALUES (?, ?, ?)",
                [(*key, text) for key, text in values.items() if text is not None],
            )

    def _open(self) -> sqlite3.Connection:
        assert self._path is not None
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._path.chmod(0o600)  # facts hold credentials; SQLite's side files get this mode
        database = sqlite3.connect(
            str(self._path), timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")  # a crash of the machine ends the calls as well
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version not in (0, SCHEMA_VERSION):
                raise sqlite3.DatabaseError(f"written by another version of asterisk-bridge (schema {version})")
            database.execute(
                "CREATE TABLE IF NOT EXISTS facts"
                " (kind TEXT, id TEXT, fact TEXT NOT NULL, PRIMARY KEY (kind, id)) WITHOUT ROWID"
            )
            database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        except BaseException:
            database.close()
            raise
        return database

    def _discard(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
        assert self._path is not None
        for suffix in _SIDE_FILES:
            with suppress(OSError):
                self._path.with_name(self._path.name + suffix).unlink()


def _new_key(key: _Key, old: str, new: str) -> _Key:
    """Return the key of a fact after a channel was replaced."""
    kind, identity = key
    return (kind, new) if identity == old and kind in OF_CHANNELS else key


def _fact(kind: str, text: Any) -> dict[str, Any] | None:
    """Return a stored fact; None if it is invalid."""
    try:
        fact = json.loads(text)
        if not isinstance(fact, dict):
            raise ValueError("it is not a JSON object")
    except (TypeError, ValueError, RecursionError) as problem:  # some nesting depths can be written but not read
        log.error("invalid stored state of the previous run ignored type=%s error=%s", kind, problem)
        return None
    return fact


def _text(kind: str, fact: Fact | None) -> str | None:
    """Return a fact as JSON; None: it is not stored."""
    try:
        text = None if fact is None else json.dumps(fact)
    except (TypeError, ValueError, RecursionError) as problem:  # a flow may hold values that JSON lacks: a date of TOML
        log.error("state of a call cannot be stored, a restart would lose the call type=%s error=%s", kind, problem)
        return None
    return text if text is not None and len(text) <= MAX_FACT_BYTES else None
