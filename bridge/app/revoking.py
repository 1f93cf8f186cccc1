"""Tokens that become invalid: revoked by a reload of the configuration, or expired. What they opened ends."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from bridge.api.tokens import Tokens

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 60.0
"""The clock is checked again at least this often: it may have been changed."""


class Revoking:
    """Watches the valid tokens.

    Args:
        tokens: the valid tokens; None: authentication is off.
        end: ends what the token with an id has opened.
    """

    def __init__(self, tokens: Tokens | None, end: Callable[[str], object]) -> None:
        self._tokens = tokens
        self._end = end
        self._task: asyncio.Task[None] | None = None
        self._seen_until = time.time()
        """Time up to which expired tokens were handled, in seconds since 1970."""

    def start(self) -> None:
        """Start watching for tokens that expire."""
        if self._tokens is not None:
            self._task = asyncio.create_task(self._watch(self._tokens), name="token expiry")

    async def stop(self) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def take(self, tokens: Tokens) -> None:
        """Replace the valid tokens; end only what removed or reduced ones have opened."""
        if self._tokens is None:
            return
        revoked = self._tokens.take(tokens, self._seen_until)
        log.info("tokens reloaded count=%d revoked=%s", len(self._tokens), ",".join(sorted(revoked)) or "none")
        for identity in revoked:
            self._end(identity)
        self._restart()

    def _restart(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self.start()

    async def _watch(self, tokens: Tokens) -> None:
        while True:
            due = tokens.next_expiry(self._seen_until)
            await asyncio.sleep(LOOK_AGAIN_S if due is None else min(LOOK_AGAIN_S, max(0.0, due - time.time()) + 0.01))
            now = time.time()
            for identity in tokens.expired_between(self._seen_until, now):
                log.info("token expired token=%s", identity)
                self._end(identity)
            self._seen_until = max(self._seen_until, now)
