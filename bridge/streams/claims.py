"""Who may start what must run once, though several bridges see the same calls: workers of one machine, or machines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Claims(Protocol):
    """Claims by key: at any time at most one bridge holds one."""

    on_free: Callable[[str], object]
    """Called with the key of a claim that somebody else held, when it is to be had again."""
    on_lost: Callable[[str, float], object]
    """Called with the key of a claim that we held and hold no more: what it allowed must stop. We ask again at once.
    Also with how long, in seconds, nobody else can have it yet; 0 where somebody may have it already."""

    async def claim(self, key: str) -> bool:
        """Whether we hold it now. If not, ``on_free`` is called when it is worth asking again, even while this waits.

        Asking for what we hold is answered with True. Raises nothing: when the answer cannot be known now, it is False
        and ``on_free`` comes later. Requests about one key take effect in the order in which they are made; one that is
        cancelled is followed at once by a `release`, and perhaps by another claim of the same key.
        """

    def release(self, key: str) -> None:
        """Let go of a claim, or of the wish to be told that it is free; without either, nothing happens."""


class Everything:
    """Grants all: there is one bridge only. Who finds this need not ask."""

    def __init__(self) -> None:
        self.on_free: Callable[[str], object] = _ignore
        self.on_lost: Callable[[str, float], object] = _ignore

    async def claim(self, key: str) -> bool:  # noqa: ARG002 - part of the protocol
        """Yes."""
        return True

    def release(self, key: str) -> None:
        """Nobody waits for it."""


def _ignore(*_: object) -> None:
    pass
