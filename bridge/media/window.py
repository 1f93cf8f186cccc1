"""What was made while there was no connection: the most recent audio, to be sent first on the next one."""

from __future__ import annotations

from collections import deque
from heapq import merge

from bridge.dialects.base import Message

KEPT_MESSAGES = 1000
"""At most so many messages without audio are kept; they are few, but an outage may be long."""

_NOTHING: deque[tuple[int, Message, float, str]] = deque(maxlen=0)
"""In a window that has not been needed yet: an empty deque takes 760 bytes, and most connections never break."""


class RecentWindow:
    """Keeps messages in order, and of those that hold audio the last ``max_ms`` milliseconds.

    Args:
        max_ms: how much audio is kept; beyond it the oldest audio is dropped. 0 keeps none.

    Raises:
        ValueError: ``max_ms`` is negative.
    """

    def __init__(self, max_ms: float) -> None:
        if max_ms < 0:
            raise ValueError("the window of recent audio cannot be shorter than 0 ms")
        self.dropped_ms: dict[str, float] = {}
        """Audio of each track that found no room any more, in milliseconds, since the window was made."""
        self.dropped_messages = 0
        """Messages thrown away for any reason, with and without audio."""
        self._max_ms = max_ms
        self._count = 0
        # Apart, so that dropping the oldest of a kind never has to step over the other kind.
        self._audio = _NOTHING
        self._others = _NOTHING
        self._held_ms = 0.0

    @property
    def held_ms(self) -> float:
        """Audio that is kept at present, in milliseconds."""
        return self._held_ms

    def __len__(self) -> int:
        return len(self._audio) + len(self._others)

    def keep(self, message: Message, audio_ms: float = 0.0, track: str = "") -> None:
        """Keep ``message``, which holds ``audio_ms`` milliseconds of a track's audio, or none."""
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
            # The sum of what is left, not a difference that rounding could leave beside 0 for ever.
            self._held_ms = self._held_ms - dropped_ms if self._audio else 0.0
            self.dropped_ms[of] = self.dropped_ms.get(of, 0.0) + dropped_ms
            self.dropped_messages += 1

    def take_all(self) -> list[tuple[Message, float]]:
        """Everything that is kept, oldest first, as (message, audio_ms); the window is empty afterwards."""
        taken = [(message, audio_ms) for _, message, audio_ms, _ in merge(self._audio, self._others)]
        self._audio.clear()
        self._others.clear()
        self._held_ms = 0.0
        return taken
