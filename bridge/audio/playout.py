"""What waits to be played into a call: bounded by duration, taken a frame at a time."""

from __future__ import annotations

from collections import deque

from bridge.audio.format import FRAME_MS, AudioFormat

MAX_MARKS = 4096
"""How many marks may wait in one playout; more are refused and counted."""
_NO_MARKS: deque[tuple[int, str]] = deque(maxlen=0)
"""In a playout that had none yet: an empty deque takes 760 bytes, and most applications set no marks."""


class _Converter:
    """The way from one rate to the queue's; it knows how much comes out before it is converted."""

    __slots__ = ("_rate_in", "_rate_out", "_samples_in", "piece_bytes", "resampler")

    def __init__(self, rate_in: int, rate_out: int) -> None:
        from bridge.audio.resample import Resampler  # numpy is only for audio of another rate

        self.resampler = Resampler(rate_in, rate_out)
        self.piece_bytes = rate_in * FRAME_MS // 1000 * 2
        self._rate_in = rate_in
        self._rate_out = rate_out
        self._samples_in = 0  # accepted so far, converted or not

    def accept(self, samples: int) -> int:
        """Take so many samples in; return how many come out for them."""
        before = self._samples_out(self._samples_in)
        self._samples_in += samples
        return self._samples_out(self._samples_in) - before

    def _samples_out(self, samples_in: int) -> int:
        return -(-samples_in * self._rate_out // self._rate_in)  # what Resampler promises, rounded up


class _Foreign:
    """A block at another rate. It is converted 20 ms at a time when its turn comes: 16 MiB at once would take long
    enough to be heard on every call, and many times the memory."""

    __slots__ = ("_at", "_pcm", "converter")

    def __init__(self, pcm: bytes, converter: _Converter) -> None:
        self.converter = converter
        self._pcm = pcm
        self._at = 0

    def join(self, pcm: bytes) -> bool:
        """Put ``pcm`` behind what is there; False: it is long enough already."""
        if len(self._pcm) >= self.converter.piece_bytes:
            return False
        self._pcm += pcm
        return True

    def next(self) -> bytes:
        """The next piece, converted; it may be empty."""
        end = self._at + self.converter.piece_bytes
        piece = self._pcm[self._at : end]
        self._at = end
        return self.converter.resampler.convert(piece)

    @property
    def done(self) -> bool:
        """Nothing is left."""
        return self._at >= len(self._pcm)


class Playout:
    """A queue of audio that comes in any block size and leaves in exact 20 ms frames, with marks between the blocks.

    Asterisk neither buffers nor paces, so this is the only place that knows what has been played and can throw away
    what has not. The caller's 20 ms tick is the clock: one ``take()`` a tick.

    A block is stored as it came and never copied whole: a take costs the same in a 5 MiB block as in a 20 ms one. One
    at another rate is converted as it is taken.

    Args:
        fmt: format of the audio that is taken, and of what comes in unless it says another rate.
        max_queued_ms: how much audio may wait before further audio is refused, in milliseconds. What comes is kept
            whole or rejected, so more may wait, by less than one message.
        lead_ms: after a dry spell, wait until so much audio is there, or so much time has passed since the first of it
            came. It makes up for a sender whose blocks come at uneven times; one that sends ahead is not delayed.

    Attributes:
        padded_frames: frames that were filled up with silence.
        marked: whether any mark waits to be told.
    """

    __slots__ = (
        "_blocks",
        "_converters",
        "_frame_bytes",
        "_lead_bytes",
        "_lead_ticks",
        "_marks",
        "_max_bytes",
        "_offset",
        "_queued_bytes",
        "_rate",
        "_sample_bytes",
        "_taken_bytes",
        "_waited",
        "fmt",
        "marked",
        "padded_frames",
    )

    def __init__(self, fmt: AudioFormat, max_queued_ms: int, lead_ms: int = 0) -> None:
        self.fmt = fmt
        self._rate = fmt.rate
        self._sample_bytes = fmt.sample_bytes
        self._frame_bytes = fmt.frame_bytes
        self._max_bytes = fmt.bytes_of(max_queued_ms)
        self._blocks: deque[bytes | _Foreign] = deque()
        self._converters: dict[int, _Converter] = {}  # by source rate; of those there are nine
        self._offset = 0  # of the next byte to take, in the first block
        self._queued_bytes = 0
        self._taken_bytes = 0  # while marks waited; with _queued_bytes the position that a new mark gets
        self._marks = _NO_MARKS
        self.marked = False
        self._lead_bytes = max(fmt.bytes_of(lead_ms), self._frame_bytes)
        self._lead_ticks = max(lead_ms // FRAME_MS, 1)
        self._waited: int | None = 0  # ticks for which audio was left where it was, to wait for more; None: it plays
        self.padded_frames = 0

    @property
    def queued_ms(self) -> float:
        """How long the waiting audio lasts, in milliseconds."""
        return self.fmt.duration_ms(self._queued_bytes)

    def play(self, pcm: bytes, rate: int | None = None, follows: bool = False) -> int:
        """Queue whole samples; return how many bytes were refused, as they would be taken: none or all of them.

        Args:
            rate: of ``pcm`` in Hz, one of ``SLIN_RATES``; by default that of ``fmt``. Another one is for slin only.
            follows: it belongs to what was queued last, so it is queued whatever waits.

        Raises:
            ValueError: ``pcm`` ends in half a sample; everything after it would be noise.
        """
        size = len(pcm)
        if size % self._sample_bytes:
            raise ValueError(f"{size} bytes are not a whole number of {self.fmt.encoding} samples")
        if rate is not None and rate != self._rate:
            return self._play_foreign(pcm, rate, follows)
        if self._queued_bytes >= self._max_bytes and not follows:
            return size
        if size:
            if size < self._frame_bytes:
                self._append_small(pcm)
            else:
                self._blocks.append(pcm)
            self._queued_bytes += size
        return 0

    def _append_small(self, pcm: bytes) -> None:
        """Joined, so that the bound on duration also bounds the number of objects: two bytes of audio in a block of
        their own would take twenty times their size."""
        blocks = self._blocks
        last = blocks[-1] if blocks else None
        if isinstance(last, bytes) and len(last) < self._frame_bytes:
            blocks[-1] = last + pcm
        else:
            blocks.append(pcm)

    def _play_foreign(self, pcm: bytes, rate: int, follows: bool) -> int:
        samples = len(pcm) // 2
        if self._queued_bytes >= self._max_bytes and not follows:
            return 2 * (-(-samples * self._rate // rate))
        converter = self._converters.get(rate)
        if converter is None:
            converter = self._converters[rate] = _Converter(rate, self.fmt.rate)
        if samples:
            last = self._blocks[-1] if self._blocks else None
            if not (isinstance(last, _Foreign) and last.converter is converter and last.join(pcm)):
                self._blocks.append(_Foreign(pcm, converter))
            self._queued_bytes += 2 * converter.accept(samples)
        return 0

    def mark(self, name: str) -> bool:
        """Puts a mark behind everything queued so far. False: too many wait already, this one is forgotten."""
        if len(self._marks) >= MAX_MARKS:
            return False
        if self._marks is _NO_MARKS:
            self._marks = deque()
        self._marks.append((self._taken_bytes + self._queued_bytes, name))
        self.marked = True
        return True

    def reached(self) -> list[str]:
        """Names of the marks passed since the last call, in order. A mark in an empty queue is passed at once."""
        marks = self._marks
        names: list[str] = []
        while marks and marks[0][0] <= self._taken_bytes:
            names.append(marks.popleft()[1])
        self.marked = bool(marks)
        return names

    def clear(self) -> list[str]:
        """Empties the queue, and gives the names of all marks not yet told by ``reached()``, in order."""
        names = [name for _, name in self._marks]
        self._marks.clear()
        self.marked = False
        self._blocks.clear()
        self._converters.clear()  # they hold the last milliseconds of what is thrown away
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
                first = self._blocks[0]
                if self._offset or type(first) is not bytes or len(first) != size:
                    return self._take(size)
                # By far the commonest case: blocks of 20 ms.
                del self._blocks[0]
                self._queued_bytes = queued - size
                if self.marked:
                    self._taken_bytes += size
                return first
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
        if self.marked:
            self._taken_bytes += size
        blocks = self._blocks
        block = self._first()
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
            block = self._first()
            if len(block) > missing:
                parts.append(block[:missing])
                self._offset = missing
                break
            parts.append(block)
            missing -= len(block)
            blocks.popleft()
        return b"".join(parts)

    def _first(self) -> bytes:
        """The first block, or what comes first out of it. There is one."""
        blocks = self._blocks
        while not isinstance(first := blocks[0], bytes):
            piece = first.next()
            if first.done:
                blocks.popleft()
            if piece:
                blocks.appendleft(piece)
        return first
