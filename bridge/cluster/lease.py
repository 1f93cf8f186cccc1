"""A node's lease in the store: while it is valid, no other node gets what is held under it."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import TypeVar

from bridge.cluster.scripts import HOLD
from bridge.cluster.store import ClusterStore, StoreUnavailable

log = logging.getLogger(__name__)

BATCH = 200
"""Claims in one script: the store is blocked while it runs."""
CLAIM_LASTS_MS = 600_000
"""The store expires a claim after this time without a confirmation."""

Item = TypeVar("Item")


class Lease:
    """Renewed by `hold`; without a response it lapses in time, and a lease with another name replaces it.

    It is valid until a margin before the store lets it expire, counted from before the last renewal was sent.

    Args:
        store: the store.
        prefix: the prefix of all keys.
        node: name of this node.
        ttl_s: how long it lasts in the store without being renewed.
        clock: monotonic seconds.
        on_lapse: called when it has lapsed, with the seconds during which no node can have what was held under it: 0
            when that time is over.
    """

    def __init__(
        self,
        store: ClusterStore,
        *,
        prefix: str,
        node: str,
        ttl_s: float,
        clock: Callable[[], float],
        on_lapse: Callable[[float], object],
    ) -> None:
        self.renew_at = 0.0
        """When it should be renewed."""
        self._store = store
        self._lives = f"{prefix}:lease:{node}/{secrets.token_hex(4)}"
        self._ttl_s = ttl_s
        self._spare_s = ttl_s / 6
        """The time between its lapse here and its expiry in the store."""
        self._lasts_s = ttl_s - self._spare_s
        self._clock = clock
        self._on_lapse = on_lapse
        self._numbers = count(1)
        self.name = self._new_name()
        self._good_until: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def confirmed(self) -> bool:
        """Whether the store has confirmed it."""
        return self._good_until is not None

    def value(self) -> str:
        """Return a value for a claim under this lease: a different one each time, to make late commands harmless."""
        return f"{self.name}/{next(self._numbers)}"

    def check(self) -> None:
        """End a lease that has lapsed: this process, and the timer with it, may have been delayed."""
        if self._good_until is not None and self._clock() >= self._good_until:
            self._lapse(max(self._good_until + self._spare_s - self._clock(), 0.0))

    def close(self) -> None:
        """End the lease without calling ``on_lapse``."""
        if self._timer is not None:
            self._timer.cancel()
        self._good_until = None

    async def hold(self, claims: Mapping[str, str]) -> tuple[bool, dict[str, bool]]:
        """Renew the lease, and hold claims under it.

        Args:
            claims: values by key.

        Returns:
            Whether the store still had the lease, and which of the claims this node holds now.

        Raises:
            StoreUnavailable: the store did not respond, or so late that the lease has lapsed meanwhile.
        """
        name, since, new = self.name, self._clock(), self._good_until is None
        lasts_ms = (int(self._ttl_s * 1000), CLAIM_LASTS_MS)
        answers = await self._store.ask(
            [
                ("EVAL", HOLD, len(part), *part, name, *lasts_ms, *(claims[key] for key in part))
                for part in batches(list(claims)) or [[]]
            ]
        )
        self.check()
        good_until = since + self._lasts_s
        if name != self.name or self._clock() >= good_until:
            raise StoreUnavailable(f"{self._store.display_url}: it responded too late")
        self._good_until = good_until
        self.renew_at = since + self._ttl_s / 3
        self._arm()
        owners = [owner for part in answers for owner in part[1:]]
        return new or bool(answers[0][0]), {key: not owner for key, owner in zip(claims, owners, strict=True)}

    def _arm(self) -> None:
        """Set the timer that lets it lapse in time, whatever else is pending then."""
        if self._timer is not None:
            self._timer.cancel()
        assert self._good_until is not None
        self._timer = asyncio.get_running_loop().call_later(self._good_until - self._clock(), self._due)

    def _due(self) -> None:
        self.check()
        if self._good_until is not None:
            self._arm()  # timers are not exact

    def _lapse(self, spare_s: float) -> None:
        self._good_until = None
        self.name = self._new_name()
        self._on_lapse(spare_s)

    def _new_name(self) -> str:
        return f"{self._lives}/{next(self._numbers)}"


def batches(items: Sequence[Item]) -> list[Sequence[Item]]:
    """Return the items in batches."""
    return [items[start : start + BATCH] for start in range(0, len(items), BATCH)]
