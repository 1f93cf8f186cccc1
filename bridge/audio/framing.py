"""Cut a byte stream into frames of exact size."""

from __future__ import annotations


class Framer:
    """Cuts a byte stream into frames of one size, in order, without loss.

    Asterisk's frames are usually 20 ms, but follow the remote peer's ptime: 10, 30, 40 and 60 ms occur.

    Args:
        frame_bytes: size of every returned frame, in bytes.

    Attributes:
        waiting: the remaining bytes, fewer than a frame.

    Raises:
        ValueError: ``frame_bytes`` is not positive.
    """

    __slots__ = ("frame_bytes", "waiting")

    def __init__(self, frame_bytes: int) -> None:
        if frame_bytes <= 0:
            raise ValueError(f"frame_bytes must be positive, not {frame_bytes}")
        self.frame_bytes = frame_bytes
        self.waiting = b""

    def push(self, data: bytes) -> list[bytes]:
        """Return the frames that ``data`` completes; keep the remainder for the next call."""
        size = self.frame_bytes
        if self.waiting:
            data = self.waiting + data
        elif len(data) == size:  # the usual case: no cut, no copy
            return [data]
        end = len(data) - len(data) % size
        self.waiting = data[end:]
        return [data[start : start + size] for start in range(0, end, size)]

    def rest(self) -> bytes:
        """Return and remove the remaining bytes (fewer than a frame)."""
        rest, self.waiting = self.waiting, b""
        return rest
