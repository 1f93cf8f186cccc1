"""The supervisor's side of the connections to its workers: a Unix socket, one JSON object a line each way."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from bridge.ari.dispatch import call_safely
from bridge.workers.wire import MAX_LINE, WorkerConnection, WorkerMessage, encode, line_of
from bridge.workers.worker_pool import ClaimTable, ConnectedWorker, WorkerPool, conference_changes, pool_message

log = logging.getLogger(__name__)

GATHER_S = 0.02
"""How long the first request for a claim waits for those of the others: the least loaded worker gets it."""


class Control:
    """Accepts workers, grants claims, and forwards messages between workers.

    Args:
        pool: the state of the workers.
    """

    def __init__(self, pool: WorkerPool) -> None:
        self.on_joined: Callable[[], object] = lambda: None
        """Called when a worker accepts requests."""
        self.on_ready: Callable[[], object] = lambda: None
        """Called when a worker has become able to take calls."""
        self.on_gone: Callable[[int], object] = lambda _: None
        """Called when a worker has closed its connection."""
        self.heard_at: dict[int, float] = {}
        """When each worker last sent a message, by the loop's clock."""
        self._pool = pool
        self._restarts = dict.fromkeys(range(1, pool.count + 1), 0)
        self._claims = ClaimTable()
        self._gathering: dict[str, dict[int, int]] = {}
        """Requests for a claim that no worker holds yet: the number of the request, by worker."""
        self._wires: dict[int, WorkerConnection] = {}
        self.dropped = 0
        """Invalid or too long messages, in either direction."""
        self._server: asyncio.Server | None = None

    async def start(self, path: Path) -> None:
        """Listen.

        Raises:
            OSError: the socket cannot be created at ``path``.
        """
        self._server = await asyncio.start_unix_server(self._serve, path, limit=MAX_LINE)

    async def stop(self) -> None:
        """Close everything: workers that still run stop."""
        if self._server is not None:
            self._server.close()
        for wire in tuple(self._wires.values()):
            wire.close()
        await asyncio.sleep(0)

    def count_restart(self, number: int) -> None:
        """Count and report that a worker is restarted: it may never connect again."""
        self._restarts[number] += 1
        self._report_workers()

    def settle(self, channel_id: str, number: int) -> None:
        """Notify all workers of the worker that has a call from now on."""
        self._tell_all(encode("home", channel=channel_id, worker=number))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = 0
        wire = WorkerConnection("a worker", reader, writer, self._drop)
        try:
            async for message in wire.messages():
                if number == 0:
                    number = self._join(message, wire)
                self.heard_at[number] = asyncio.get_running_loop().time()
                try:
                    self._hear(number, message)
                except Exception:
                    log.exception(
                        "message from a worker failed with an internal error type=%s worker=%d", message["t"], number
                    )
        finally:
            if number and self._wires.get(number) is wire:
                self._leave(number)
            with contextlib.suppress(OSError):
                wire.close()

    def _join(self, message: WorkerMessage, wire: WorkerConnection) -> int:
        number: int = message["worker"]
        wire.peer = f"worker {number}"
        self._wires[number] = wire
        for channel_id, (home, _) in self._pool.homes.items():
            wire.send(encode("home", channel=channel_id, worker=home))
        self._report_workers()
        for each in self._pool.workers.values():
            for change in conference_changes({}, each.conferences):
                wire.send(encode("conferences", worker=each.number, **change))
        return number

    def _drop(self) -> None:
        self.dropped += 1

    def _leave(self, number: int) -> None:
        del self._wires[number]
        self._pool.workers.pop(number, None)
        for asked in self._gathering.values():
            asked.pop(number, None)
        self._report_workers()
        for key, waiting in self._claims.gone(number).items():
            self._tell_free(key, waiting)
        call_safely(self.on_gone, number)

    def _hear(self, number: int, message: WorkerMessage) -> None:
        match message["t"]:
            case "up":
                self._pool.workers[number] = ConnectedWorker(number, message["pid"], message["socket"])
                self._report_workers()
                call_safely(self.on_joined)
            case "load" if number in self._pool.workers:
                was_ready = self._pool.workers[number].ready
                self._pool.report(number, message["load"], message["ready"])
                if message["ready"] != was_ready:
                    self._report_workers()
                if message["ready"] and not was_ready:
                    call_safely(self.on_ready)
            case "claim":
                self._asked(message["key"], number, message["n"])
            case "release":
                self._gathering.get(message["key"], {}).pop(number, None)
                self._tell_free(message["key"], self._claims.release(message["key"], number))
            case "conferences" if number in self._pool.workers:
                known = self._pool.workers[number].conferences
                known.update(message["made"])
                for conference_id in message["ended"]:
                    known.pop(conference_id, None)
                self._tell_all(line_of({**message, "worker": number}))
            case "event" | "subscriptions":
                self._tell_all(line_of(message), but=number)

    # Claims

    def _asked(self, key: str, number: int, request: int) -> None:
        holder = self._claims.holder(key)
        if holder is not None:
            self._answer(key, number, request, granted=holder == number)
        elif key in self._gathering:
            self._gathering[key][number] = request
        else:
            self._gathering[key] = {number: request}
            asyncio.get_running_loop().call_later(GATHER_S, self._decide, key)

    def _decide(self, key: str) -> None:
        asked = self._gathering.pop(key)
        if not asked:
            return
        winner = self._pool.least(asked)
        self._claims.grant(key, winner)
        self._pool.given(winner)
        for number, request in asked.items():
            self._answer(key, number, request, granted=number == winner)

    def _answer(self, key: str, number: int, request: int, *, granted: bool) -> None:
        if not granted:
            self._claims.wait(key, number)
        self._tell(number, encode("claimed", n=request, granted=granted))

    def _tell_free(self, key: str, waiting: Iterable[int]) -> None:
        for number in waiting:
            self._tell(number, encode("free", key=key))

    # Sending

    def _report_workers(self) -> None:
        self._tell_all(encode("workers", **pool_message(self._pool, self._restarts, self.dropped)))

    def _tell_all(self, line: bytes, but: int = 0) -> None:
        for number in tuple(self._wires):
            if number != but:
                self._tell(number, line)

    def _tell(self, number: int, line: bytes) -> None:
        wire = self._wires.get(number)
        if wire is not None:
            wire.send(line)
