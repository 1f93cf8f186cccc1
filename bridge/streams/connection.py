"""The WebSocket of a stream: accepted from an application, or opened to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from bridge.errors import BridgeError
from bridge.media.dial import Backoff, LinkFailed, clean
from bridge.media.websocket import Link

STABLE_S = 10.0
"""Lifetime in seconds after which a connection is stable: it resets the backoff."""

DISCONNECT_S = 3.0
"""Longest wait for a connection to close, in seconds."""
RESET_S = 0.1
"""Time in seconds for a reset connection to close, with a margin."""
CLOCK_S = 0.01
"""Tolerance for limits in seconds, as timers may fire early."""


class GivenUp(BridgeError):
    """No stable connection within the limit."""


class StreamConnection(Protocol):
    """Opens the WebSocket of one stream."""

    @property
    def dialed(self) -> bool:
        """Whether asterisk-bridge connects to the application."""

    @property
    def accepted(self) -> Link | None:
        """The WebSocket that an application has opened; None: `open` opens one."""

    async def open(self) -> Link:
        """Open a WebSocket.

        Raises:
            LinkRefused: the application refuses the stream.
            LinkFailed: a connection is impossible now.
        """

    def after_failure(self, failure: LinkFailed) -> float:
        """Return the wait before the next attempt, in seconds.

        Raises:
            GivenUp: no further attempt.
        """

    def after_close(self, code: int, lived_s: float) -> float | None:
        """Return the wait before the next attempt, in seconds; None: the stream has ended.

        Args:
            code: the WebSocket's close code.
            lived_s: lifetime of the connection, in seconds.

        Raises:
            GivenUp: no further attempt, although the stream has not ended.
        """


async def opened(connection: StreamConnection, ended: asyncio.Future[Any]) -> Link | None:
    """Open a WebSocket; return None if the stream ends meanwhile.

    Args:
        connection: opens it.
        ended: done when the stream ends.

    Raises:
        LinkRefused: the application refuses the stream.
        LinkFailed: a connection is impossible now.
    """
    task = asyncio.ensure_future(connection.open())
    await asyncio.wait((task, ended), return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        if ended.done():
            return None
        raise
    finally:
        del task  # the traceback of what it raises refers to this frame


class Accepted:
    """A WebSocket that an application has opened: the stream ends with it."""

    dialed = False

    def __init__(self, link: Link) -> None:
        self.accepted = link

    async def open(self) -> Link:
        """Return the WebSocket."""
        return self.accepted

    def after_failure(self, failure: LinkFailed) -> float:
        """Raise ``failure``; never called, as `open` does not fail."""
        raise failure

    def after_close(self, code: int, lived_s: float) -> None:  # noqa: ARG002
        """Return None."""
        return


class Dialed:
    """WebSockets that asterisk-bridge opens: again after a failure, not after a clean close by the application.

    Args:
        dial: opens a WebSocket; raises LinkRefused or LinkFailed.
        backoff: the waits between attempts.
        give_up_s: limit for the time without a stable connection, in seconds; the lifetimes of unstable ones do not
            count.
            0: no limit.
    """

    dialed = True
    accepted = None

    def __init__(self, dial: Callable[[], Awaitable[Link]], backoff: Backoff, give_up_s: float = 0) -> None:
        self._dial = dial
        self._backoff = backoff
        self._give_up_s = give_up_s
        # On the loop's clock, moved forward by the lifetimes of unstable connections. None: the connection is stable.
        self._tried_since: float | None = None

    async def open(self) -> Link:
        """Connect to the application."""
        if self._tried_since is None:
            self._tried_since = asyncio.get_running_loop().time()
        return await self._dial()

    def after_failure(self, failure: LinkFailed) -> float:
        """Return the server's Retry-After plus the backoff, as many streams get the same response."""
        wait_s = failure.retry_after_s + self._backoff.next_delay()
        return self._within_limit(wait_s, least_s=failure.retry_after_s)

    def after_close(self, code: int, lived_s: float) -> float | None:
        """Return the backoff's wait, reset after a stable connection."""
        if clean(code):
            return None
        if lived_s > STABLE_S:
            self._backoff.reset()
            self._tried_since = None
        elif self._tried_since is not None:
            self._tried_since += lived_s
        return self._within_limit(self._backoff.next_delay())

    def _within_limit(self, wait_s: float, least_s: float = 0) -> float:
        """Return the wait, shortened to the limit, at which the last attempt is made.

        Args:
            wait_s: the wait without a limit, in seconds.
            least_s: minimum of the result, in seconds.

        Raises:
            GivenUp: the limit is earlier than the minimum.
        """
        if not self._give_up_s or self._tried_since is None:
            return wait_s
        tried_s = asyncio.get_running_loop().time() - self._tried_since
        left_s = self._give_up_s - tried_s
        if left_s < max(least_s, CLOCK_S):
            raise GivenUp(f"no connection for {tried_s:.0f} s")
        return min(wait_s, left_s)
