"""A phone that sends a tone, and notes when it receives which one: for gaps, which recordings do not show."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence

import numpy as np

from bridge.testing import judge
from bridge.testing.embedded import EmbeddedLab
from bridge.testing.lab_engine import Lab
from bridge.testing.peer import ulaw_bytes, ulaw_samples
from tests.lab.sip_phone import SipPhone

RATE = 8000
FRAME_SAMPLES = 160
FRAME_S = 0.02
STEP_HZ = 50
"""Tones are multiples of it: each frame has an integer number of periods."""
LOUD = 2000
PURE = 0.7
"""The share of a frame's energy that its tone has."""
RTP_HEADER_BYTES = 12


def tone_of(ulaw: bytes) -> int:
    """Return the tone in Hz that fills a frame of 20 ms; 0: none does."""
    samples = ulaw_samples(ulaw).astype(np.float64)
    if len(samples) != FRAME_SAMPLES:
        return 0
    levels = np.abs(np.fft.rfft(samples))[1:] * 2 / FRAME_SAMPLES
    strongest = int(levels.argmax())
    energy = float((levels**2).sum())
    pure = levels[strongest] > LOUD and levels[strongest] ** 2 > PURE * energy
    return (strongest + 1) * STEP_HZ if pure else 0


class Ear:
    """When each tone was received.

    Args:
        now: the clock.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.times: defaultdict[int, list[float]] = defaultdict(list)
        """Moments by tone in Hz."""
        self._now = now

    def take(self, ulaw: bytes) -> None:
        """Note what a frame holds."""
        self.times[tone_of(ulaw)].append(self._now())

    def gap(self, hz: int, begin: float, end: float) -> float:
        """Return the longest time in seconds without a tone, from ``begin`` to ``end``."""
        moments = [begin, *(at for at in self.times[hz] if begin < at < end), end]
        return max(0.0, *(after - before - FRAME_S for before, after in itertools.pairwise(moments)))

    def last_gap_end(self, hz: int, begin: float, gap_s: float = 0.3) -> float:
        """Return when the last gap ended in which a tone was missing; ``begin`` if there was none since then."""
        moments = [begin, *(at for at in self.times[hz] if at > begin)]
        return max((after for before, after in itertools.pairwise(moments) if after - before > gap_s), default=begin)

    def hears(self, hz: int, seconds: float = 1.0, share: float = 0.6) -> bool:
        """Return whether a tone has been received just now."""
        since = self._now() - seconds
        count = 0
        for at in reversed(self.times[hz]):
            if at < since:
                break
            count += 1
        return count >= share * seconds / FRAME_S


class AudioPhone(SipPhone):
    """One phone with audio; it calls, and is not called.

    Args:
        hz: what it sends; a multiple of `STEP_HZ`.
    """

    def __init__(self, name: str, pbx: tuple[str, int], password: str, hz: int) -> None:
        super().__init__(name, pbx, password)
        self.hz = hz
        self.ear = Ear(asyncio.get_running_loop().time)
        self.remote: tuple[str, int] | None = None
        self._frame = ulaw_bytes(judge.tone(hz, FRAME_S, RATE))
        self._sequence = 0
        self._source = random.randbytes(4)
        self._audio: asyncio.DatagramTransport

    @property
    def in_call(self) -> bool:
        """Whether its call is up."""
        return self.remote is not None

    async def open(self, host: str) -> None:
        """Open the port for audio."""
        self._audio, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Audio(self.ear), local_addr=(host, 0)
        )
        self.audio_port = self._audio.get_extra_info("sockname")[1]

    async def dial(self, number: str) -> None:
        """Call a number; return when it is answered."""
        self.received.clear()
        answer = await self.call(number, caller=self.name)
        host = re.search(r"^c=IN IP4 (\S+)", answer.body, re.MULTILINE)
        port = re.search(r"^m=audio (\d+)", answer.body, re.MULTILINE)
        assert host is not None
        assert port is not None
        self.remote = (host[1], int(port[1]))

    def hang_up(self) -> None:
        """End the call, if there is one."""
        if self.remote is not None:
            super().hang_up()
            self.remote = None

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        """Answer a request; a BYE ends the call."""
        super().datagram_received(data, address)
        if data.startswith(b"BYE"):
            self.remote = None

    def speak(self) -> None:
        """Send one frame."""
        if self.remote is None:
            return
        self._sequence += 1
        header = b"\x80\x00" + (self._sequence & 0xFFFF).to_bytes(2, "big")
        stamp = (self._sequence * FRAME_SAMPLES & 0xFFFFFFFF).to_bytes(4, "big")
        self._audio.sendto(header + stamp + self._source + self._frame, self.remote)

    def close(self) -> None:
        """Close both ports."""
        self._audio.close()
        self._transport.close()


class _Audio(asyncio.DatagramProtocol):
    def __init__(self, ear: Ear) -> None:
        self._ear = ear

    def datagram_received(self, data: bytes, _: tuple[str, int]) -> None:
        self._ear.take(data[RTP_HEADER_BYTES:])


@contextlib.asynccontextmanager
async def audio_phones(lab: Lab, wanted: Sequence[tuple[str, int]]) -> AsyncIterator[list[AudioPhone]]:
    """Open phones, and have them speak at a phone's pace while they are in calls.

    Args:
        wanted: the extension and the tone in Hz of each.
    """
    assert isinstance(lab, EmbeddedLab), "phones in this process reach an Asterisk on this machine only"
    settings, loop = lab.settings, asyncio.get_running_loop()
    phones = [AudioPhone(name, (settings.host, settings.sip_port), settings.phone_password, hz) for name, hz in wanted]
    for phone in phones:
        await loop.create_datagram_endpoint(lambda phone=phone: phone, local_addr=(settings.host, 0))  # type: ignore[misc]
        await phone.open(settings.host)
    speaking = asyncio.create_task(_speak(phones))
    try:
        yield phones
    finally:
        speaking.cancel()
        for phone in phones:
            phone.hang_up()
            phone.close()


async def _speak(phones: Sequence[AudioPhone]) -> None:
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        for phone in phones:
            phone.speak()
        due = max(due + FRAME_S, loop.time() - 5 * FRAME_S)
        await asyncio.sleep(due - loop.time())
