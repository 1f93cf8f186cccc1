"""Calls that each token has originated: the count that its ``max_calls`` bounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from aiohttp import web

from bridge.access import Principal
from bridge.api.errors import unavailable

RETRY_AFTER_S = 5


class TokenCalls:
    """The calls of each token with a limit, by the token's id."""

    def __init__(self) -> None:
        self._calls: dict[str, list[Sequence[str]]] = {}
        """Lists of calls' ids; that of a group grows while it dials one destination after the other."""
        self._starting: Counter[str] = Counter()

    @contextmanager
    def room(
        self, principal: Principal, wanted: int, is_up: Callable[[str], bool]
    ) -> Iterator[Callable[[Sequence[str]], object]]:
        """Reserve room for calls while they are originated.

        Args:
            principal: whose token originates them.
            wanted: how many calls.
            is_up: returns whether the call with an id has not ended.

        Yields:
            A function to call with the ids of the calls.

        Raises:
            ApiError: 503, there would be more calls than ``max_calls`` allows.
        """
        limit = principal.grant.max_calls if principal.grant is not None else 0
        if not limit:
            yield lambda _: None
            return
        lists = self._calls[principal.id] = [
            each for each in self._calls.get(principal.id, ()) if any(map(is_up, tuple(each)))
        ]
        count = sum(is_up(call_id) for each in lists for call_id in tuple(each)) + self._starting[principal.id]
        if count + wanted > limit:
            raise unavailable(
                "OVERLOADED",
                f"the token {principal.id} has {count} active calls, and its max_calls allows {limit}",
                RETRY_AFTER_S,
            )
        self._starting[principal.id] += wanted
        try:
            yield lambda ids: self._calls[principal.id].append(ids)  # another request may have replaced the list
        finally:
            self._starting[principal.id] -= wanted


ORIGINATED = web.AppKey("originated", TokenCalls)
