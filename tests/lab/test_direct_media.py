"""Phones that send their audio straight to each other: a tap brings it back through Asterisk, and lets it go again."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.testing import judge
from bridge.testing.embedded import EmbeddedLab, settings_with_free_ports
from tests.lab.conftest import pushing
from tests.lab.sink import open_sink, tone_share
from tests.lab.waiting import PATIENCE_S, sends, until

RATE = 8000


@pytest.fixture
async def direct_lab(tmp_path: Path) -> AsyncIterator[EmbeddedLab]:
    """A lab of its own whose extensions use direct media, in a folder with a path longer than baresip's buffers."""
    folder = tmp_path / ("long" * 20)
    lab = EmbeddedLab(folder, dataclasses.replace(settings_with_free_ports(), direct_media=True))
    await lab.start()
    try:
        yield lab
    finally:
        await lab.stop()


async def packets_through_asterisk(lab: EmbeddedLab, seconds: float = 1.0) -> int:
    """Return how many RTP packets Asterisk receives from phones within some seconds."""

    async def received() -> int:
        lines = (await lab.cli("pjsip show channelstats")).splitlines()
        rows = [re.search(r"PJSIP|\d\d:\d\d:\d\d\s+\w+\s+(\d+)", line) for line in lines]
        return sum(int(row.group(1)) for row in rows if row is not None and row.group(1))

    before = await received()
    await asyncio.sleep(seconds)  # the time of a measurement
    return await received() - before


async def is_direct(lab: EmbeddedLab) -> bool:
    """Return whether the media of a call bypasses Asterisk."""
    return await packets_through_asterisk(lab) == 0


async def test_a_tap_brings_direct_media_back(direct_lab: EmbeddedLab) -> None:
    alice, bob = direct_lab.phone("1001"), direct_lab.phone("1002")
    await asyncio.gather(alice.start(), bob.start())
    bob.play_next(judge.tone(700, 60, RATE))
    async with open_sink() as sink:
        subscription = {
            "id": "ext",
            "url": sink.url,
            "dialect": "yeastar",
            "extensions": ["1001"],
            "enabled": False,
        }
        async with pushing(direct_lab, subscriptions=[subscription]) as target:
            await alice.call("1002", play=judge.tone(500, 60, RATE))
            await alice.answered()
            await until(lambda: is_direct(direct_lab))
            assert target.bridge is not None
            await target.bridge.catalog.set_enabled("ext", True)
            (received,) = await sink.connected(1)
            await sends(alice, 2)
            assert await packets_through_asterisk(direct_lab) > 80
            await target.bridge.catalog.set_enabled("ext", False)
            await asyncio.wait_for(received.ended.wait(), PATIENCE_S)
            await until(lambda: is_direct(direct_lab))
            await alice.hangup()
        channels = received.yeastar_channels
        for endpoint, hz in (("1001", 500), ("1002", 700)):
            assert tone_share(received.yeastar(channels[endpoint])[RATE // 2 :], RATE, hz) > 0.8, endpoint
