"""How a stream gets its WebSocket: an application has connected to us, or we connect to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from bridge.errors import BridgeError
from bridge.media.dial import Backoff, LinkFailed, clean
from bridge.media.websocket import Link

STABLE_S = 10.0
"""A connection that lived so long starts the waits from the beginning."""

CLOCK_S = 0.01
"""A limit that is no further away has come: timers may fire early."""


class GivenUp(BridgeError):
    """There was no connection for too long, or none that was stable."""


class Connection(Protocol):
    """The way to the WebSocket of one stream."""

    @property
    def dialed(self) -> bool:
        """Whether we connect to the application."""

    @property
    def accepted(self) -> Link | None:
        """The WebSocket that an application has opened; None: `open` opens one."""

    async def open(self) -> Link:
        """Open a WebSocket.

        Raises:
            LinkRefused: the application does not take the stream.
            LinkFailed: there is no connection now.
        """

    def after_failure(self, failure: LinkFailed) -> float:
        """Return how long to wait before the next attempt, in seconds.

        Raises:
            GivenUp: there is no further attempt.
        """

    def after_close(self, code: int, lived_s: float) -> float | None:
        """Return how long to wait before the next attempt, in seconds; None: the stream has ended.

        Args:
            code: the WebSocket's close code.
            lived_s: how long it was open, in seconds.

        Raises:
            GivenUp: there is no further attempt, although the stream has not ended.
        """


class Accepted:
    """A WebSocket that an application has opened: the stream ends with it."""

    dialed = False

    def __init__(self, link: Link) -> None:
        self.accepted = link

    async def open(self) -> Link:
        """Return the WebSocket; there is no other."""
        return self.accepted

    def after_failure(self, failure: LinkFailed) -> float:
        """Never called: `open` does not fail."""
        raise failure

    def after_close(self, code: int, lived_s: float) -> None:  # noqa: ARG002
        """Return None."""
        return


class Dialed:
    """WebSockets that we open: a new one when one breaks, none after one that the application closed cleanly.

    Args:
        dial: opens a WebSocket; raises LinkRefused or LinkFailed.
        backoff: the waits between attempts.
        give_up_s: how long the stream may be without a connection until one is stable, in seconds; shorter connections
            in between do not count. 0: as long as the stream lives.
    """

    dialed = True
    accepted = None

    def __init__(self, dial: Callable[[], Awaitable[Link]], backoff: Backoff, give_up_s: float = 0) -> None:
        self._dial = dial
        self._backoff = backoff
        self._give_up_s = give_up_s
        # By the loop's clock, later by the time with connections that were not stable. None: the connection is stable.
        self._tried_since: float | None = None

    async def open(self) -> Link:
        """Dial the application."""
        if self._tried_since is None:
            self._tried_since = asyncio.get_running_loop().time()
        return await self._dial()

    def after_failure(self, failure: LinkFailed) -> float:
        """Return what the server asks for, and the backoff on top: many streams get the same answer."""
        wait_s = failure.retry_after_s + self._backoff.next_delay()
        return self._within_limit(wait_s, least_s=failure.retry_after_s)

    def after_close(self, code: int, lived_s: float) -> float | None:
        """Return the backoff's wait, from the beginning after a connection that was stable."""
        if clean(code):
            return None
        if lived_s > STABLE_S:
            self._backoff.reset()
            self._tried_since = None
        elif self._tried_since is not None:
            self._tried_since += lived_s
        return self._within_limit(self._backoff.next_delay())

    def _within_limit(self, wait_s: float, least_s: float = 0) -> float:
        """Return the wait, shortened where the limit is earlier: the last attempt is then.

        Args:
            wait_s: the wait without a limit, in seconds.
            least_s: what it is not shortened below, in seconds.

        Raises:
            GivenUp: the limit is earlier than that.
        """
        if not self._give_up_s or self._tried_since is None:
            return wait_s
        tried_s = asyncio.get_running_loop().time() - self._tried_since
        left_s = self._give_up_s - tried_s
        if left_s < max(least_s, CLOCK_S):
            raise GivenUp(f"no connection for {tried_s:.0f} s")
        return min(wait_s, left_s)
