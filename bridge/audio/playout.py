"""The queue of audio to play into a call: bounded by duration, emptied one frame at a time."""

from __future__ import annotations

import sys
from collections import deque

from bridge.audio.adaptive_lead import AdaptiveLead
from bridge.audio.foreign_block import Converter, ForeignBlock
from bridge.audio.format import FRAME_MS, AudioFormat
from bridge.audio.shortening import is_quiet, shorten

MAX_MARKS = 4096
"""Limit of marks in one playout; more are refused and counted."""
PAUSE_SPACING_TICKS = 2
"""Smallest distance of two cuts: half of a pause remains."""
SPEECH_BACKLOG_FRAMES = 3
"""A smaller backlog is recovered in pauses only."""
SPEECH_SPACING_TICKS = 5
"""Distance of two cuts in speech: it becomes a tenth faster..."""
LARGE_BACKLOG_FRAMES = 5
"""... and a quarter while the backlog is not smaller than this."""
_NO_MARKS: deque[tuple[int, str]] = deque(maxlen=0)
"""Shared by playouts that never had a mark: an empty deque takes 760 bytes, and most applications set no marks."""
_NEVER = sys.maxsize
"""A depth that no queue has."""


class Playout:
    """A queue of audio that accepts blocks of any size and returns exact 20 ms frames, with marks between the blocks.

    Asterisk neither buffers nor paces, so only this queue can report what has been played and can discard the rest. The
    caller's 20 ms tick is the clock: one ``take()`` per tick.

    Blocks are stored as received and never copied as a whole: a take from a 5 MiB block costs the same as from a 20 ms
    block. A block at another rate is converted as it is taken.

    Args:
        fmt: format of the returned frames, and of blocks without a rate.
        max_queued_ms: queued audio from which further audio is refused, in milliseconds. Messages are accepted or
            refused as a whole, so the queue may exceed this by less than one message. Then less than half of it must
            be queued before audio is accepted again: a sender of short messages loses one passage instead of parts of
            every word.
        lead_ms: after a dry spell, wait until this much audio is queued, or until the first of it has waited this long.
            This absorbs jitter of the sender; a sender that sends ahead is not delayed.
        lead: adapts the lead to the sender, instead of ``lead_ms``.

    Attributes:
        padded_frames: frames that were padded with silence.
        marked: whether any mark is pending.
    """

    __slots__ = (
        "_added_bytes",
        "_alert_bytes",
        "_blocks",
        "_broken",
        "_converters",
        "_frame_bytes",
        "_lead",
        "_lead_bytes",
        "_lead_ticks",
        "_marks",
        "_max_bytes",
        "_offset",
        "_plain_bytes",
        "_queued_bytes",
        "_rate",
        "_refusing",
        "_sample_bytes",
        "_silence_bytes",
        "_unshortened",
        "_waited",
        "fmt",
        "marked",
        "padded_frames",
    )

    def __init__(
        self, fmt: AudioFormat, max_queued_ms: int, lead_ms: int = 0, lead: AdaptiveLead | None = None
    ) -> None:
        self.fmt = fmt
        self._rate = fmt.rate
        self._sample_bytes = fmt.sample_bytes
        self._frame_bytes = fmt.frame_bytes
        self._max_bytes = fmt.bytes_of(max_queued_ms)
        self._refusing = False  # audio was refused; half of the limit must be played first
        self._blocks: deque[bytes | ForeignBlock] = deque()
        self._converters: dict[int, Converter] = {}  # by source rate, of which there are nine
        self._offset = 0  # of the next byte in the first block
        self._queued_bytes = 0
        self._added_bytes = 0  # since the beginning: also the position of a new mark
        self._marks = _NO_MARKS
        self.marked = False
        self._lead = lead
        self._lead_bytes = max(fmt.bytes_of(lead_ms), self._frame_bytes)
        self._lead_ticks = max(lead_ms // FRAME_MS, 1)
        self._waited: int | None = 0  # ticks spent waiting for the lead; None: playing
        self._silence_bytes = 0  # inserted in this dry spell
        self._broken = False  # the dry spell follows audio, and not a start or `clear`
        self._unshortened = 0  # ticks since audio was cut out
        self.padded_frames = 0
        self._alert_bytes = self._max_bytes if lead is None else 0  # from this depth on, `play` has more to do
        self._plain_bytes = _NEVER  # from this depth on, `take` has nothing to do but to take

    @property
    def queued_ms(self) -> float:
        """Duration of the queued audio, in milliseconds."""
        return self.fmt.duration_ms(self._queued_bytes)

    @property
    def added_ms(self) -> float:
        """Duration of all audio that was ever queued, in milliseconds."""
        return self.fmt.duration_ms(self._added_bytes)

    def play(self, pcm: bytes, rate: int | None = None, follows: bool = False) -> int:
        """Queue whole samples.

        Args:
            pcm: the samples, mono.
            rate: of ``pcm`` in Hz, one of ``SLIN_RATES``; by default that of ``fmt``. Other rates are supported for
                slin only.
            follows: the audio continues what was queued last, so it is queued even if the queue is full.

        Returns:
            How many bytes (at the rate of ``fmt``) were refused: none or all.

        Raises:
            ValueError: ``pcm`` ends in half a sample; everything after it would be noise.
        """
        size = len(pcm)
        if size % self._sample_bytes:
            raise ValueError(f"{size} bytes of {self.fmt.encoding} end in the middle of a sample")
        if rate is not None and rate != self._rate:
            return self._play_foreign(pcm, rate, follows)
        if self._queued_bytes >= self._alert_bytes and self._refuses(follows):
            return size
        if size >= self._frame_bytes:
            self._blocks.append(pcm)
        elif size:
            self._append_small(pcm)
        self._queued_bytes += size
        self._added_bytes += size
        return 0

    def _refuses(self, follows: bool) -> bool:
        """Return whether the queue is full, and report to the lead what it has to know of arrivals."""
        queued = self._queued_bytes
        lead = self._lead
        if lead is not None and not lead.sends_ahead:
            if not queued:
                lead.arrived()
            lead.filled(queued / self._frame_bytes)
            self._aim_play()
        if follows:
            return False
        refusing = queued >= (self._max_bytes // 2 if self._refusing else self._max_bytes)
        if refusing is not self._refusing:
            self._refusing = refusing
            self._aim_play()
        return refusing

    def _aim_play(self) -> None:
        """Set from which depth on `play` has more to do than to queue."""
        lead = self._lead
        if self._refusing:
            self._alert_bytes = 0  # until audio is accepted
        elif lead is None or lead.sends_ahead:
            self._alert_bytes = self._max_bytes
        elif self._queued_bytes or self._waited is None:
            most = lead.most * self._frame_bytes + self._silence_bytes
            self._alert_bytes = min(int(most) + 1, self._max_bytes)
        else:
            self._alert_bytes = 0  # the next audio is the first

    def _aim_take(self) -> None:
        """Set from which depth on `take` has nothing to do but to take."""
        watched = self._lead is not None and self._lead.watching
        playing = self._waited is None
        self._plain_bytes = self._frame_bytes if playing and not self.marked and not watched else _NEVER

    def _append_small(self, pcm: bytes) -> None:
        """Append a block shorter than a frame; join it to a short one before it.

        So the limit of duration also limits the number of objects: a separate block of two bytes would take twenty
        times its size.
        """
        blocks = self._blocks
        last = blocks[-1] if blocks else None
        if isinstance(last, bytes) and len(last) < self._frame_bytes:
            blocks[-1] = last + pcm
        else:
            blocks.append(pcm)

    def _play_foreign(self, pcm: bytes, rate: int, follows: bool) -> int:
        samples = len(pcm) // 2
        if self._queued_bytes >= self._alert_bytes and self._refuses(follows):
            return 2 * (-(-samples * self._rate // rate))
        converter = self._converters.get(rate)
        if converter is None:
            converter = self._converters[rate] = Converter(rate, self.fmt.rate)
        if samples:
            last = self._blocks[-1] if self._blocks else None
            if not (isinstance(last, ForeignBlock) and last.converter is converter and last.join(pcm)):
                self._blocks.append(ForeignBlock(pcm, converter))
            size = 2 * converter.accept(samples)
            self._queued_bytes += size
            self._added_bytes += size
        return 0

    def mark(self, name: str) -> bool:
        """Set a mark behind all queued audio; return False if too many are pending, then the mark is dropped."""
        if len(self._marks) >= MAX_MARKS:
            return False
        if self._marks is _NO_MARKS:
            self._marks = deque()
        self._marks.append((self._added_bytes, name))
        self.marked = True
        self._plain_bytes = _NEVER
        return True

    def reached(self) -> list[str]:
        """Return the marks passed since the last call, in order; a mark in an empty queue is passed immediately."""
        marks = self._marks
        names: list[str] = []
        played = self._added_bytes - self._queued_bytes
        while marks and marks[0][0] <= played:
            names.append(marks.popleft()[1])
        if not marks:
            self.marked = False
            self._aim_take()
        return names

    def clear(self) -> list[str]:
        """Empty the queue; return the names of all pending marks, in order."""
        names = [name for _, name in self._marks]
        self._marks.clear()
        self.marked = False
        self._blocks.clear()
        self._converters.clear()  # they still hold milliseconds of the discarded audio
        self._offset = 0
        self._queued_bytes = 0
        self._waited = 0
        self._silence_bytes = 0
        self._broken = False
        self._refusing = False
        self._plain_bytes = _NEVER
        self._aim_play()
        return names

    def take(self) -> bytes | None:
        """Return the next frame, of exactly ``fmt.frame_bytes`` bytes; None if silence is due.

        A dry spell ends when the lead (at least a whole frame) is queued, or its time has passed; a sender of, say, 15
        ms blocks keeps that margin from then on. If the queue runs out within a frame, the frame is padded with
        silence, and the next dry spell begins.
        """
        queued = self._queued_bytes
        if queued < self._plain_bytes:
            return self._take_carefully(queued)
        size = self._frame_bytes
        first = self._blocks[0]
        if self._offset or type(first) is not bytes or len(first) != size:
            return self._take(size)
        # The usual case: blocks of 20 ms.
        del self._blocks[0]
        self._queued_bytes = queued - size
        return first

    def _take_carefully(self, queued: int) -> bytes | None:
        """Return the next frame while silence is due, a mark is pending, or the lead watches the sender."""
        if self._waited is None:
            if queued >= self._frame_bytes:
                if self._lead is not None and self._lead.watching:
                    self._observe(self._lead, queued)
                return self._take(self._frame_bytes)
            self._waited = 0
            self._plain_bytes = _NEVER
            return self._padded(queued)
        if not queued or self._gathers(queued, self._waited):
            self._silence_bytes += self._frame_bytes
            self._waited = self._waited + 1 if queued else 0
            return None
        if queued < self._frame_bytes:
            self._waited = 0
            return self._padded(queued)
        self._start()
        return self._take(self._frame_bytes)

    def _gathers(self, queued: int, waited: int) -> bool:
        """Return whether the lead is neither queued nor waited for."""
        lead = self._lead
        if lead is None:
            return queued < self._lead_bytes and waited < self._lead_ticks
        return (queued < lead.frames * self._frame_bytes and waited < lead.frames) or lead.fresh

    def _start(self) -> None:
        """End a dry spell."""
        self._waited = None
        if self._lead is not None:
            self._lead.resumed(self._silence_bytes / self._frame_bytes if self._broken else None)
            self._broken = True
            self._silence_bytes = 0
            self._aim_play()
        self._aim_take()

    def _observe(self, lead: AdaptiveLead, queued: int) -> None:
        """Pass the depth of the queue to the lead, and recover a part of the backlog."""
        lead.observe(queued / self._frame_bytes)
        self._unshortened += 1
        spare = queued - (lead.frames + 2) * self._frame_bytes
        if lead.backlog >= 1 and spare >= 0 and self._unshortened >= PAUSE_SPACING_TICKS:
            self._recover(lead)
        if not lead.watching:
            self._aim_take()
            self._aim_play()

    def _recover(self, lead: AdaptiveLead) -> None:
        """Drop a frame of a pause, or a few milliseconds of speech; marks within them are reached."""
        before = self._queued_bytes
        frame = self._take(self._frame_bytes)
        if not is_quiet(frame):
            if self._may_shorten(lead):
                self._unshortened = 0  # also if it fails, as in noise: the attempt costs as much
                self._return(shorten(frame + self._take(self._frame_bytes), self._rate))
            else:
                self._return(frame)
        if before > self._queued_bytes:
            lead.recovered((before - self._queued_bytes) / self._frame_bytes)
            self._unshortened = 0

    def _may_shorten(self, lead: AdaptiveLead) -> bool:
        """Return whether speech may be shortened now, and count it."""
        spacing = PAUSE_SPACING_TICKS if lead.backlog >= LARGE_BACKLOG_FRAMES else SPEECH_SPACING_TICKS
        return lead.backlog >= SPEECH_BACKLOG_FRAMES and self._unshortened >= spacing and lead.cuts.spend()

    def _return(self, pcm: bytes) -> None:
        """Put audio back that was taken last."""
        if self._offset:
            self._blocks[0] = self._first()[self._offset :]
            self._offset = 0
        self._blocks.appendleft(pcm)
        self._queued_bytes += len(pcm)

    def _padded(self, queued: int) -> bytes | None:
        """Return the remaining audio, padded with silence; the queue is empty afterwards."""
        missing = self._frame_bytes - queued
        self._silence_bytes += missing
        if not queued:
            self._aim_play()
            return None
        self.padded_frames += 1
        frame = self._take(queued) + self.fmt.silence(missing)
        self._aim_play()
        return frame

    def _take(self, size: int) -> bytes:
        """Return and remove ``size`` bytes, which must be queued."""
        self._queued_bytes -= size
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
        """Return the first block, converted if necessary; the queue must not be empty."""
        blocks = self._blocks
        while not isinstance(first := blocks[0], bytes):
            piece = first.next()
            if first.done:
                blocks.popleft()
            if piece:
                blocks.appendleft(piece)
        return first
