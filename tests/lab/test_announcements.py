"""What phones hear when somebody starts to listen or to record."""

from __future__ import annotations

import pytest

from bridge.testing import judge
from bridge.testing.lab_engine import Lab
from tests.lab.conftest import Phones, pushing
from tests.lab.driving import HALF, RATE, action, client_of, in_order, said, seconds_of, sleep
from tests.lab.sink import open_sink
from tests.lab.waiting import sends

TONE_HZ = 1000.0
NOTICE = "This call is recorded."


async def test_both_phones_of_an_ordinary_call_hear_that_a_stream_starts(lab: Lab, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    for phone in (alice, bob):  # who sends nothing cannot be whispered to
        phone.play_next(judge.tone(400, 60, RATE))
    async with pushing(lab, privacy={"announce_streams": "tone"}) as target:
        await alice.call("1002", play=judge.tone(400, 60, RATE))
        await alice.answered()
        call_id = (await target.call_from("1001"))["id"]
        async with target.stream(call_id, encapsulation="sln", rate=RATE, direction_speak="none") as application:
            await application.heard(100)
        await alice.hangup()
    for phone in (alice, bob):
        assert 0.1 <= seconds_of(phone.recording(), TONE_HZ, HALF) <= 0.6


@pytest.mark.parametrize("what", ["stream", "recording"])
async def test_a_phone_hears_what_a_flow_starts(lab: Lab, phones: Phones, what: str) -> None:
    (alice,) = await phones("1001")
    async with open_sink() as sink:
        start = action("recording_start")
        if what == "stream":
            start = action("external_media_start", url=sink.url, encapsulation="sln", direction_listen="in")
        privacy = {f"announce_{what}s": NOTICE}
        async with pushing(lab, privacy=privacy) as target, client_of(target) as client:
            call_id = await client.call("1001", start, sleep(5000), action("hangup"))
            await client.until("call_hangup", call_id)
            await client.until("flow_ended", call_id)
            for each in (await client.done("GET", "/v1.0/recordings"))["result"]:
                await client.done("DELETE", f"/v1.0/recordings/{each['id']}")
    in_order(await alice.heard(), *await said(lab, NOTICE))


async def test_a_dialed_stream_is_announced_when_the_call_is_answered(lab: Lab, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    bob.play_next(judge.tone(400, 60, RATE))
    async with open_sink() as sink:
        subscription = {"id": "all", "url": sink.url, "dialect": "yeastar", "extensions": ["1001"]}
        async with pushing(lab, subscriptions=[subscription], privacy={"announce_streams": "tone"}):
            await alice.call("1002", play=judge.tone(400, 60, RATE))
            await alice.answered()
            await sink.connected(1)
            await sends(alice, 2.5)
            await alice.hangup()
    assert 0.1 <= seconds_of(alice.recording(), TONE_HZ, HALF) <= 0.6
