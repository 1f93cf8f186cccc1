"""The supervisor's state of its workers, and which of them gets what. No sockets, no clock."""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

MAX_HOMES = 20_000
"""Calls whose worker is stored, ended ones included."""
CONFERENCES_IN_ONE = 100
"""Conferences in one message: even with the longest ids a tenth of `bridge.workers.wire.MAX_LINE`."""
CONFERENCE = "conference"
"""The first argument of Stasis() for a conference, whose name is the second (`bridge.control.legs.CONFERENCE`)."""


def app_of(app: str, number: int) -> str:
    """Return the name of a worker's own Stasis application."""
    return f"{app}_w{number}"


def worker_of_id(app: str, object_id: str) -> int | None:
    """Return the worker that chose the id of a channel, mixing bridge or recording; None if none of ``app`` did."""
    found = re.match(rf"ab-{re.escape(app)}_w(\d+)-", object_id)
    return int(found[1]) if found else None


def home_of_conference(conference_id: str, numbers: Sequence[int]) -> int:
    """Return the worker that must create a conference with this id, the same on every worker."""
    return numbers[zlib.crc32(conference_id.encode("utf-8", "surrogatepass")) % len(numbers)]


class ConnectedWorker(Struct):
    """One connected worker."""

    number: int
    pid: int
    socket: str
    ready: bool = False
    """Whether it has synchronized with the PBX and can take calls."""
    load: int = 0
    """Open streams, and calls that it controls or originated, in its last report."""
    given: int = 0
    """The number of calls and streams given to it since then."""
    conferences: dict[str, str] = {}
    """Mixing bridges of the conferences that it has created, by the conferences' ids."""


class WorkerPool:
    """The connected workers.

    Args:
        app: the shared Stasis application.
        count: how many workers should run.
    """

    def __init__(self, app: str, count: int) -> None:
        self._app = app
        self.count = count
        self.workers: dict[int, ConnectedWorker] = {}
        self.homes: dict[str, tuple[int, tuple[str, ...]]] = {}
        """The worker of each channel that was handed over, and Stasis()'s arguments."""

    def report(self, number: int, load: int, ready: bool) -> None:
        """Store a worker's report."""
        worker = self.workers.get(number)
        if worker is not None:
            worker.load, worker.given, worker.ready = load, 0, ready

    def assign(self, channel_id: str, args: Sequence[str], without: Collection[int] = ()) -> int | None:
        """Return the worker for a call that has entered the shared application; None: none is ready.

        A worker that had the call before gets it again, a conference's worker gets its calls, otherwise the least
        loaded one.

        Args:
            channel_id: the call's channel.
            args: the arguments of Stasis().
            without: workers that could not take it.
        """
        ready = [each for each in self.workers.values() if each.ready and each.number not in without]
        numbers = sorted(each.number for each in ready)
        if not numbers:
            return None
        before = worker_of_id(self._app, channel_id) or self.homes.get(channel_id, (0, ()))[0]
        if before in numbers:
            return before
        if args[:1] == [CONFERENCE] and len(args) > 1:
            for each in ready:
                if args[1] in each.conferences:
                    return each.number
            return home_of_conference(args[1], numbers)
        return self.least(numbers)

    def least(self, numbers: Iterable[int]) -> int:
        """Return the least loaded of these workers."""
        return min(numbers, key=lambda number: (self._load(number), number))

    def given(self, number: int) -> None:
        """Count a call or a stream that was just assigned to a worker."""
        if number in self.workers:
            self.workers[number].given += 1

    def settle(self, channel_id: str, number: int, args: Sequence[str]) -> None:
        """Record which worker has a call from now on."""
        self.homes.pop(channel_id, None)
        self.homes[channel_id] = (number, tuple(args))
        if len(self.homes) > MAX_HOMES:
            del self.homes[next(iter(self.homes))]

    def _load(self, number: int) -> int:
        worker = self.workers.get(number)
        return worker.load + worker.given if worker is not None else 0


class ClaimTable:
    """Claims by key, the workers that hold them, and those that wait for them."""

    def __init__(self) -> None:
        self._holders: dict[str, int] = {}
        self._waiting: dict[str, set[int]] = {}

    def holder(self, key: str) -> int | None:
        """Return the worker that holds a claim."""
        return self._holders.get(key)

    def grant(self, key: str, number: int) -> None:
        """Grant a claim to a worker."""
        self._holders[key] = number
        self._waiting.get(key, set()).discard(number)

    def wait(self, key: str, number: int) -> None:
        """Add a worker to those that wait for a claim."""
        self._waiting.setdefault(key, set()).add(number)

    def release(self, key: str, number: int) -> set[int]:
        """Release a claim, or stop waiting for it; return which workers to notify that it is available."""
        waiting = self._waiting.get(key, set())
        waiting.discard(number)
        if self._holders.get(key) != number:
            if not waiting:
                self._waiting.pop(key, None)
            return set()
        del self._holders[key]
        return self._waiting.pop(key, set())

    def gone(self, number: int) -> dict[str, set[int]]:
        """Remove a worker; return the claims that are available now, each with the workers to notify."""
        for waiting in self._waiting.values():
            waiting.discard(number)
        held = [key for key, holder in self._holders.items() if holder == number]
        return {key: self.release(key, number) for key in held}

    def __len__(self) -> int:
        return len(self._holders)


def conference_changes(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield the changes between two states of a worker's conferences: messages of bounded size."""
    made = [(each, bridge) for each, bridge in after.items() if before.get(each) != bridge]
    ended = [each for each in before if each not in after]
    for start in range(0, max(len(made), len(ended)), CONFERENCES_IN_ONE):
        part = slice(start, start + CONFERENCES_IN_ONE)
        yield {"made": dict(made[part]), "ended": ended[part]}


def pool_message(pool: WorkerPool, restarts: Mapping[int, int], dropped: int = 0) -> dict[str, Any]:
    """Return the message that notifies workers of which exist; conferences are sent as changes.

    Args:
        pool: the workers.
        restarts: how often each worker was restarted.
        dropped: messages from workers that the supervisor has dropped.
    """
    return {
        "workers": {
            str(each.number): {"socket": each.socket, "pid": each.pid, "ready": each.ready}
            for each in pool.workers.values()
        },
        "restarts": {str(number): times for number, times in restarts.items()},
        "dropped": dropped,
    }
