"""A recording continues on the channel that takes the place of the recorded one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bridge.access import CONFIGURATION, Principal
from bridge.control.recorder import Recorder
from bridge.errors import AriError
from tests.fakes.virtual_time import pass_time, settle
from tests.unit.control.replacing import Replacing


@pytest.fixture
async def house(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Replacing]:
    house = Replacing(monkeypatch)
    yield house
    await house.streams.stop()
    await house.tracker.close()


async def test_a_recording_continues_on_the_channel_that_replaced_the_recorded_one(
    house: Replacing, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[int] = []
    record_channel = house.client.channels.record

    async def noting(*args: Any, max_duration_s: int, **options: Any) -> Any:
        limits.append(max_duration_s)
        return await record_channel(*args, max_duration_s=max_duration_s, **options)

    monkeypatch.setattr(house.client.channels, "record", noting)
    phone, _ = await house.agent_call()
    first = await house.recordings.start(
        phone, principal=Principal("crm"), direction="in", format="wav16", max_duration_s=600, terminate_on="#"
    )
    await pass_time(100)
    finished = asyncio.create_task(first.finished())
    new = house.pbx.transfer(phone, house.other_party())
    await pass_time(1)
    assert (first.status, first.trouble, finished.done()) == ("ended", "", False)
    following = house.recordings.running(first.id)
    assert following is not None
    assert first.continued_by is following
    assert (following.continues, following.channel_id, following.status) == (first.id, new, "recording")
    for name in ("call_id", "principal", "direction", "format"):
        assert getattr(following, name) == getattr(first, name)
    assert limits == [600, 500]
    record = house.records.get(phone)
    assert record is not None
    assert (record.recording_id, record.recording_ids) == (following.id, [first.id, following.id])
    house.pbx.press(new, "#")
    await finished
    assert (following.status, record.recording_id) == ("ended", "")
    assert set(house.pbx.stored) == {first.id, following.id}
    assert house.recordings.object_ids == set()


async def test_a_recording_of_a_former_version_continues_without_a_limit(house: Replacing) -> None:
    names = dict.fromkeys(("id", "call_id", "channel_id", "format", "principal"), "x")
    fact = {"recording": {**names, "tm_start": 1000.0}, "snoop_id": "s1", "terminate_on": ""}
    resumed = Recorder.resumed(house.client, fact)
    assert resumed.following("r2", "new", "s2", 1600.0).fact["max_duration_s"] == 0


async def test_the_end_of_a_recording_ends_the_one_that_continues_it(house: Replacing) -> None:
    phone, _ = await house.agent_call()
    first = await house.recordings.start(phone, principal=CONFIGURATION)
    house.pbx.gates["/snoop$"] = asyncio.Event()
    house.pbx.transfer(phone, house.other_party())
    await settle()
    stopping = asyncio.create_task(house.recordings.stop(first.id))  # while the next one begins
    await settle()
    house.pbx.gates["/snoop$"].set()
    following = await stopping
    await settle()
    assert (following.continues, following.status, first.status) == (first.id, "ended", "ended")
    assert house.pbx.recordings == {}


async def test_a_recording_that_cannot_be_continued_says_why(house: Replacing) -> None:
    phone, _ = await house.agent_call()
    first = await house.recordings.start(phone, principal=CONFIGURATION)
    house.pbx.failures["/snoop$"] = AriError(500, "POST", "/snoop", "Snoop failed")
    house.pbx.transfer(phone, house.other_party())
    await first.finished()
    assert (first.status, first.continued_by) == ("ended", None)
    assert "Snoop failed" in first.trouble


async def test_a_recording_in_sensitive_mode_begins_with_the_channel_that_replaced_the_recorded_one(
    house: Replacing,
) -> None:
    phone, _ = await house.agent_call()
    sensitive = True
    house.recordings.is_sensitive = lambda _: sensitive
    recording = await house.recordings.start(phone, principal=CONFIGURATION)
    new = house.pbx.transfer(phone, house.other_party())
    await pass_time(5)
    assert (recording.channel_id, recording.paused, house.pbx.recordings) == (new, True, {})
    sensitive = False
    await house.recordings.settled()
    assert list(house.pbx.recordings) == [recording.id]
    await house.recordings.stop(recording.id)
