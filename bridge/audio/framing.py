"""Any-size bytes in, exact frames out."""

from __future__ import annotations


class Framer:
    """Cuts a byte stream into frames of one size, in order, losing nothing.

    Asterisk's frames are usually 20 ms, but follow the far end's: 10, 30, 40 and 60 ms happen.

    Args:
        frame_bytes: size of every frame that comes out, in bytes.

    Attributes:
        waiting: the bytes, fewer than a frame, that wait for more.

    Raises:
        ValueError: ``frame_bytes`` is not positive.
    """

    __slots__ = ("frame_bytes", "waiting")

    def __init__(self, frame_bytes: int) -> None:
        if frame_bytes <= 0:
            raise ValueError(f"a frame of {frame_bytes} bytes makes no sense")
        self.frame_bytes = frame_bytes
        self.waiting = b""

    def push(self, data: bytes) -> list[bytes]:
        """The frames that ``data`` completes; what is left waits for the next call."""
        size = self.frame_bytes
        if self.waiting:
            data = self.waiting + data
        elif len(data) == size:  # by far the commonest case: nothing to cut, nothing to copy
            return [data]
        end = len(data) - len(data) % size
        self.waiting = data[end:]
        return [data[start : start + size] for start in range(0, end, size)]

    def rest(self) -> bytes:
        """Takes out the bytes (fewer than a frame) that still wait."""
        rest, self.waiting = self.waiting, b""
        return rest
