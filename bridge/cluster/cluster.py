"""This node's part in the cluster: its claims and its part of the directory, started and stopped together."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from bridge import __version__
from bridge.cluster.directory import Directory
from bridge.cluster.redis_claims import RedisClaims
from bridge.cluster.store import ClusterStore
from bridge.config import Config
from bridge.times import utc

DIRECTORY_TIMEOUT_S = 3.0
"""Reading all calls takes longer than a claim, and only the client that requested it waits."""


class Cluster:
    """The data that a node shares with others.

    Args:
        config: ``cluster.store`` is set.
        app: the Stasis application of this process.
        worker: its number if several processes share the work of this node; each is a node of its own.
        ready: returns whether one more stream could be started.
        synchronized: returns whether Asterisk is connected.
        calls: returns calls for the directory; see `Directory`.
        count: returns the number of calls and of streams.

    Raises:
        ConfigError: the Redis client is not installed, or a key is invalid.
    """

    def __init__(
        self,
        config: Config,
        *,
        app: str,
        worker: int | None,
        ready: Callable[[], bool],
        synchronized: Callable[[], bool],
        calls: Callable[[Collection[str] | None], Mapping[str, Mapping[str, Any]]],
        count: Callable[[], tuple[int, int]],
    ) -> None:
        cluster = config.cluster
        node, pbx = cluster.node_name(config.ari), cluster.pbx_name(config.ari)
        if worker is not None:
            node = f"{node}.{worker}"
        self._app = app
        self._synchronized = synchronized
        self._count = count
        self._started = time.time()
        self._cpu = (time.monotonic(), time.process_time())
        self.directory = Directory(
            ClusterStore(cluster, DIRECTORY_TIMEOUT_S),
            prefix=cluster.prefix,
            node=node,
            pbx=pbx,
            describe=self._describe,
            calls=calls,
        )
        self.claims = RedisClaims(
            ClusterStore(cluster, cluster.claim_ttl_s / 6),
            prefix=cluster.prefix,
            node=node,
            pbx=pbx,
            ttl_s=cluster.claim_ttl_s,
            ready=ready,
            prefer=self.directory.prefers,
        )

    @property
    def gauges(self) -> Mapping[str, float]:
        """Return gauges for the metrics."""
        claims = self.claims
        return {
            "cluster_store_reachable": int(claims.reachable),
            "cluster_claims_held": claims.held,
            "cluster_claims_waiting": claims.waiting,
            "cluster_nodes": self.directory.alive,
        }

    @property
    def totals(self) -> Mapping[str, float]:
        """Return counters for the metrics."""
        return {"cluster_claims_granted": self.claims.granted, "cluster_claims_lost": self.claims.lost}

    async def start(self) -> None:
        """Start; the store may become available later."""
        await self.claims.start()
        await self.directory.start()

    async def stop(self) -> None:
        """Release the claims, whose streams must have ended before; may be called twice."""
        await self.claims.close()
        await self.directory.close()

    async def nodes(self) -> list[dict[str, Any]]:
        """See `Directory.nodes`."""
        return await self.directory.nodes()

    async def calls(self, pbx: str = "", node: str = "") -> list[dict[str, Any]]:
        """See `Directory.calls`."""
        return await self.directory.calls(pbx, node)

    async def find(self, identity: str, /) -> list[dict[str, Any]]:
        """See `Directory.find`."""
        return await self.directory.find(identity)

    def _describe(self) -> dict[str, Any]:
        now, used = time.monotonic(), time.process_time()
        (then, used_then), self._cpu = self._cpu, (now, used)
        calls, streams = self._count()
        return {
            "app": self._app,
            "version": __version__,
            "tm_start": utc(self._started),
            "asterisk": self._synchronized(),
            "calls": calls,
            "streams": streams,
            "claims": self.claims.held,
            "waiting": self.claims.waiting,
            "cpu": round((used - used_then) / max(now - then, 0.001), 3),
        }
