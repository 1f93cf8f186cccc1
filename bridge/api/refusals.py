"""Failed authentication by address: too many failures return 429. Pure."""

from __future__ import annotations

import math
from collections import OrderedDict

from bridge.api.address import network_of

PER_MINUTE = 30
"""Failures of one address that return 401; an IPv6 /64 counts as one address."""
LOOPBACK_PER_MINUTE = 600
"""The same for this machine, where many programs, or a proxy for all clients, have one address."""
MAX_ADDRESSES = 10_000
"""Addresses that are stored; beyond, the one that failed longest ago is discarded."""


class Refusals:
    """A bucket of failures for each address, which drains evenly.

    Args:
        per_minute: failures that one address may have, in a burst and then in every minute.
        loopback_per_minute: the same for loopback.
        max_addresses: addresses that are stored.
    """

    def __init__(
        self,
        per_minute: int = PER_MINUTE,
        loopback_per_minute: int = LOOPBACK_PER_MINUTE,
        max_addresses: int = MAX_ADDRESSES,
    ) -> None:
        self._per_minute = per_minute
        self._loopback_per_minute = loopback_per_minute
        self._max_addresses = max_addresses
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Level of each bucket, and when it was that, by address; the one that failed last is the last."""

    def __len__(self) -> int:
        return len(self._buckets)

    def add(self, address: str, now: float) -> int:
        """Count a failure.

        Args:
            address: the client's address.
            now: monotonic seconds.

        Returns:
            0, or the seconds after which the address may try again.
        """
        key = network_of(address)
        is_loopback = key.startswith("127.") or key == "::1"
        limit = self._loopback_per_minute if is_loopback else self._per_minute
        level, since = self._buckets.pop(key, (0.0, now))
        level = max(0.0, level - (now - since) * limit / 60) + 1
        over = level > limit
        self._buckets[key] = (min(level, limit + 1.0), now)
        while len(self._buckets) > self._max_addresses:
            self._buckets.popitem(last=False)
        return max(1, math.ceil(60 / limit)) if over else 0
