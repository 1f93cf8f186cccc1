"""The interface of an encapsulation of audio in binary messages, and one that watches the queue of another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from bridge.dialects.base import Command, Mark, Play

DRAINED: Final = "drained:"
"""Begins the names of marks behind audio."""


class Encapsulation(Protocol):
    """Encapsulation of audio in binary messages, in both directions."""

    def wrap(self, frame: bytes, now: float) -> list[bytes]:
        """Return the messages to send after one frame of exactly 20 ms, s16le; empty if the frame is held back."""

    def rest(self) -> list[bytes]:
        """Return the messages that are held back."""
        return []

    def connected(self, now: float) -> None:
        """Begin to wait for the first message from the application."""
        return

    def unwrap(self, message: bytes) -> Sequence[Command]:
        """Return the commands in a message."""


class Watched(Encapsulation):
    """An encapsulation that adds a mark behind the audio of each message, to detect the end of the queue.

    Attributes:
        last_mark: the name of the last one.
    """

    __slots__ = ("_count", "_inner", "last_mark")

    def __init__(self, inner: Encapsulation) -> None:
        self._inner = inner
        self._count = 0
        self.last_mark = ""

    def wrap(self, frame: bytes, now: float) -> list[bytes]:
        """Wrap a frame in the wrapped encapsulation."""
        return self._inner.wrap(frame, now)

    def rest(self) -> list[bytes]:
        """Return the messages that the wrapped encapsulation holds back."""
        return self._inner.rest()

    def connected(self, now: float) -> None:
        """Begin to wait for the first message in the wrapped encapsulation."""
        self._inner.connected(now)

    def unwrap(self, message: bytes) -> Sequence[Command]:
        """Return the commands in a message, and a mark behind its audio."""
        commands = self._inner.unwrap(message)
        if not any(type(command) is Play for command in commands):
            return commands
        self._count += 1
        self.last_mark = f"{DRAINED}{self._count}"
        return (*commands, Mark(self.last_mark))
