"""A bridge's lease in the store: while it is good, nobody else gets what is held under it."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import TypeVar

from bridge.cluster.scripts import HOLD
from bridge.cluster.store import Store, StoreAway

log = logging.getLogger(__name__)

BATCH = 200
"""Claims in one script: the store does nothing else while it runs."""
CLAIM_LASTS_MS = 600_000
"""After so long the store forgets a claim that nobody has confirmed."""

Item = TypeVar("Item")


class Lease:
    """Renewed by `hold`; when no renewal is answered it lapses in time, and one with another name takes its place.

    It is good until a margin before the store lets it expire, counted from before the last renewal was sent.

    Args:
        store: where it is.
        prefix: begins the names of all keys.
        node: name of this bridge.
        ttl_s: how long it lasts in the store without being renewed.
        clock: seconds, steady.
        on_lapse: told when it has lapsed, and for how many seconds nobody can have what was held under it: 0 when that
            time is over.
    """

    def __init__(
        self,
        store: Store,
        *,
        prefix: str,
        node: str,
        ttl_s: float,
        clock: Callable[[], float],
        on_lapse: Callable[[float], object],
    ) -> None:
        self.renew_at = 0.0
        """When it ought to be renewed."""
        self._store = store
        self._lives = f"{prefix}:lease:{node}/{secrets.token_hex(4)}"
        self._ttl_s = ttl_s
        self._spare_s = ttl_s / 6
        """From when we let it lapse until the store does."""
        self._lasts_s = ttl_s - self._spare_s
        self._clock = clock
        self._on_lapse = on_lapse
        self._numbers = count(1)
        self.name = self._new_name()
        self._good_until: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def confirmed(self) -> bool:
        """Whether the store knows it."""
        return self._good_until is not None

    def value(self) -> str:
        """For a claim under this lease: another one each time, so that a late command for one means no other."""
        return f"{self.name}/{next(self._numbers)}"

    def check(self) -> None:
        """Let it lapse if that is due: this process may have been held up, and the timer with it."""
        if self._good_until is not None and self._clock() >= self._good_until:
            self._lapse(max(self._good_until + self._spare_s - self._clock(), 0.0))

    def close(self) -> None:
        """Let it be; nobody is told."""
        if self._timer is not None:
            self._timer.cancel()
        self._good_until = None

    async def hold(self, claims: Mapping[str, str]) -> tuple[bool, dict[str, bool]]:
        """Renew it, and hold claims under it.

        Args:
            claims: values by key.

        Returns:
            Whether the store still knew the lease, and which of the claims are ours now.

        Raises:
            StoreAway: the store did not answer; or so late that the lease has lapsed meanwhile.
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
            raise StoreAway(f"{self._store.place}: it answered too late")
        self._good_until = good_until
        self.renew_at = since + self._ttl_s / 3
        self._arm()
        owners = [owner for part in answers for owner in part[1:]]
        return new or bool(answers[0][0]), {key: not owner for key, owner in zip(claims, owners, strict=True)}

    def _arm(self) -> None:
        """See to it that it lapses in time, whatever we are waiting for then."""
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
    """Some at a time."""
    return [items[start : start + BATCH] for start in range(0, len(items), BATCH)]
