"""Recordings in Asterisk's spool: their names with call and owner, and their sizes.

    ab-{app}-{boot}-rec-{n}~{start}~{principal}~{call}      start: seconds since 1970 in hexadecimal

The name suffices to find a recording after a restart, without another file.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Iterable

from msgspec import Struct

from bridge.ari.client import AriClient
from bridge.calls.ids import OwnIds
from bridge.config.recording import RecordingConfig
from bridge.control.recorder import Recording
from bridge.errors import AriError, Overloaded

log = logging.getLogger(__name__)

MAX_CALL_CHARACTERS = 120
"""Limit for a call's id in the name, as file names have at most 255 bytes; a longer one is omitted."""
MAX_PRINCIPAL_CHARACTERS = 64
MAX_QUESTIONS = 4
"""Concurrent requests for sizes."""
BYTES_PER_MB = 1_000_000
HEADER_BYTES = 44
"""Size of the header of a WAV file."""
RATES = {"wav": 8000, "wav16": 16000}
"""Formats whose duration follows from their size: 16-bit PCM, by rate in Hz."""


class ArchivedRecording(Struct, frozen=True):
    """A recording in the spool.

    Args:
        name: its id.
        format: Asterisk's name of the format.
        started_at: seconds since 1970; None if not in the name.
        principal: id of the principal who started it.
        call_id: the call; empty if not in the name.
        size: in bytes; 0 if unknown.
    """

    name: str
    format: str
    started_at: float | None
    principal: str
    call_id: str
    size: int

    @property
    def duration_s(self) -> float:
        """Duration in seconds; 0 if it does not follow from the size."""
        rate = RATES.get(self.format)
        return max(self.size - HEADER_BYTES, 0) / 2 / rate if rate else 0.0

    def recording(self, now: float) -> Recording:
        """Return the file as a recording that has ended, with the facts that its name holds.

        Args:
            now: its start if the name lacks it, in seconds since 1970.
        """
        start = self.started_at if self.started_at is not None else now
        recording = Recording(
            self.name,
            self.call_id,
            "",
            self.format,
            self.principal,
            "ended",
            start,
            start + self.duration_s,
            self.duration_s,
            direction="",
        )
        recording.over.set()
        return recording


class Archive:
    """The recordings of this installation in the spool.

    Args:
        client: ARI.
        ids: generates ids.
        config: the limits.
        app: the configured Stasis application; those of workers are derived from it.
        worker: this worker's number; 0: single process.
        workers: number of workers.
        clock: returns seconds since 1970.
    """

    def __init__(
        self,
        client: AriClient,
        ids: OwnIds,
        config: RecordingConfig,
        *,
        app: str,
        worker: int = 0,
        workers: int = 1,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.config = config
        self._client = client
        self._ids = ids
        self._worker = worker
        self._workers = workers
        self._clock = clock
        self._sizes: dict[str, int] = {}
        self._name = re.compile(
            rf"ab-{re.escape(app)}(?:_w(\d+))?-[0-9a-f]{{8}}-rec-\d+(?:~([0-9a-f]+)~([^~]*)~([^~]*))?"
        )

    def new_id(self, call_id: str, principal: str) -> str:
        """Return the id of a recording that starts now."""
        call = _escaped(call_id)
        facts = (
            f"{int(self._clock()):x}",
            _escaped(principal)[:MAX_PRINCIPAL_CHARACTERS],
            call if len(call) <= MAX_CALL_CHARACTERS else "",
        )
        return "~".join((self._ids.new("rec"), *facts))

    def check_room(self, running: Iterable[tuple[str, float]]) -> None:
        """Check whether another recording may start.

        Args:
            running: format and duration in seconds of each running recording.

        Raises:
            Overloaded: ``recording.max_total_mb`` is reached.
        """
        limit_mb = self.config.max_total_mb
        if not limit_mb:
            return
        growing = sum(2 * RATES.get(format, 8000) * seconds for format, seconds in running)
        total_mb = (sum(self._sizes.values()) + growing) / BYTES_PER_MB
        if total_mb >= limit_mb:
            raise Overloaded(
                f"recordings take {total_mb:.1f} MB of recording.max_total_mb={limit_mb:g}."
                " Delete some (DELETE /v1.0/recordings/{id})"
            )

    async def look(self, growing: Iterable[str]) -> list[ArchivedRecording]:
        """Return the recordings of this process in the spool; each belongs to one process only.

        Args:
            growing: running recordings, which are not returned.

        Raises:
            AriError: Asterisk refused to list recordings.
        """
        stored = await self._client.recordings.stored()
        running = set(growing)
        ours = {each.name: each for each in stored if self._name.fullmatch(each.name) and each.name not in running}
        self._sizes = {name: size for name, size in self._sizes.items() if name in ours}
        await self._measure([name for name in ours if self._wants_size(name)])
        return [
            self._found(each.name, each.format, self._sizes.get(each.name, 0))
            for each in ours.values()
            if self._is_mine(each.name)
        ]

    def add(self, name: str, format: str, seconds: float) -> None:
        """Add the size of a recording that has ended."""
        self._sizes[name] = HEADER_BYTES + int(2 * RATES.get(format, 8000) * seconds)

    def forget(self, name: str) -> None:
        """Remove the size of a deleted recording."""
        self._sizes.pop(name, None)

    def _wants_size(self, name: str) -> bool:
        if name not in self._sizes:
            return self._is_mine(name) or bool(self.config.max_total_mb)
        if self._is_mine(name) or not self.config.max_total_mb:
            return False
        started_at = self._found(name, "", 0).started_at  # may still be growing in another worker
        return started_at is not None and self._clock() - started_at < self.config.max_s

    def _is_mine(self, name: str) -> bool:
        match = self._name.fullmatch(name)
        if match is None:
            return False
        maker = int(match[1] or 0)
        return maker == self._worker or (self._worker <= 1 and not 0 < maker <= self._workers) or not self._worker

    def _found(self, name: str, format: str, size: int) -> ArchivedRecording:
        match = self._name.fullmatch(name)
        assert match is not None
        start, principal, call = match[2], match[3] or "", match[4] or ""
        return ArchivedRecording(
            name, format, float(int(start, 16)) if start else None, _plain(principal), _plain(call), size
        )

    async def _measure(self, names: Iterable[str]) -> None:
        turns = asyncio.Semaphore(MAX_QUESTIONS)

        async def one(name: str) -> None:
            async with turns:
                try:
                    self._sizes[name] = await self._client.recordings.size(name)
                except AriError as error:
                    log.debug("size of a recording unknown recording=%s error=%s", name, error)

        await asyncio.gather(*map(one, names))


def _escaped(text: str) -> str:
    """Return a string as a part of a file name: letters, digits, ``.``, ``_``, ``-``; other bytes as ``=20``."""
    return re.sub(r"[^A-Za-z0-9._-]", lambda match: "".join(f"={byte:02x}" for byte in match[0].encode()), text)


def _plain(text: str) -> str:
    """Undo `_escaped`."""
    raw = re.sub(rb"=([0-9a-f]{2})", lambda match: bytes([int(match[1], 16)]), text.encode())
    return raw.decode("utf-8", "replace")
