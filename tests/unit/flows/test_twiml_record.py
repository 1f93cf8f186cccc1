"""Recording by documents: what ``<Record>`` records, reports and sends, also when the caller hangs up."""

from __future__ import annotations

import asyncio
import logging
from urllib.parse import parse_qs, urlsplit

import pytest

from bridge.ari.model import Channel, ChannelDestroyed
from bridge.dialects.twilio import call_sid
from bridge.flows.recording_callbacks import recording_sid
from tests.fakes.virtual_time import pass_time, run_virtually
from tests.unit.flows.twiml_documents import answers, document, done, form, signed
from tests.unit.flows.world import ACCOUNT, World


def test_a_recording_is_reported_when_it_has_ended() -> None:
    async def act() -> None:
        world = World()
        answers(world, recorded=document())

        async def end() -> None:
            await pass_time(3)
            world.recordings.made[0].over.set()

        ending = asyncio.ensure_future(end())
        await done(world, '<Record action="/recorded" maxLength="20" timeout="4" finishOnKey="#" playBeep="false"/>')
        await ending
        ((_, _, how),) = world.recordings.did
        assert how["direction"] == "in"
        assert (how["max_duration_s"], how["max_silence_s"], how["terminate_on"], how["beep"]) == (20, 4, "#", False)
        sid = recording_sid("recording-1")
        base = f"https://bridge.example.org/2010-04-01/Accounts/{ACCOUNT.sid}/Recordings/{sid}"
        expected = {"RecordingUrl": base, "RecordingSid": sid, "RecordingDuration": "3"}
        assert form(world).items() >= expected.items()

    run_virtually(act())


@pytest.mark.parametrize("hangs_up", [False, True])
def test_the_status_of_a_recording_is_sent(hangs_up: bool) -> None:
    async def act() -> None:
        world = World()
        leg = world.leg()

        async def end() -> None:
            await pass_time(3)
            if hangs_up:
                leg.leave()
                await pass_time(1)
            world.recordings.made[0].over.set()

        ending = asyncio.ensure_future(end())
        callback = 'recordingStatusCallback="/rec" recordingStatusCallbackEvent="completed in-progress"'
        starting = asyncio.ensure_future(done(world, f'<Record action="/next" {callback}/>', leg=leg))
        await ending
        await starting
        await pass_time(1)
        assert all(signed(world, index) for index in range(len(world.web.asked)))
        found = [form(world, index) for index, each in enumerate(world.web.asked) if each[1].endswith("/rec")]
        common = {
            "AccountSid": ACCOUNT.sid,
            "CallSid": call_sid("call-1"),
            "RecordingSid": recording_sid("recording-1"),
        }
        common |= {"RecordingSource": "RecordVerb", "RecordingTrack": "inbound", "RecordingChannels": "1"}
        assert all(each.items() >= common.items() for each in found)
        assert [each["RecordingStatus"] for each in found] == ["in-progress", "completed"]
        assert ("RecordingDuration" in found[0], found[1]["RecordingDuration"]) == (False, "3")
        await world.status_callbacks.close()

    run_virtually(act())


def test_a_recording_without_audio_is_absent() -> None:
    async def act() -> None:
        world = World()

        async def end() -> None:
            await pass_time(3)
            world.recordings.made[0].duration_s = 0.0
            world.recordings.made[0].over.set()

        ending = asyncio.ensure_future(end())
        callback = 'recordingStatusCallback="/rec" recordingStatusCallbackMethod="GET"'
        await done(world, f'<Record {callback} recordingStatusCallbackEvent="absent"/>')
        await ending
        await pass_time(1)
        urls = [url for method, url, _, _ in world.web.asked if method == "GET"]
        assert all(parse_qs(urlsplit(url).query)["RecordingStatus"] == ["absent"] for url in urls)
        assert urls
        await world.status_callbacks.close()

    run_virtually(act())


def test_a_caller_who_hangs_up_has_left_a_message() -> None:
    async def act() -> None:
        world = World()
        answers(world, recorded=document("<Say>never</Say>"))
        leg = world.leg()

        async def hang_up() -> None:
            await pass_time(3)
            leg.leave()
            await pass_time(1)
            world.recordings.made[0].over.set()

        leaving = asyncio.ensure_future(hang_up())
        await done(world, '<Record action="/recorded"/>', leg=leg)
        await leaving
        await pass_time(1)
        found = form(world)
        expected = {"Digits": "hangup", "CallStatus": "completed", "RecordingSid": recording_sid("recording-1")}
        assert found.items() >= expected.items()
        assert signed(world)
        assert world.speech.said == []
        await world.status_callbacks.close()

    run_virtually(act())


def test_a_caller_who_hangs_up_without_a_word_has_left_no_message(caplog: pytest.LogCaptureFixture) -> None:
    async def act() -> None:
        world = World()
        leg = world.leg()

        async def hang_up() -> None:
            await pass_time(1)
            world.recordings.made[0].duration_s = 0.0
            leg.leave()

        leaving = asyncio.ensure_future(hang_up())
        await done(world, '<Record action="/recorded" playBeep="false"/>', leg=leg)
        await leaving
        await pass_time(1)
        assert world.web.asked == []
        await world.status_callbacks.close()

    with caplog.at_level(logging.INFO, "bridge"):
        run_virtually(act())
    assert "no request about a recording" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_recording_that_ends_before_its_leg_does_is_reported_as_ended_by_the_hangup() -> None:
    async def act() -> None:
        world = World()
        answers(world, recorded=document())
        leg = world.leg()

        async def hang_up() -> None:
            await pass_time(3)
            world.records.on_event(
                ChannelDestroyed(
                    type="ChannelDestroyed",
                    channel=Channel(id="call-1", name="PJSIP/1-1", state="Up"),
                    cause=16,
                    cause_txt="",
                )
            )
            world.recordings.made[0].over.set()

        leaving = asyncio.ensure_future(hang_up())
        await done(world, '<Record action="/recorded"/>', leg=leg)
        await leaving
        await pass_time(1)
        (asked,) = [form(world, index) for index in range(len(world.web.asked))]
        assert (asked["Digits"], asked["CallStatus"]) == ("hangup", "completed")
        await world.status_callbacks.close()

    run_virtually(act())
