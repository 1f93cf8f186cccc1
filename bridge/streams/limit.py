"""How many streams may be open at once, whoever starts them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from bridge.errors import Overloaded


class StreamLimit:
    """The limit that all streams of the process share.

    Args:
        max_streams: how many may be open at once.
        numbering: first number of a stream and the step to the next one, so that workers number differently.
    """

    def __init__(self, max_streams: int, numbering: tuple[int, int] = (1, 1)) -> None:
        self.open = 0
        """Streams that are open."""
        self.closing = False
        """The bridge is shutting down: nothing new is started."""
        self._max_streams = max_streams
        self._numbering = numbering

    def numbers(self) -> Iterator[int]:
        """Numbers for one kind of stream."""
        return itertools.count(*self._numbering)

    @property
    def free(self) -> bool:
        """Whether one more stream may be opened."""
        return not self.closing and self.open < self._max_streams

    def check(self) -> None:
        """See whether one more stream may be opened.

        Raises:
            Overloaded: not now.
        """
        if self.closing:
            raise Overloaded("the bridge is shutting down")
        if self.open >= self._max_streams:
            raise Overloaded(f"{self.open} streams are open and media.max_streams allows no more")
