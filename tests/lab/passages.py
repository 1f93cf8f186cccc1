"""Sentences of a phone as the sound of a modem: what it sends, and what it receives, cut where there is a pause."""

from __future__ import annotations

import asyncio

import numpy as np

from bridge.testing import judge, modem
from bridge.testing.peer import Samples
from bridge.testing.phone import Phone

RATE = 8000


def passages(heard: Samples, pause_s: float = 0.2) -> list[Samples]:
    """Cut a recording where it pauses."""
    block = round(judge.BLOCK_S * RATE)
    loud = np.flatnonzero(judge.block_levels(heard, RATE) > 500)
    if not len(loud):
        return []
    cuts = np.flatnonzero(np.diff(loud) * judge.BLOCK_S > pause_s) + 1
    # A block more on both sides: what begins or ends within one is not cut off.
    return [heard[max(0, part[0] - 1) * block : (part[-1] + 2) * block] for part in np.split(loud, cuts)]


async def heard_passages(phone: Phone, count: int, timeout_s: float) -> list[Samples]:
    """Wait until the phone has received ``count`` passages and silence after the last, and return them."""
    async with asyncio.timeout(timeout_s):
        while True:
            heard = phone.heard_so_far()
            if len(found := passages(heard)) >= count and not (heard[-RATE // 2 :] > 500).any():
                return found
            await asyncio.sleep(0.1)


def spoken(*lines: tuple[str, float]) -> Samples:
    """Return the caller's audio: lines, each with a pause behind it in seconds."""
    parts = [judge.silence(2.5, RATE)]
    for text, pause_s in lines:
        parts += [modem.modulate(text, RATE), judge.silence(pause_s, RATE)]
    return np.concatenate(parts)


def read(heard: list[Samples]) -> list[str]:
    """Return the sentences in passages."""
    return [modem.demodulate(passage, RATE) for passage in heard]
