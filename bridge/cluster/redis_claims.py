"""Claims in the shared store: at any time at most one node holds one, even if it or the store is unreachable.

A node has a lease, which it renews, and takes claims under it (`bridge.cluster.scripts`). A node whose claim was
rejected tries again every second. A node whose lease may soon expire for others, because no renewal was confirmed,
gives up all its claims: a margin before that time, counted from before the last renewal was sent, on its own monotonic
clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from bridge.ari.dispatch import call_safely
from bridge.cluster.lease import Lease, batches
from bridge.cluster.scripts import LOOK, RELEASE
from bridge.cluster.store import ClusterStore, RedisCommand, StoreUnavailable, boottime

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""Interval between two checks of claims that were rejected."""
RETRY_S = 0.5
"""Between two attempts to reach the store."""
HEAD_START_S = 0.15
"""How much later the other nodes request a claim than the preferred one."""
CLOSE_S = 1.0


class _Request(Struct, eq=False):
    """A pending request for a claim."""

    answer: asyncio.Future[bool]
    due: float
    """Not to be sent before this time."""
    sent: bool = False
    dropped: bool = False
    """Released while the store was being queried."""


class RedisClaims:
    """Claims of one node; see `bridge.streams.claims.Claims`.

    Args:
        store: the shared store; this connection is used for claims only.
        prefix: the prefix of all keys.
        node: name of this node.
        pbx: name of the Asterisk; calls of another one have other ids, or the same ones by chance.
        ttl_s: how long the lease lasts without being renewed.
        ready: returns whether another claim could be used; otherwise none is requested.
        prefer: returns whether this node should have a claim; all others give it a head start.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        store: ClusterStore,
        *,
        prefix: str,
        node: str,
        pbx: str,
        ttl_s: float,
        ready: Callable[[], bool] = lambda: True,
        prefer: Callable[[str], bool] = lambda _: True,
        clock: Callable[[], float] = boottime,
    ) -> None:
        self.on_free: Callable[[str], object] = lambda _: None
        self.on_lost: Callable[[str, float], object] = lambda *_: None
        self.granted = 0
        """Claims granted since the start."""
        self.lost = 0
        """Claims given up since the start."""
        self.trouble: str | None = ""
        """Why the store is unavailable; empty before the first query, None while it responds."""
        self._store = store
        self._place = f"{prefix}:claim:{pbx}/"
        self._ttl_s = ttl_s
        self._ready = ready
        self._prefer = prefer
        self._clock = clock
        self._lease = Lease(store, prefix=prefix, node=node, ttl_s=ttl_s, clock=clock, on_lapse=self._lapsed)
        self._held: dict[str, str] = {}
        """Held claims by key, with their values in the store."""
        self._requests: dict[str, _Request] = {}
        self._waiting: set[str] = set()
        """Claims that other nodes hold and this one wants."""
        self._releases: list[tuple[str, str]] = []
        self._next = {"confirm": 0.0, "look": 0.0}
        self._stir = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    @property
    def reachable(self) -> bool:
        """Whether the store responded to the last query."""
        return self.trouble is None

    @property
    def held(self) -> int:
        """The number of held claims."""
        return len(self._held)

    @property
    def waiting(self) -> int:
        """The number of claims that other nodes hold and this one wants."""
        return len(self._waiting)

    async def start(self) -> None:
        """Start; the store may become available later."""
        self._task = asyncio.create_task(self._run(), name="cluster claims")

    async def close(self) -> None:
        """Release all claims, whose streams must have ended before; may be called twice."""
        if self._closing:
            return
        self._closing = True  # a cancellation alone may be lost in the Redis client
        self._stir.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        for request in self._requests.values():
            self._say(request, False)
        if self._lease.confirmed:
            lease = self._lease.name
            self._lease.close()
            with contextlib.suppress(StoreUnavailable, TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await self._store.ask([*self._releasing([*self._held.items()]), ("DEL", lease)])
        self._held.clear()
        await self._store.close()

    async def claim(self, key: str) -> bool:
        """See `bridge.streams.claims.Claims.claim`."""
        if key in self._held:
            return True
        request = self._requests.get(key)
        if request is None or request.dropped:
            due = self._clock() + (0 if self._prefer(key) else HEAD_START_S)
            # A dropped request is still pending: its response finds this one in its place and releases the claim.
            request = self._requests[key] = _Request(asyncio.get_running_loop().create_future(), due)
            self._stir.set()
        return await asyncio.shield(request.answer)

    def release(self, key: str) -> None:
        """See `bridge.streams.claims.Claims.release`."""
        self._waiting.discard(key)
        request = self._requests.get(key)
        if request is not None:
            request.dropped = True
            self._say(request, False)
            if not request.sent:
                del self._requests[key]
        value = self._held.pop(key, None)
        if value is not None:
            self._releases.append((key, value))
            self._stir.set()

    # The store

    async def _run(self) -> None:
        while not self._closing:
            try:
                await self._turn()
            except StoreUnavailable as error:
                self._away(error)
                await asyncio.sleep(RETRY_S)
            except Exception:
                log.exception("claims failed with an internal error")
                await asyncio.sleep(RETRY_S)
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, self._next_due() - self._clock())):
                        await self._stir.wait()

    async def _turn(self) -> None:
        """Do everything that is due."""
        if not self._closing:
            self._stir.clear()
        self._lease.check()
        now = self._clock()
        if now >= self._next["confirm"]:
            await self._confirm()
        elif now >= self._lease.renew_at:
            await self._hold({})
        if self._releases:
            releases, self._releases = self._releases, []
            try:
                await self._store.ask(self._releasing(releases))
            except StoreUnavailable:
                self._releases = releases + self._releases
                raise
        await self._take()
        if self._clock() >= self._next["look"]:
            await self._look()

    def _next_due(self) -> float:
        return min(self._lease.renew_at, *self._next.values(), *(each.due for each in self._requests.values()))

    async def _hold(self, claims: Mapping[str, str]) -> dict[str, bool]:
        """Renew the lease and hold claims under it; return which of them are held now.

        Raises:
            StoreUnavailable: as `Lease.hold`.
        """
        known, ours = await self._lease.hold({self._name(key): value for key, value in claims.items()})
        if self.trouble is not None:
            self.trouble = None
            log.info("store responds store=%s", self._store.display_url)
        if not known:
            log.warning("store has lost the lease, claims are sent again store=%s", self._store.display_url)
            self._next["confirm"] = 0.0
            self._stir.set()
        return {key: ours[self._name(key)] for key in claims}

    async def _confirm(self) -> None:
        """Send the held claims to the store: it may have lost them, or have given them to others."""
        self._next["confirm"] = self._clock() + self._ttl_s
        for key, ours in (await self._hold(self._held)).items():
            if not ours and key in self._held:
                self._lose([key], 0.0)

    async def _take(self) -> None:
        """Request the claims that are due."""
        now = self._clock()
        due = {key: each for key, each in self._requests.items() if each.due <= now}
        if not due:
            return
        if not (self._ready() and self._settled):
            self._refuse(due)
            return
        values = {key: self._lease.value() for key in due}
        for each in due.values():
            each.sent = True
        try:
            ours = await self._hold(values)
        except StoreUnavailable:
            self._releases += values.items()  # it may have granted some, which no other node could have then
            raise
        for key, request in due.items():
            if not ours[key]:
                self._refuse({key: request})
            elif request.dropped or not self._settled:
                # Not settled: the connection is new, and so is the store behind it.
                self._releases.append((key, values[key]))
                self._stir.set()
                self._refuse({key: request})
            else:
                self._held[key] = values[key]
                self.granted += 1
                self._forget(key, request)
                self._waiting.discard(key)
                self._say(request, True)

    async def _look(self) -> None:
        """Check which of the wanted claims are available."""
        self._next["look"] = self._clock() + LOOK_S
        if not (self._waiting and self._ready() and self._settled):
            return
        for part in batches(sorted(self._waiting)):
            (answers,) = await self._store.ask([("EVAL", LOOK, len(part), *map(self._name, part), self._lease.name)])
            if not self._settled:
                return  # The connection is new, and so is the store behind it: it has no claims yet.
            for key, free in zip(part, answers, strict=True):
                if free and key in self._waiting and key not in self._requests:
                    call_safely(self.on_free, key)

    @property
    def _settled(self) -> bool:
        return self._store.known and self._clock() >= self._store.settled_at

    def _away(self, error: StoreUnavailable) -> None:
        """Handle an unavailable store: reject the pending requests."""
        if not self.trouble:
            log.warning("store unavailable, no claims are granted error=%s", error)
        self.trouble = str(error)
        self._next["confirm"] = 0.0
        self._refuse(self._requests)

    def _refuse(self, requests: Mapping[str, _Request]) -> None:
        for key, request in tuple(requests.items()):
            if not request.dropped:
                self._waiting.add(key)
            self._forget(key, request)
            self._say(request, False)

    def _forget(self, key: str, request: _Request) -> None:
        if self._requests.get(key) is request:
            del self._requests[key]

    def _lapsed(self, spare_s: float) -> None:
        """Give up the held claims: other nodes may have them now or soon."""
        if self._held:
            log.warning(
                "store did not respond in time, claims are given up store=%s count=%d",
                self._store.display_url,
                len(self._held),
            )
        self._releases.clear()  # they were under the lapsed lease
        self._lose(list(self._held), spare_s)

    def _lose(self, keys: Sequence[str], spare_s: float) -> None:
        for key in keys:
            del self._held[key]
            self._waiting.add(key)
            self.lost += 1
        for key in keys:
            call_safely(self.on_lost, key, spare_s)

    def _name(self, key: str) -> str:
        return self._place + key

    def _releasing(self, claims: Sequence[tuple[str, str]]) -> list[RedisCommand]:
        return [
            ("EVAL", RELEASE, len(part), *(self._name(key) for key, _ in part), *(value for _, value in part))
            for part in batches(claims)
        ]

    @staticmethod
    def _say(request: _Request, answer: bool) -> None:
        if not request.answer.done():
            request.answer.set_result(answer)
