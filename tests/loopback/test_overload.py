"""More calls than the process carries: those that are up keep their audio, because what is new is refused in time."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bridge.app.application import Application
from bridge.config import Config
from bridge.media.leg import MediaLeg

TICK_COST_S = 0.001
"""What a frame of a call costs here: no more than 20 calls can have one every 20 ms."""
UP, MORE = 10, 60
MEASURED_S = 4.0


class Callers:
    """The process with the calls and their application."""

    def __init__(self, process: Process, port: int) -> None:
        self.application_port = port
        self._process = process

    async def tell(self, *words: object) -> list[int]:
        """Give a command; return how many calls of each ``call`` are open."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(" ".join(map(str, words)).encode() + b"\n")
        return [int(count) for count in (await self._process.stdout.readline()).split()]


@pytest.fixture
async def callers() -> AsyncIterator[Callers]:
    program = str(Path(__file__).with_name("callers.py"))
    process = await asyncio.create_subprocess_exec(sys.executable, "-P", program, stdin=PIPE, stdout=PIPE)
    assert process.stdout is not None
    yield Callers(process, int(await process.stdout.readline()))
    assert process.stdin is not None
    process.stdin.close()
    await process.wait()


@contextlib.asynccontextmanager
async def bridge(application_port: int, **media: Any) -> AsyncIterator[Application]:
    route = {"id": "agents", "match": "uuid:*", "url": f"ws://127.0.0.1:{application_port}/", "dialect": "twilio"}
    sections: dict[str, Any] = {
        "http": {"port": 0, "tokens": ["a-token-that-nobody-uses"]},
        "audiosocket": {"bind_port": 0},
        "ari": {"url": "http://127.0.0.1:9", "user": "u", "password": "p"},
        "streams": {"state_file": ":memory:"},
        "media": media,
        "dialplan": [route],
    }
    async with Application(Config.model_validate(sections)) as application:
        yield application


@pytest.fixture
def slow_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    tick = MediaLeg.tick

    def slow(leg: MediaLeg, frames: int) -> None:
        tick(leg, frames)
        time.sleep(TICK_COST_S * frames)

    monkeypatch.setattr(MediaLeg, "tick", slow)


async def part_skipped(application: Application) -> float:
    """Return the part of all frames that was not written in the next seconds."""
    counters = application.counters
    skipped, written = counters.ticks_skipped, counters.frames_to_asterisk
    await asyncio.sleep(MEASURED_S)
    skipped, written = counters.ticks_skipped - skipped, counters.frames_to_asterisk - written
    return skipped / (skipped + written)


@pytest.mark.parametrize("every_s", [0, 0.1], ids=["together", "one after the other"])
@pytest.mark.usefixtures("slow_ticks")
async def test_calls_that_are_up_keep_their_audio_past_the_knee(callers: Callers, every_s: float) -> None:
    async with bridge(callers.application_port) as application:
        assert await callers.tell("call", application.audiosocket_port, UP, 0) == [UP]
        overload = application.admission.overload
        async with asyncio.timeout(60):  # what starts before these are measured may be as many as AT_ONCE allows
            while overload.settled < UP or overload.busy < UP * TICK_COST_S * 50 * 0.8:
                await asyncio.sleep(0.05)
        up, more = await callers.tell("call", application.audiosocket_port, MORE, every_s)
        assert up == UP, "a call that was up was ended"
        assert more < UP, "more were accepted than can be carried"
        assert application.counters.starts_refused >= MORE - UP
        assert await part_skipped(application) < 0.05


@pytest.mark.usefixtures("slow_ticks")
async def test_without_admission_all_lose_audio(callers: Callers) -> None:
    """The test above can fail: this is how it would be."""
    async with bridge(callers.application_port, refuse_late_ms=0) as application:
        await callers.tell("call", application.audiosocket_port, UP, 0)
        assert await callers.tell("call", application.audiosocket_port, MORE, 0) == [UP, MORE]
        assert await part_skipped(application) > 0.3
