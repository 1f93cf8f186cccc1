"""What waits to be played into a call: bounded by duration, taken a frame at a time."""

from __future__ import annotations

from collections import deque

from bridge.audio.format import FRAME_MS, AudioFormat

MAX_MARKS = 4096
"""How many marks may wait in one playout; more are refused and counted."""


class Playout:
    """A queue of audio that comes in any block size and leaves in exact 20 ms frames, with marks between the blocks.

    Asterisk neither buffers nor paces, so this is the only place that knows what has been played and can throw away
    what has not. The caller's 20 ms tick is the clock: one ``take()`` a tick.

    A block is stored as it came and never copied whole: a take costs the same in a 5 MiB block as in a 20 ms one.

    Args:
        fmt: format of the audio, in and out.
        max_queued_ms: how much audio may wait, in milliseconds. What is beyond is dropped, the newest first, so that
            what was accepted stays contiguous.
        lead_ms: after a dry spell, wait until so much audio is there, or so much time has passed since the first of it
            came. It makes up for a sender whose blocks come at uneven times; one that sends ahead is not delayed.

    Attributes:
        dropped_blocks: calls of ``play`` that lost something to the bound.
        padded_frames: frames that were filled up with silence.
        dropped_marks: marks refused because ``MAX_MARKS`` of them waited.
    """

    __slots__ = (
        "_blocks",
        "_dropped_bytes",
        "_frame_bytes",
        "_lead_bytes",
        "_lead_ticks",
        "_marks",
        "_max_bytes",
        "_offset",
        "_queued_bytes",
        "_taken_bytes",
        "_waited",
        "dropped_blocks",
        "dropped_marks",
        "fmt",
        "padded_frames",
    )

    def __init__(self, fmt: AudioFormat, max_queued_ms: int, lead_ms: int = 0) -> None:
        self.fmt = fmt
        self._frame_bytes = fmt.frame_bytes
        self._max_bytes = fmt.bytes_of(max_queued_ms)
        self._blocks: deque[bytes] = deque()
        self._offset = 0  # of the next byte to take, in the first block
        self._queued_bytes = 0
        self._taken_bytes = 0  # since the beginning; with _queued_bytes the position that a new mark gets
        self._marks: deque[tuple[int, str]] = deque()
        self._lead_bytes = max(fmt.bytes_of(lead_ms), self._frame_bytes)
        self._lead_ticks = max(lead_ms // FRAME_MS, 1)
        self._waited: int | None = 0  # ticks for which audio was left where it was, to wait for more; None: it plays
        self._dropped_bytes = 0
        self.dropped_blocks = 0
        self.dropped_marks = 0
        self.padded_frames = 0

    @property
    def queued_ms(self) -> float:
        """How long the waiting audio lasts, in milliseconds."""
        return self.fmt.duration_ms(self._queued_bytes)

    @property
    def dropped_ms(self) -> float:
        """How much audio the bound has cost so far, in milliseconds."""
        return self.fmt.duration_ms(self._dropped_bytes)

    def play(self, pcm: bytes) -> int:
        """Queues whole samples, and says how many bytes at their end found no room.

        Raises:
            ValueError: ``pcm`` ends in half a sample; everything after it would be noise.
        """
        size = len(pcm)
        if size % self.fmt.sample_bytes:
            raise ValueError(f"{size} bytes are not a whole number of {self.fmt.encoding} samples")
        dropped = self._queued_bytes + size - self._max_bytes
        if dropped > 0:
            self._dropped_bytes += dropped
            self.dropped_blocks += 1
            size -= dropped
            pcm = pcm[:size]
        if size:
            blocks = self._blocks
            if size < self._frame_bytes and blocks and len(blocks[-1]) < self._frame_bytes:
                # Joined, so that the bound on duration also bounds the number of objects: two bytes of audio in a
                # block of their own would take twenty times their size.
                blocks[-1] += pcm
            else:
                blocks.append(pcm)
            self._queued_bytes += size
        return max(dropped, 0)

    def mark(self, name: str) -> bool:
        """Puts a mark behind everything queued so far. False: too many wait already, this one is forgotten."""
        if len(self._marks) >= MAX_MARKS:
            self.dropped_marks += 1
            return False
        self._marks.append((self._taken_bytes + self._queued_bytes, name))
        return True

    def reached(self) -> list[str]:
        """Names of the marks passed since the last call, in order. A mark in an empty queue is passed at once."""
        marks = self._marks
        names: list[str] = []
        while marks and marks[0][0] <= self._taken_bytes:
            names.append(marks.popleft()[1])
        return names

    def clear(self) -> list[str]:
        """Empties the queue, and gives the names of all marks not yet told by ``reached()``, in order."""
        names = [name for _, name in self._marks]
        self._marks.clear()
        self._blocks.clear()
        self._offset = 0
        self._queued_bytes = 0
        self._waited = 0
        return names

    def take(self) -> bytes | None:
        """The next frame, of exactly ``fmt.frame_bytes`` bytes; None: nothing to play, send silence.

        A dry spell ends when the lead (at least a whole frame) is there, or has been waited for; a sender of, say,
        15 ms blocks has the difference in hand from then on. When the queue runs out in the middle of a frame, the
        rest of it is silence: that happens once, and then the next dry spell has begun.
        """
        size = self._frame_bytes
        queued = self._queued_bytes
        waited = self._waited
        if waited is None:
            if queued >= size:
                return self._take(size)
            self._waited = 0
            return self._padded(queued)
        if queued < self._lead_bytes and waited < self._lead_ticks:
            self._waited = waited + 1 if queued else 0
            return None
        if queued < size:
            self._waited = 0
            return self._padded(queued)
        self._waited = None
        return self._take(size)

    def _padded(self, queued: int) -> bytes | None:
        """What is left, filled up with silence."""
        if not queued:
            return None
        self.padded_frames += 1
        return self._take(queued) + self.fmt.silence(self._frame_bytes - queued)

    def _take(self, size: int) -> bytes:
        """Takes ``size`` bytes out; so many are there."""
        self._queued_bytes -= size
        self._taken_bytes += size
        blocks = self._blocks
        block = blocks[0]
        start = self._offset
        end = start + size
        if end < len(block):
            self._offset = end
            return block[start:end]
        blocks.popleft()
        self._offset = 0
        part = block[start:] if start else block
        missing = end - len(block)
        if not missing:
            return part
        parts = [part]
        while missing:
            block = blocks[0]
            if len(block) > missing:
                parts.append(block[:missing])
                self._offset = missing
                break
            parts.append(block)
            missing -= len(block)
            blocks.popleft()
        return b"".join(parts)
