"""Storage of settings made over HTTP, in a small SQLite file that survives restarts.

Every operation opens the file: operations are rare, threads need not share a connection, and between operations the
file is consistent and can be copied. The first write creates it, readable by its owner only, as it contains
credentials.
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
from pathlib import Path
from typing import Any

from msgspec import Struct

from bridge.config.streams import NOT_KEPT
from bridge.errors import BridgeError, ConfigError
from bridge.files import writing_trouble

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 5.0

_APPLICATION_ID = 0x41425247  # "ABRG": identifies the state file among SQLite files
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
    """A change could not be stored, and was not applied. The message is the reason."""


class EnabledSwitch(Struct, frozen=True):
    """A configured subscription that was enabled or disabled over HTTP.

    Args:
        configured: the configured value at that time; if it has changed since, the configuration takes precedence.
        enabled: the value set over HTTP.
    """

    configured: bool
    enabled: bool


class Kept(Struct, frozen=True):
    """The contents of the file: subscriptions as tables of plain values, by id, and switches."""

    subscriptions: Mapping[str, Mapping[str, Any]] = {}
    switches: Mapping[str, EnabledSwitch] = {}


class SubscriptionStore:
    """The file.

    Args:
        path: its path; empty or ``:memory:``: nothing is stored.
    """

    def __init__(self, path: str) -> None:
        self._path = None if path in NOT_KEPT else Path(path)

    @property
    def trouble(self) -> str | None:
        """Why nothing can be stored, according to file permissions; None otherwise."""
        return None if self._path is None else writing_trouble(self._path)

    def read(self) -> Kept:
        """Return the contents. Blocks; for the start.

        Raises:
            ConfigError: the file is damaged, belongs to another program or a later version, or cannot be read.
        """
        if self._path is None:
            return Kept()
        try:
            if not self._path.exists() or not self._path.stat().st_size:
                return Kept()
            self._keep_private()
            with closing(self._open()) as database:
                if database.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                    raise sqlite3.DatabaseError("the integrity check failed")
                bodies = database.execute("SELECT id, body FROM subscriptions").fetchall()
                switches = database.execute("SELECT id, configured, enabled FROM switches").fetchall()
            return Kept(
                {identity: _table(body) for identity, body in bodies},
                {
                    identity: EnabledSwitch(bool(configured), bool(enabled))
                    for identity, configured, enabled in switches
                },
            )
        except (sqlite3.Error, OSError, ValueError, TypeError, RecursionError) as problem:
            raise ConfigError(
                "streams.state_file",
                f"{str(self._path)!r} cannot be used: {problem}. Repair it, or move it away to start without its"
                " subscriptions",
            ) from None

    async def put(self, identity: str, body: Mapping[str, Any]) -> None:
        """Store a subscription, replacing one with the same id.

        Raises:
            StoreFailed: writing failed.
        """
        text = json.dumps(body)
        await self._write("INSERT OR REPLACE INTO subscriptions VALUES (?, ?)", (identity, text))

    async def delete(self, identity: str) -> None:
        """Delete a subscription; ignore an unknown id.

        Raises:
            StoreFailed: writing failed.
        """
        await self._write("DELETE FROM subscriptions WHERE id = ?", (identity,))

    async def switch(self, identity: str, switch: EnabledSwitch | None) -> None:
        """Store whether a configured subscription is enabled; None: as configured.

        Raises:
            StoreFailed: writing failed.
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
            log.error("state file not written path=%s error=%s", self._path, problem)
            raise StoreFailed(f"not stored in streams.state_file: {problem}") from problem

    def _execute(self, statement: str, values: tuple[object, ...]) -> None:
        self._keep_private()
        with closing(self._open()) as database:
            database.execute(statement, values)

    def _open(self) -> sqlite3.Connection:
        """Return a connection to a file of asterisk-bridge; every statement is a transaction."""
        database = sqlite3.connect(str(self._path), timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            (application,) = database.execute("PRAGMA application_id").fetchone()
            (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if tables and application != _APPLICATION_ID:
                raise sqlite3.DatabaseError("the file is a database of another program")
            if version > SCHEMA_VERSION:
                raise sqlite3.DatabaseError(
                    f"the file was written by a later version of asterisk-bridge (schema {version})"
                )
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")  # a subscription is on disk before the response 201
            if version < SCHEMA_VERSION:
                database.executescript(_SCHEMA)
        except BaseException:
            database.close()
            raise
        return database

    def _keep_private(self) -> None:
        """Create the file if necessary, and restrict its mode to the owner; SQLite's side files inherit it."""
        assert self._path is not None
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
            if mode & 0o077:
                log.warning("state file holds credentials, mode changed to 600 path=%s mode=%o", self._path, mode)
                os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)


def _table(body: str) -> Mapping[str, Any]:
    table = json.loads(body)
    if not isinstance(table, dict):
        raise ValueError("a subscription is not a JSON object")
    return table
