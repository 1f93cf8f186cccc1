"""The worker's side of its connection to the supervisor."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bridge.ari.dispatch import call_safely
from bridge.workers.peer_workers import PeerWorkers
from bridge.workers.wire import MAX_LINE, WorkerConnection, WorkerMessage, encode
from bridge.workers.worker_pool import conference_changes

log = logging.getLogger(__name__)

LOAD_INTERVAL_S = 0.5
NOT_READY_INTERVAL_S = 0.05
"""The same while calls wait for this worker."""


class SupervisorClient:
    """One worker among others. It also implements `bridge.streams.claims.Claims`.

    Args:
        view: the state of the others; updated here.
        load: returns this worker's load, and whether it can take calls.
    """

    def __init__(self, view: PeerWorkers, load: Callable[[], tuple[int, bool]]) -> None:
        self.view = view
        self.on_free: Callable[[str], object] = lambda _: None
        self.on_lost: Callable[[str, float], object] = lambda *_: None
        self.on_event: Callable[[Mapping[str, Any]], object] = lambda _: None
        """Called for each event that another worker publishes."""
        self.on_subscriptions: Callable[[], object] = lambda: None
        """Called when another worker has changed a subscription."""
        self.on_home: Callable[[str, int], object] = lambda *_: None
        """Called for each channel that is moved, with its worker."""
        self.on_workers: Callable[[], object] = lambda: None
        """Called when the other workers, or their conferences, have changed."""
        self.lost = asyncio.Event()
        """The supervisor has ended."""
        self._load = load
        self.on_dropped: Callable[[], object] = lambda: None
        """Called for each invalid or too long message, in either direction."""
        self._wire: WorkerConnection | None = None
        self._conferences: Mapping[str, str] = {}
        self._told: Mapping[str, str] | None = None
        """The conferences in the last message to the supervisor; None: none was sent yet."""
        self._tasks: list[asyncio.Task[None]] = []
        self._numbers = itertools.count(1)
        self._joined = asyncio.Event()
        self._asked: dict[int, asyncio.Future[bool]] = {}

    async def start(self, path: Path) -> None:
        """Connect to the supervisor's socket, and wait for the list of workers.

        Raises:
            OSError: the supervisor does not run.
        """
        reader, writer = await asyncio.open_unix_connection(path, limit=MAX_LINE)
        self._wire = WorkerConnection("the supervisor", reader, writer, lambda: call_safely(self.on_dropped))
        self._send("hello", worker=self.view.number)
        self._tasks = [
            asyncio.create_task(self._read(self._wire), name="supervisor"),
            asyncio.create_task(self._tell_load(), name="report load"),
        ]
        await self._joined.wait()

    def up(self, socket: Path) -> None:
        """Report that this worker answers the others' HTTP requests on ``socket`` from now on."""
        self._send("up", pid=os.getpid(), socket=str(socket))
        self._told = {}
        self.report_conferences(self._conferences)

    async def stop(self) -> None:
        """Close the connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._wire is not None:
            self._wire.close()

    # Claims

    async def claim(self, key: str) -> bool:
        """See `bridge.streams.claims.Claims`; the supervisor decides."""
        await self._joined.wait()
        if self.lost.is_set():
            return False
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        self._send("claim", key=key, n=number)
        try:
            granted: bool = await answer
            return granted
        finally:
            self._asked.pop(number, None)

    def release(self, key: str) -> None:
        """See `bridge.streams.claims.Claims`."""
        self._send("release", key=key)

    # Sending

    def report_event(self, event: Mapping[str, Any]) -> None:
        """Send an event to the clients of the others."""
        self._send("event", event=event)

    def report_subscriptions(self) -> None:
        """Report that a subscription has changed and is stored."""
        self._send("subscriptions")

    def report_conferences(self, bridges: Mapping[str, str]) -> None:
        """Report changes of the conferences that this worker has created, and of their mixing bridges."""
        self._conferences = dict(bridges)
        if self._told is None:
            return
        for change in conference_changes(self._told, self._conferences):
            self._send("conferences", **change)
        self._told = self._conferences

    def report_load(self) -> bool:
        """Report this worker's load, and return whether it is ready."""
        load, ready = self._load()
        self._send("load", load=load, ready=ready)
        return ready

    def _send(self, kind: str, **values: Any) -> None:
        if self._wire is not None:
            self._wire.send(encode(kind, **values))

    async def _tell_load(self) -> None:
        while True:
            ready = self.report_load()
            await asyncio.sleep(LOAD_INTERVAL_S if ready else NOT_READY_INTERVAL_S)

    # Receiving

    async def _read(self, wire: WorkerConnection) -> None:
        async for message in wire.messages():
            try:
                self._hear(message)
            except Exception:
                log.exception("message from the supervisor failed with an internal error type=%s", message.get("t"))
        self.lost.set()
        self._joined.set()
        for answer in self._asked.values():
            if not answer.done():
                answer.set_result(False)

    def _hear(self, message: WorkerMessage) -> None:
        match message["t"]:
            case "workers":
                self.view.learn(message)
                self._joined.set()
                call_safely(self.on_workers)
            case "conferences":
                self.view.learn_conferences(message["worker"], message["made"], message["ended"])
                call_safely(self.on_workers)
            case "home":
                self.view.settle(message["channel"], message["worker"])
                call_safely(self.on_home, message["channel"], message["worker"])
            case "claimed":
                answer = self._asked.get(message["n"])
                if answer is not None and not answer.done():
                    answer.set_result(message["granted"])
            case "free":
                self.on_free(message["key"])
            case "event":
                call_safely(self.on_event, message["event"])
            case "subscriptions":
                call_safely(self.on_subscriptions)
