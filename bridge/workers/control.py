"""The supervisor's end of the connections to its workers: a Unix socket, one JSON object a line each way."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from bridge.ari.dispatch import call_safely
from bridge.workers.fleet import ClaimTable, Fleet, Worker, fleet_message
from bridge.workers.wire import MAX_LINE, Message, encode, messages

log = logging.getLogger(__name__)

GATHER_S = 0.02
"""How long the first request for a claim waits for those of the others, so that the one with least to do gets it."""


class Control:
    """Listens for workers, keeps the claims, and passes on what each has to tell the others.

    Args:
        fleet: where it is noted who is there.
        restarts: how often each worker was started again.
    """

    def __init__(self, fleet: Fleet, restarts: Mapping[int, int]) -> None:
        self.on_joined: Callable[[], object] = lambda: None
        """A worker takes requests now."""
        self.on_ready: Callable[[], object] = lambda: None
        """A worker has become able to take calls."""
        self.on_gone: Callable[[int], object] = lambda _: None
        """A worker has let go of its connection."""
        self.heard_at: dict[int, float] = {}
        """When each worker said something last, by the loop's clock."""
        self._fleet = fleet
        self._restarts = restarts
        self._claims = ClaimTable()
        self._gathering: dict[str, dict[int, int]] = {}
        """Requests for a claim that nobody has yet: the number of the request, by worker."""
        self._writers: dict[int, asyncio.StreamWriter] = {}
        self._server: asyncio.Server | None = None

    async def start(self, path: Path) -> None:
        """Listen.

        Raises:
            OSError: there can be no socket at ``path``.
        """
        self._server = await asyncio.start_unix_server(self._serve, path, limit=MAX_LINE)

    async def stop(self) -> None:
        """Close everything: workers that are still there stop."""
        if self._server is not None:
            self._server.close()
        for writer in tuple(self._writers.values()):
            writer.close()
        await asyncio.sleep(0)

    def settle(self, channel_id: str, number: int) -> None:
        """Tell everybody that a call is with a worker from now on."""
        self._tell_all(encode("home", channel=channel_id, worker=number))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = 0
        try:
            async for message in messages(reader):
                if number == 0:
                    number = self._join(message, writer)
                self.heard_at[number] = asyncio.get_running_loop().time()
                self._hear(number, message)
        finally:
            if number and self._writers.get(number) is writer:
                self._leave(number)
            with contextlib.suppress(OSError):
                writer.close()

    def _join(self, message: Message, writer: asyncio.StreamWriter) -> int:
        number: int = message["worker"]
        self._writers[number] = writer
        for channel_id, (home, _) in self._fleet.homes.items():
            writer.write(encode("home", channel=channel_id, worker=home))
        self._tell_fleet()
        return number

    def _leave(self, number: int) -> None:
        del self._writers[number]
        self._fleet.workers.pop(number, None)
        for asked in self._gathering.values():
            asked.pop(number, None)
        self._tell_fleet()
        for key, waiting in self._claims.gone(number).items():
            self._tell_free(key, waiting)
        call_safely(self.on_gone, number)

    def _hear(self, number: int, message: Message) -> None:
        match message["t"]:
            case "up":
                self._fleet.workers[number] = Worker(number, message["pid"], message["socket"])
                self._tell_fleet()
                call_safely(self.on_joined)
            case "load" if number in self._fleet.workers:
                was_ready = self._fleet.workers[number].ready
                self._fleet.report(number, message["load"], message["ready"])
                if message["ready"] != was_ready:
                    self._tell_fleet()
                if message["ready"] and not was_ready:
                    call_safely(self.on_ready)
            case "claim":
                self._asked(message["key"], number, message["n"])
            case "release":
                self._gathering.get(message["key"], {}).pop(number, None)
                self._tell_free(message["key"], self._claims.release(message["key"], number))
            case "conferences" if number in self._fleet.workers:
                self._fleet.workers[number].conferences = message["bridges"]
                self._tell_fleet()
            case "event" | "subscriptions":
                self._tell_all(json.dumps(message).encode() + b"\n", but=number)

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
        winner = self._fleet.least(asked)
        self._claims.grant(key, winner)
        self._fleet.given(winner)
        for number, request in asked.items():
            self._answer(key, number, request, granted=number == winner)

    def _answer(self, key: str, number: int, request: int, *, granted: bool) -> None:
        if not granted:
            self._claims.wait(key, number)
        self._tell(number, encode("claimed", n=request, granted=granted))

    def _tell_free(self, key: str, waiting: Iterable[int]) -> None:
        for number in waiting:
            self._tell(number, encode("free", key=key))

    # Telling

    def _tell_fleet(self) -> None:
        self._tell_all(encode("fleet", **fleet_message(self._fleet, self._restarts)))

    def _tell_all(self, line: bytes, but: int = 0) -> None:
        for number in tuple(self._writers):
            if number != but:
                self._tell(number, line)

    def _tell(self, number: int, line: bytes) -> None:
        writer = self._writers.get(number)
        if writer is not None and not writer.is_closing():
            writer.write(line)  # a worker that reads nothing is silent too, and ended by the supervisor
