"""Two worker processes share the work of one bridge: every call is in one of them, and any of them answers for all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.testing import judge, peer
from bridge.testing.engine import Lab
from bridge.testing.phone import Phone
from tests.lab.conftest import Phones
from tests.lab.sink import open_sink
from tests.lab.workers import Several, serving

RATE = 8000
TONES = {"1001": 500, "1002": 700, "1003": 900}
BOTH = {1, 2}


@pytest.fixture
async def several(lab: Lab, tmp_path: Path) -> AsyncIterator[Several]:
    async with serving(lab, tmp_path) as it:
        yield it


async def into_the_bridge(several: Several, *phones: Phone) -> dict[str, int]:
    """Each phone calls the bridge; answers the worker of each call, by the call's id."""
    workers: dict[str, int] = {}
    for phone in phones:
        await phone.call("750", play=judge.tone(TONES[phone.name], 60, RATE))
        await phone.answered()
        call_id = (await several.call_from(phone.name))["id"]
        number = several.worker_of(call_id)
        assert number is not None
        workers[call_id] = number
    return workers


async def test_calls_are_spread_and_streamed(several: Several, phones: Phones) -> None:
    used = await phones("1001", "1002", "1003")
    workers = await into_the_bridge(several, *used)
    assert set(workers.values()) == BOTH
    for phone, call_id in zip(used, workers, strict=True):
        for _ in range(3):  # at whatever worker the connection arrives
            async with several.stream(call_id, encapsulation="sln", rate=RATE) as application:
                await application.receive_for(1.0)
                heard = peer.samples_of(b"".join(application.binary[10:]))
            assert judge.level_of(heard, TONES[phone.name], RATE) > 1000
