"""Recordings: a snoop that Asterisk writes to a file, how it ends, sensitive mode, and its events."""

from __future__ import annotations

import asyncio
import re

import pytest

from bridge.access import Principal
from bridge.calls.addresses import Address
from bridge.control.recorder import CANNOT_WRITE
from bridge.errors import AriError
from tests.fakes.virtual_time import pass_time, settle
from tests.unit.control.house import House

CRM = Principal("crm")


@pytest.fixture
async def house() -> House:
    return House()


@pytest.fixture
async def party(house: House) -> str:
    """Add a party outside the application."""
    channel_id = house.pbx.call("1001", "600")
    house.records.originated(channel_id, source=Address(), destination=Address("extension", "1001"))
    return channel_id


async def test_a_recording_is_stopped_and_kept(house: House, party: str) -> None:
    recording = await house.recordings.start(party, principal=CRM)
    assert (recording.status, recording.call_id, recording.principal) == ("recording", party, "crm")
    record = house.records.get(party)
    assert record is not None
    assert (record.recording_id, record.recording_ids) == (recording.id, [recording.id])
    assert list(house.pbx.recordings) == [recording.id]
    assert len(house.recordings.object_ids) == 1
    assert await house.recordings.stop(recording.id) is recording
    await settle()
    assert (recording.status, record.recording_id, house.pbx.recordings) == ("ended", "", {})
    assert list(house.pbx.stored) == [recording.id]
    assert list(house.pbx.channels) == [party], "the snoop has gone"
    assert [kind for kind in house.published_types() if kind.startswith("recording")] == [
        "recording_started", "recording_finished",
    ]  # fmt: skip
    await house.recordings.delete(recording.id)
    assert (house.pbx.stored, house.recordings.list()) == ({}, [])


async def test_a_digit_of_the_party_ends_it(house: House, party: str) -> None:
    recording = await house.recordings.start(party, principal=CRM, terminate_on="#")
    house.pbx.press(party, "1")
    await settle()
    assert recording.status == "recording"
    house.pbx.press(party, "#")
    await recording.finished()
    assert recording.status == "ended"


async def test_it_ends_with_its_snoop(house: House, party: str) -> None:
    recording = await house.recordings.start(party, principal=CRM)
    (snoop,) = house.recordings.object_ids
    await house.client.channels.hangup(snoop)
    await recording.finished()
    assert recording.status == "ended"


async def test_what_asterisk_refuses_is_told_and_leaves_nothing(house: House, party: str) -> None:
    with pytest.raises(AriError) as refused:
        await house.recordings.start("nobody", principal=CRM)
    assert refused.value.status == 404
    house.pbx.failures["/record$"] = AriError(500, "POST", "/record", "Internal Server Error")
    with pytest.raises(AriError, match=re.escape(CANNOT_WRITE)):
        await house.recordings.start(party, principal=CRM)
    with pytest.raises(ValueError, match="mp3"):
        await house.recordings.start(party, principal=CRM, format="mp3")
    await settle()
    assert (list(house.pbx.channels), house.recordings.object_ids, house.recordings.list()) == ([party], set(), [])


async def test_sensitive_mode_pauses_it(house: House, party: str) -> None:
    recording = await house.recordings.start(party, principal=CRM)
    sensitive = {party}
    house.recordings.is_sensitive = sensitive.__contains__
    await house.recordings.settled()
    assert recording.paused
    sensitive.clear()
    await house.recordings.settled()
    assert not recording.paused
    assert [each for each in house.pbx.requests if "/pause" in each] == [
        f"POST /recordings/live/{recording.id}/pause", f"DELETE /recordings/live/{recording.id}/pause",
    ]  # fmt: skip


async def test_one_that_starts_in_sensitive_mode_begins_after_it(house: House, party: str) -> None:
    sensitive = {party}
    house.recordings.is_sensitive = sensitive.__contains__
    recording = await house.recordings.start(party, principal=CRM)
    assert (recording.paused, house.pbx.recordings) == (True, {})
    sensitive.clear()
    await house.recordings.settled()
    assert list(house.pbx.recordings) == [recording.id]
    sensitive.add(party)
    second = await house.recordings.start(party, principal=CRM)
    house.pbx.hang_up(party)
    await settle()
    assert second.status == "ended", "it never began"


async def test_one_whose_end_asterisk_does_not_tell_has_failed(house: House, party: str) -> None:
    recording = await house.recordings.start(party, principal=CRM)
    house.client.disconnect()
    stopping = asyncio.create_task(house.recordings.stop(recording.id))
    await pass_time(60)
    assert (await stopping).status == "failed"
    assert "did not report the end" in recording.trouble


async def test_closing_ends_all_and_keeps_the_files(house: House, party: str) -> None:
    recordings = [await house.recordings.start(party, principal=CRM) for _ in range(2)]
    await house.recordings.close()
    assert [each.status for each in recordings] == ["ended"] * 2
    assert len(house.pbx.stored) == 2
