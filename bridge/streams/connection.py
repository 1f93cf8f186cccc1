"""How a stream gets its WebSocket: an application has connected to us, or we connect to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from bridge.media.dial import Backoff, LinkFailed, clean
from bridge.media.websocket import Link

STABLE_S = 10.0
"""A connection that lived so long starts the waits from the beginning."""


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
        """Return how long to wait before the next attempt, in seconds."""

    def after_close(self, code: int, lived_s: float) -> float | None:
        """Return how long to wait before the next attempt, in seconds; None: the stream has ended.

        Args:
            code: the WebSocket's close code.
            lived_s: how long it was open, in seconds.
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
    """

    dialed = True
    accepted = None

    def __init__(self, dial: Callable[[], Awaitable[Link]], backoff: Backoff) -> None:
        self._dial = dial
        self._backoff = backoff

    async def open(self) -> Link:
        """Dial the application."""
        return await self._dial()

    def after_failure(self, failure: LinkFailed) -> float:
        """Return what the server asks for, and the backoff on top: many streams get the same answer."""
        return failure.retry_after_s + self._backoff.next_delay()

    def after_close(self, code: int, lived_s: float) -> float | None:
        """Return the backoff's wait, from the beginning after a connection that was stable."""
        if clean(code):
            return None
        if lived_s > STABLE_S:
            self._backoff.reset()
        return self._backoff.next_delay()
