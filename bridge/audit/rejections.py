"""Rejected requests. The first of a kind is a line of its own; those that follow within seconds are counted in one.

Any client that reaches the port can be rejected without limit: otherwise it could fill the disk.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

WINDOW_S = 10.0
"""Rejections of one kind within this time become one line."""
MAX_KINDS = 1000
"""Kinds that are counted separately at the same time; further ones are counted together, without address."""


class RejectionKind(Struct, frozen=True):
    """The common properties of rejections that are counted together.

    Args:
        principal: id of the token, if it was recognized.
        address: the client's address.
        attempted: the requested action of the audit log, or the operation's name.
        status: HTTP status.
        reason: the API's reason.
    """

    principal: str = ""
    address: str = ""
    attempted: str = ""
    status: int = 0
    reason: str = ""


OTHERS = RejectionKind(reason="MANY_ADDRESSES")


class _Window(Struct):
    began: float
    count: int = 0


class Rejections:
    """Counts rejections by kind."""

    def __init__(self) -> None:
        self._windows: dict[RejectionKind, _Window] = {}

    def add(self, kind: RejectionKind, now: float) -> bool:
        """Count a rejection.

        Returns:
            Whether it is the first of its kind, and a line of its own; otherwise `due` returns it.
        """
        window = self._windows.get(kind)
        if window is None and len(self._windows) >= MAX_KINDS:
            kind = OTHERS
            window = self._windows.get(kind)
        if window is not None:
            window.count += 1
            return False
        self._windows[kind] = _Window(now, int(kind is OTHERS))
        return kind is not OTHERS

    def due(self, now: float, *, all_of_them: bool = False) -> Iterator[tuple[RejectionKind, int, float]]:
        """Yield the kinds whose period has ended, each with its count and the time of the first rejection.

        A kind with rejections in this period begins another period; a kind without is removed.

        Args:
            now: monotonic seconds.
            all_of_them: whether to yield kinds whose period has not ended, too.
        """
        for kind, window in tuple(self._windows.items()):
            if now - window.began < WINDOW_S and not all_of_them:
                continue
            if window.count:
                yield kind, window.count, window.began
                self._windows[kind] = _Window(now)
            else:
                del self._windows[kind]

    def __len__(self) -> int:
        return len(self._windows)
