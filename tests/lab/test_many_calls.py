"""Twenty calls whose applications never say a word: none goes silent, and the PBX keeps answering.

This is what freezes Asterisk (asterisk#2089) when an AudioSocket server writes only if it has something to say.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from uuid import uuid4

import pytest

from bridge.testing import judge, peer
from bridge.testing.lab_engine import Lab
from tests.lab.target import Target
from tests.lab.waiting import PATIENCE_S

CALLS = 20
SECONDS = 15
ANSWERS_S = 10
"""A frozen PBX never answers; one on a busy machine takes its time."""
SOUNDING = 0.8
"""The share of the time in which a call has to sound: a frozen one stays silent, a busy machine drops some frames."""
RATE = 8000
MILLIWATT_HZ = 1004


@pytest.mark.core
async def test_twenty_calls_with_silent_applications_all_keep_their_sound(target: Target, lab: Lab) -> None:
    """Half of the calls have a tone at the far end; the others an echo: there, only what we write comes back."""
    far_ends = {f"many-{n:02}-{uuid4()}": "601" if n % 2 else "600" for n in range(CALLS)}
    try:
        await place(target, lab, far_ends)
        await judged(target, far_ends)
    finally:
        for name in far_ends:
            with contextlib.suppress(AssertionError):  # it does not exist, for whatever reason
                await target.ari("DELETE", f"/channels/{name}")


async def place(target: Target, lab: Lab, far_ends: Mapping[str, str]) -> None:
    """Originate the calls, and wait until the bridge controls them."""
    # All arrive simultaneously, which triggers the freeze.
    await asyncio.gather(
        *(
            target.ari(
                "POST",
                "/channels",
                endpoint=f"Local/{far_end}@from-internal",
                app=lab.ari_app,
                channelId=name,
                otherChannelId=f"{name}-far",
            )
            for name, far_end in far_ends.items()
        )
    )
    async with asyncio.timeout(PATIENCE_S):
        for name in far_ends:
            while True:
                status, call = await target.get(f"/v1.0/calls/{name}")
                if status == 200 and call["status"] == "progressing":
                    break
                await asyncio.sleep(0.05)


async def judged(target: Target, far_ends: Mapping[str, str]) -> None:
    """Load the PBX with a stream on each call; all keep their sound, and the PBX answers."""
    async with contextlib.AsyncExitStack() as stack:
        applications = await asyncio.gather(
            *(stack.enter_async_context(target.stream(name, encapsulation="sln")) for name in far_ends)
        )
        for _ in range(SECONDS):
            await asyncio.sleep(1)  # of load
            async with asyncio.timeout(ANSWERS_S):  # a frozen PBX does not answer
                assert len(await target.ari("GET", "/channels")) >= 2 * CALLS
        for (name, far_end), application in zip(far_ends.items(), applications, strict=True):
            frames = application.binary
            assert len(frames) > SECONDS * 50 * SOUNDING, (name, far_end, len(frames))
            if far_end == "601":
                samples = peer.samples_of(b"".join(frames))
                assert judge.level_of(samples[-RATE:], MILLIWATT_HZ, RATE) > 3000, name
                holes = judge.dropouts(samples, RATE, MILLIWATT_HZ)
                assert sum(hole.seconds for hole in holes) < (1 - SOUNDING) * SECONDS, (name, holes)
