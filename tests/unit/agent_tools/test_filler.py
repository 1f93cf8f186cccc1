"""What the caller hears while a tool takes long: when it begins, and that nothing of it is in the way of the model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from bridge.access import Principal
from bridge.agent_tools.filler import fill
from bridge.agent_tools.tool import AgentCall
from bridge.tasks import BackgroundTasks
from tests.fakes.virtual_time import pass_time
from tests.unit.agent_tools.house import SPOKEN_S, AgentHouse

SOUND, SENTENCE = "sound:typing.wav", "One moment, please."
BYTES_PER_S = 16_000


@pytest.fixture
async def house() -> AsyncIterator[AgentHouse]:
    house = AgentHouse()
    await house.answer()
    yield house
    await house.close()


@pytest.fixture
def call(house: AgentHouse) -> AgentCall:
    return AgentCall(house.voice, house.limits, Principal("config"), house.services, BackgroundTasks("tests"))


def heard_s(house: AgentHouse) -> float:
    """Return how much of a filler was queued, in seconds."""
    return len(house.voice.played) / BYTES_PER_S


async def test_it_waits_until_the_model_has_finished(house: AgentHouse, call: AgentCall) -> None:
    house.voice.say(2.0)
    filler = asyncio.ensure_future(fill(call, SOUND, 0.5))
    await pass_time(1.9)
    assert heard_s(house) == 0
    await pass_time(1.0)
    assert 0.5 < heard_s(house) < 1.5
    assert house.voice.queued_ms < 300, "only a little is queued ahead"
    filler.cancel()


@pytest.mark.parametrize(("announcement", "times"), [(SOUND, 3), (SENTENCE, 1)])
async def test_a_sound_is_repeated_and_a_sentence_is_not(
    house: AgentHouse, call: AgentCall, announcement: str, times: int
) -> None:
    filler = asyncio.ensure_future(fill(call, announcement, 0))
    await pass_time(3 * SPOKEN_S)
    assert heard_s(house) == pytest.approx(times * SPOKEN_S, abs=0.5)
    filler.cancel()


async def test_a_model_that_speaks_ends_it(house: AgentHouse, call: AgentCall) -> None:
    filler = asyncio.ensure_future(fill(call, SOUND, 0))
    await pass_time(1.0)
    house.voice.say(3.0)
    await pass_time(0.2)
    heard = heard_s(house)
    await pass_time(10)
    assert heard_s(house) == heard
    assert filler.done()


async def test_two_tools_have_one_filler_at_a_time(house: AgentHouse, call: AgentCall) -> None:
    fillers = [asyncio.ensure_future(fill(call, SOUND, 0)) for _ in range(2)]
    await pass_time(1.5)
    assert heard_s(house) < 2.0
    for filler in fillers:
        filler.cancel()


async def test_without_speech_there_is_none(
    house: AgentHouse, call: AgentCall, caplog: pytest.LogCaptureFixture
) -> None:
    house.announcements.speech_trouble = "not configured"
    await fill(call, SENTENCE, 0)
    assert heard_s(house) == 0
    assert "filler not played stream=p1 error=not configured" in caplog.text
