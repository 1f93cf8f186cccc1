"""How late the audio from an application is when a phone receives it, and how often it is interrupted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

import numpy as np

from bridge.testing.peer import Peer, Samples, ulaw_bytes
from tests.lab.audio_phone import RATE, AudioPhone

FRAME_S = 0.02
FRAME_SAMPLES = 160
QUIET = frozenset(b"\xff\x7f")


@dataclass
class Sender:
    """An application that sends noise in real time.

    Args:
        chunk_frames: length of a message, in frames of 20 ms.
        late_s: returns how much later than its time a message is sent.
        stall_s: how long it sends nothing, once, after a third of the time; then it sends what is missing.
        pause_s: how much of each second is silent.
    """

    chunk_frames: int = 1
    late_s: Callable[[], float] = lambda: 0.0
    stall_s: float = 0.0
    pause_s: float = 0.0
    samples: Samples = field(default_factory=lambda: np.zeros(0, np.int16))
    """What is sent."""
    audio: bytes = b""
    """The same as G.711 mu-law."""
    sent_s: list[float] = field(default_factory=list)
    """When each frame was sent; those of one message one after another, as they are played."""

    def prepare(self, noise: Samples) -> None:
        """Prepare noise, which must survive G.711, before the calls: it would delay all of them."""
        pauses = np.arange(len(noise)) % RATE >= (1 - self.pause_s) * RATE
        self.samples = np.where(pauses, 0, noise).astype(np.int16)
        self.audio = ulaw_bytes(self.samples)

    async def send(self, application: Peer) -> None:
        """Send what has been prepared."""
        samples = self.samples
        now = asyncio.get_running_loop().time
        began, stalls = now(), len(samples) / RATE / 3
        for at in range(0, len(samples), self.chunk_frames * FRAME_SAMPLES):
            due = at / RATE
            if stalls <= due < stalls + self.stall_s:
                due = stalls + self.stall_s
            await asyncio.sleep(max(began + due + self.late_s() - now(), 0))  # until it is due
            self.sent_s += [now() + frame * FRAME_S for frame in range(self.chunk_frames)]
            chunk = samples[at : at + self.chunk_frames * FRAME_SAMPLES]
            await application.send(chunk.astype("<i2").tobytes())


@dataclass(frozen=True)
class Received:
    """What a phone received of a sender.

    Args:
        delays_ms: of each frame that is whole, from the application to the phone, in order.
        holes: how often silence began within the audio.
        frames: number of frames sent that are not silent.
    """

    delays_ms: list[float]
    holes: int
    frames: int

    @property
    def p50_ms(self) -> float:
        """The median delay."""
        return median(self.delays_ms)

    @property
    def quick_ms(self) -> float:
        """The delay that a twentieth of the frames does not exceed."""
        return sorted(self.delays_ms)[len(self.delays_ms) // 20]

    @property
    def last_second_ms(self) -> float:
        """The median delay at the end."""
        return median(self.delays_ms[-50:])

    @property
    def largest_ms(self) -> float:
        """The largest delay."""
        return max(self.delays_ms)

    def __str__(self) -> str:
        ordered = sorted(self.delays_ms)
        return (
            f"p50 {self.p50_ms:6.1f} ms, p95 {ordered[len(ordered) * 95 // 100]:6.1f} ms, "
            f"last second {self.last_second_ms:6.1f} ms, {self.holes} holes, "
            f"{len(ordered)} of {self.frames} frames"
        )


class Packets:
    """Keeps the audio that a phone receives, with the time of each packet.

    Args:
        phone: its own ear receives nothing more.
    """

    def __init__(self, phone: AudioPhone) -> None:
        self._packets: list[tuple[float, bytes]] = []
        self._now = asyncio.get_running_loop().time
        phone.ear.take = self._take  # type: ignore[method-assign]

    def _take(self, ulaw: bytes) -> None:
        self._packets.append((self._now(), ulaw))

    def compare(self, sender: Sender) -> Received:
        """Find what a sender has sent."""
        frames = (sender.audio[at : at + FRAME_SAMPLES] for at in range(0, len(sender.audio), FRAME_SAMPLES))
        places = {frame: place for place, frame in enumerate(frames) if not QUIET.issuperset(frame)}
        found = [(at, places.get(packet)) for at, packet in self._packets]
        known = [index for index, (_, place) in enumerate(found) if place is not None]
        silent = [QUIET.issuperset(packet) for _, packet in self._packets[known[0] : known[-1] + 1]]
        return Received(
            [(at - sender.sent_s[place]) * 1000 for at, place in found if place is not None],
            sum(now and not before for before, now in pairwise(silent)),
            len(places),
        )
