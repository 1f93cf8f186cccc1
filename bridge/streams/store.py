"""What is set over HTTP and must survive a restart: a small SQLite file.

Every operation opens the file anew: they are rare, threads need not share a connection, and between two of them the
file is whole and can be copied. The file is made by the first write, with a mode that lets nobody else read it, because
credentials are in it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
import stat
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge.config.streams import NOT_KEPT
from bridge.errors import BridgeError, ConfigError
from bridge.files import writing_trouble

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 5.0

_APPLICATION_ID = 0x41425247  # "ABRG": tells our file from any other SQLite file
_SCHEMA = f"""
    BEGIN IMMEDIATE;
    CREATE TABLE IF NOT EXISTS subscriptions (id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS switches (
        id TEXT PRIMARY KEY, configured INTEGER NOT NULL, enabled INTEGER NOT NULL
    ) WITHOUT ROWID;
    PRAGMA application_id = {_APPLICATION_ID};
    PRAGMA user_version = {SCHEMA_VERSION};
    COMMIT;
"""


class StoreFailed(BridgeError):
    """Something could not be kept; what was asked for has not been done. The text says why."""


@dataclass(frozen=True, slots=True)
class Switch:
    """A configured subscription that was switched over HTTP.

    Args:
        configured: what the configuration said then; if it says something else now, it was edited since and counts.
        enabled: what it was switched to.
    """

    configured: bool
    enabled: bool


@dataclass(frozen=True, slots=True)
class Kept:
    """What the file holds: the subscriptions as tables of plain values, by id, and the switches."""

    subscriptions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    switches: Mapping[str, Switch] = field(default_factory=dict)


class Store:
    """The file.

    Args:
        path: where it is; "" or ``:memory:``: nothing is kept.
    """

    def __init__(self, path: str) -> None:
        self._path = None if path in NOT_KEPT else Path(path)

    @property
    def trouble(self) -> str | None:
        """Why nothing can be kept, as far as permissions tell; None: something can, or nothing needs to be."""
        return None if self._path is None else writing_trouble(self._path)

    def read(self) -> Kept:
        """All that is kept. Blocks; for the start.

        Raises:
            ConfigError: the file is damaged, foreign, of a later version, or cannot be read.
        """
        if self._path is None:
            return Kept()
        try:
            if not self._path.exists() or not self._path.stat().st_size:
                return Kept()
            self._keep_private()
            with closing(self._open()) as database:
                if database.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                    raise sqlite3.DatabaseError("the check of its integrity failed")
                bodies = database.execute("SELECT id, body FROM subscriptions").fetchall()
                switches = database.execute("SELECT id, configured, enabled FROM switches").fetchall()
            return Kept(
                {identity: _table(body) for identity, body in bodies},
                {identity: Switch(bool(configured), bool(enabled)) for identity, configured, enabled in switches},
            )
        except (sqlite3.Error, OSError, ValueError, TypeError, RecursionError) as problem:
            raise ConfigError(
                "streams.state_file",
                f"{str(self._path)!r} cannot be used: {problem}; repair it, or move it away to begin without the"
                " subscriptions that it holds",
            ) from None

    async def put(self, identity: str, body: Mapping[str, Any]) -> None:
        """Keep a subscription, in the place of the one with its id if there is one.

        Raises:
            StoreFailed: it could not be written.
        """
        text = json.dumps(body)
        await self._write("INSERT OR REPLACE INTO subscriptions VALUES (?, ?)", (identity, text))

    async def delete(self, identity: str) -> None:
        """Forget a subscription; none is fine.

        Raises:
            StoreFailed: it could not be written.
        """
        await self._write("DELETE FROM subscriptions WHERE id = ?", (identity,))

    async def switch(self, identity: str, switch: Switch | None) -> None:
        """Keep how a configured subscription was switched; None: as the configuration says.

        Raises:
            StoreFailed: it could not be written.
        """
        if switch is None:
            await self._write("DELETE FROM switches WHERE id = ?", (identity,))
        else:
            row = (identity, switch.configured, switch.enabled)
            await self._write("INSERT OR REPLACE INTO switches VALUES (?, ?, ?)", row)

    async def _write(self, statement: str, values: tuple[object, ...]) -> None:
        if self._path is None:
            return
        try:
            await asyncio.to_thread(self._execute, statement, values)
        except (sqlite3.Error, OSError) as problem:
            log.error("%s: %s", self._path, problem)
            raise StoreFailed(f"it could not be kept: {problem}; streams.state_file says where") from problem

    def _execute(self, statement: str, values: tuple[object, ...]) -> None:
        self._keep_private()
        with closing(self._open()) as database:
            database.execute(statement, values)

    def _open(self) -> sqlite3.Connection:
        """A connection to a file that is known to be ours; every statement is a transaction."""
        database = sqlite3.connect(str(self._path), timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            (application,) = database.execute("PRAGMA application_id").fetchone()
            (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if tables and application != _APPLICATION_ID:
                raise sqlite3.DatabaseError("it is a database of another program")
            if version > SCHEMA_VERSION:
                raise sqlite3.DatabaseError(f"it was written by a later version of the bridge (schema {version})")
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")  # a subscription that was answered with 201 is on the disk
            if version < SCHEMA_VERSION:
                database.executescript(_SCHEMA)
        except BaseException:
            database.close()
            raise
        return database

    def _keep_private(self) -> None:
        """Make the file if there is none; in any case nobody else may read it. SQLite's side files get its mode."""
        assert self._path is not None
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
            if mode & 0o077:
                log.warning("%s holds credentials and had the mode %o; now it is 600", self._path, mode)
                os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)


def _table(body: str) -> Mapping[str, Any]:
    table = json.loads(body)
    if not isinstance(table, dict):
        raise ValueError("a subscription is no JSON object")
    return table
