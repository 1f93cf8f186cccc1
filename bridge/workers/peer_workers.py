"""A worker's state of the others, and which worker owns a call. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from bridge.workers.worker_pool import MAX_HOMES, home_of_conference, worker_of_id


class PeerWorker(Struct, frozen=True):
    """A worker, as the others see it."""

    number: int
    pid: int
    socket: str
    ready: bool = True
    """Whether it has synchronized with the PBX."""
    conferences: dict[str, str] = {}


class PeerWorkers:
    """One worker's state of the others.

    Args:
        app: the shared Stasis application.
        number: the worker's own number.
        count: how many workers should run.
    """

    def __init__(self, app: str, number: int, count: int) -> None:
        self._app = app
        self.number = number
        self.count = count
        self.workers: dict[int, PeerWorker] = {}
        """The connected workers, this one included."""
        self.restarts: dict[int, int] = {}
        self.dropped_by_supervisor = 0
        """Messages between the workers that the supervisor has dropped."""
        self._homes: dict[str, int] = {}

    def learn(self, message: Mapping[str, Any]) -> None:
        """Store which workers exist (`bridge.workers.worker_pool.pool_message`)."""
        before, self.workers = self.workers, {}
        for key, each in message["workers"].items():
            number, known = int(key), before.get(int(key))
            conferences = known.conferences if known is not None and known.pid == each["pid"] else {}
            self.workers[number] = PeerWorker(number, each["pid"], each["socket"], each["ready"], conferences)
        self.dropped_by_supervisor = message["dropped"]
        self.restarts = {int(number): times for number, times in message["restarts"].items()}

    def learn_conferences(self, number: int, made: Mapping[str, str], ended: Iterable[str]) -> None:
        """Store which conferences a worker has created and ended (`bridge.workers.worker_pool.conference_changes`)."""
        if number in self.workers:
            conferences = self.workers[number].conferences
            conferences.update(made)
            for conference_id in ended:
                conferences.pop(conference_id, None)

    @property
    def leader(self) -> int:
        """The worker that reports what all see: the first of those that have synchronized with the PBX.

        Not one that has just restarted: it would report every call as if it were new.
        """
        ready = [number for number, each in self.workers.items() if each.ready]
        return min(ready or self.workers, default=self.number)

    @property
    def leads(self) -> bool:
        """Whether this worker is the leader."""
        return self.leader == self.number

    @property
    def peers(self) -> list[PeerWorker]:
        """The other connected workers, by number."""
        return [self.workers[number] for number in sorted(self.workers) if number != self.number]

    def settle(self, object_id: str, number: int) -> None:
        """Record which worker has a channel, or the channel's call, from now on."""
        self._homes.pop(object_id, None)
        self._homes[object_id] = number
        if len(self._homes) > MAX_HOMES:
            del self._homes[next(iter(self._homes))]

    def owner(self, ids: Iterable[str]) -> int:
        """Return the owner of a call, by its id and its channels: the worker that controls it, else the leader."""
        return self.holder(ids) or self.leader

    def holder(self, ids: Iterable[str]) -> int | None:
        """Return the worker that controls a call: its creator, else the one it was assigned to; None: no worker."""
        ids = tuple(ids)
        for number in (*(worker_of_id(self._app, each) for each in ids), *(self._homes.get(each) for each in ids)):
            if number in self.workers:
                return number
        return None

    def maker(self, object_id: str) -> int | None:
        """Return the worker that created the object with this id; None: unknown, or it no longer runs."""
        number = worker_of_id(self._app, object_id)
        return number if number in self.workers else None

    def conference(self, conference_id: str) -> tuple[int, str] | None:
        """Return the worker that has created a conference, and the conference's mixing bridge."""
        for each in self.workers.values():
            if conference_id in each.conferences:
                return each.number, each.conferences[conference_id]
        return None

    @property
    def conferences_elsewhere(self) -> set[str]:
        """Return the ids of the conferences that others have created."""
        return {conference_id for each in self.peers for conference_id in each.conferences}

    def conference_home(self, conference_id: str) -> int:
        """Return the worker that has a conference, or should create it."""
        found = self.conference(conference_id)
        return found[0] if found else home_of_conference(conference_id, sorted(self.workers) or [self.number])
