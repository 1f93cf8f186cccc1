"""The most recent audio of a disconnection, to be sent first on the next connection."""

from __future__ import annotations

from collections import deque
from heapq import merge

from bridge.dialects.base import Message

KEPT_MESSAGES = 1000
"""Limit of kept messages without audio; these are rare, but a disconnection may be long."""

_NOTHING: deque[tuple[int, Message, float, str]] = deque(maxlen=0)
"""Shared by unused windows: an empty deque takes 760 bytes, and most connections never break."""


class RecentWindow:
    """Keeps messages in order, limited to the last ``max_ms`` milliseconds of audio.

    Args:
        max_ms: limit of kept audio in milliseconds; beyond it the oldest is dropped. 0 keeps none.

    Raises:
        ValueError: ``max_ms`` is negative.
    """

    def __init__(self, max_ms: float) -> None:
        if max_ms < 0:
            raise ValueError("max_ms must not be negative")
        self.dropped_ms: dict[str, float] = {}
        """Dropped audio of each track in milliseconds, in total."""
        self.dropped_messages = 0
        """Dropped messages, with and without audio."""
        self._max_ms = max_ms
        self._count = 0
        # Two queues: dropping the oldest of a kind need not skip the other kind.
        self._audio = _NOTHING
        self._others = _NOTHING
        self._held_ms = 0.0

    @property
    def held_ms(self) -> float:
        """Audio that is kept now, in milliseconds."""
        return self._held_ms

    def __len__(self) -> int:
        return len(self._audio) + len(self._others)

    def keep(self, message: Message, audio_ms: float = 0.0, track: str = "") -> None:
        """Keep a message with ``audio_ms`` milliseconds of a track's audio (0: it has no audio)."""
        self._count += 1
        if self._audio is _NOTHING:
            self._audio, self._others = deque(), deque()
        if audio_ms <= 0:
            self._others.append((self._count, message, 0.0, ""))
            if len(self._others) > KEPT_MESSAGES:
                self._others.popleft()
                self.dropped_messages += 1
            return
        self._audio.append((self._count, message, audio_ms, track))
        self._held_ms += audio_ms
        while self._held_ms > self._max_ms:
            _, _, dropped_ms, of = self._audio.popleft()
            # Reset when empty: rounding errors of the differences would remain indefinitely.
            self._held_ms = self._held_ms - dropped_ms if self._audio else 0.0
            self.dropped_ms[of] = self.dropped_ms.get(of, 0.0) + dropped_ms
            self.dropped_messages += 1

    def take_all(self) -> list[tuple[Message, float]]:
        """Return and remove all messages, oldest first, as (message, audio_ms)."""
        taken = [(message, audio_ms) for _, message, audio_ms, _ in merge(self._audio, self._others)]
        self._audio.clear()
        self._others.clear()
        self._held_ms = 0.0
        return taken
