"""Audio held back until the first message from an application shows which form of audio it expects."""

from __future__ import annotations

from typing import Final

FIRST_MESSAGE_S: Final = 0.5
"""Time in seconds that audio is held back for the first message of a connected application."""
CONNECT_S: Final = 2.0
"""Time in seconds that audio is held back for the connection."""


class HeldAudio:
    """Frames that are held back, and since when."""

    __slots__ = ("_connected_at", "_frames", "_since")

    def __init__(self) -> None:
        self._frames: list[bytes] = []
        self._since = 0.0
        self._connected_at: float | None = None

    def connected(self, now: float) -> None:
        """Begin to wait for the first message from the application."""
        self._connected_at = now

    def hold(self, frame: bytes, now: float) -> bool:
        """Hold a frame back; return whether the limit for all held frames has passed."""
        if not self._frames:
            self._since = now
        self._frames.append(frame)
        if self._connected_at is None:
            return now >= self._since + CONNECT_S
        return now >= max(self._since, self._connected_at) + FIRST_MESSAGE_S

    def release(self) -> list[bytes]:
        """Return all frames, oldest first, and remove them."""
        frames, self._frames = self._frames, []
        return frames
