"""Claims: permission to start what must run once while several processes or machines observe the same calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Claims(Protocol):
    """Claims by key: at any time at most one process holds one."""

    on_free: Callable[[str], object]
    """Called with the key of a claim when another holder has released it."""
    on_lost: Callable[[str, float], object]
    """Called with the key of a lost claim: what it allowed must stop, and it is claimed again immediately.

    Also called with the time in seconds during which nobody else can get it; 0 if somebody may hold it already.
    """

    async def claim(self, key: str) -> bool:
        """Return whether the claim is held now; if not, ``on_free`` is called when a new attempt makes sense.

        ``on_free`` may be called while this waits. A claim that is held is confirmed with True. Raises nothing: while
        the answer is unavailable, it is False, and ``on_free`` follows. Requests for one key take effect in their
        order; one that is cancelled is followed immediately by a `release`, and perhaps by another claim of the same
        key.
        """

    def release(self, key: str) -> None:
        """Release a claim, or stop waiting for it; ignore an unknown one."""


class LocalClaims:
    """Grants every claim, for a single process; callers need not wait for it."""

    def __init__(self) -> None:
        self.on_free: Callable[[str], object] = _ignore
        self.on_lost: Callable[[str, float], object] = _ignore

    async def claim(self, key: str) -> bool:  # noqa: ARG002 - part of the protocol
        """Return True."""
        return True

    def release(self, key: str) -> None:
        """Do nothing."""


def _ignore(*_: object) -> None:
    pass
