"""The shared store: one Redis server, queried in batches that are answered in time or fail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from bridge.config import ClusterConfig
from bridge.errors import BridgeError, ConfigError
from bridge.tls import Trust, TrustError, build_context

RedisCommand = Sequence[str | int]


class StoreUnavailable(BridgeError):
    """The store does not respond, or too late, or with an error."""


def boottime() -> float:
    """Return seconds on a monotonic clock that continues while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class ClusterStore:
    """A connection to the store, opened on demand and again after each failure.

    Args:
        config: the configuration of the cluster.
        timeout_s: the limit for a batch, connecting included.

    Raises:
        ConfigError: the Redis client is not installed, or ``cluster.ca_file`` cannot be used.
    """

    def __init__(self, config: ClusterConfig, timeout_s: float) -> None:
        try:
            from redis.asyncio import Redis
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff
            from redis.exceptions import RedisError
        except ImportError:
            raise ConfigError(
                "cluster.store", "needs the Redis client: pip install 'asterisk-bridge[cluster]'"
            ) from None
        self.display_url = config.display_url
        self.known = False
        """Whether it has ever been connected; before that ``settled_at`` is undefined."""
        self.settled_at = 0.0
        """From this time on (`boottime`), a claim that the store does not have is held by no node: see `_meet`."""
        self._grace_s = config.claim_ttl_s + 1
        self._timeout_s = timeout_s
        self._run_id = ""
        self._errors: tuple[type[Exception], ...] = (RedisError, OSError, TimeoutError)
        url = config.store.get_secret_value()
        more: dict[str, Any] = {}
        if password := config.password.get_secret_value():
            more["password"] = password
        self._redis = Redis.from_url(
            url,
            decode_responses=True,
            protocol=2,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            redis_connect_func=self._connected,
            **more,
        )
        if url.startswith("rediss://"):
            self._trust(config.ca_file)

    async def ask(self, commands: Sequence[RedisCommand]) -> list[Any]:
        """Return the responses to commands, in their order.

        Raises:
            StoreUnavailable: one of them failed; the others may have been executed.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                pipeline = self._redis.pipeline(transaction=False)
                for command in commands:
                    pipeline.execute_command(*command)
                answers: list[Any] = await pipeline.execute()
                return answers
        except self._errors as error:
            words = str(error) or type(error).__name__
            if isinstance(error, TimeoutError):
                words = f"no response within {self._timeout_s:g} s"
            raise StoreUnavailable(f"{self.display_url}: {words}") from None

    async def close(self) -> None:
        """Close the connection."""
        await self._redis.aclose()

    async def _connected(self, connection: Any) -> None:
        await connection.on_connect()
        await connection.send_command("INFO", "server")
        self._meet(await connection.read_response())

    def _trust(self, ca_file: str) -> None:
        """Use one TLS context for every connection: the client would build one for each, on the event loop."""
        from redis.asyncio import SSLConnection

        try:
            context = build_context(Trust(ca_file=ca_file))
        except TrustError as error:
            raise ConfigError("cluster.ca_file", str(error)) from None

        class Trusting(SSLConnection):
            def __init__(self, **options: Any) -> None:
                super().__init__(**options)
                self.ssl_context.context = context

        self._redis.connection_pool.connection_class = Trusting

    def _meet(self, info: str) -> None:
        """Detect which server is connected.

        A server that has just started, or replaced another, may have lost claims that nodes still use. They renew what
        they hold; no node gets a new claim before all have had the time to notice.
        """
        facts = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
        run_id = facts.get("run_id", "")
        if not self.known or run_id != self._run_id:
            # How long a server that replaced another has run does not show what it has missed.
            age_s = 0 if self.known else int(facts.get("uptime_in_seconds", 0))
            self.settled_at = boottime() - age_s + self._grace_s
        self.known, self._run_id = True, run_id
