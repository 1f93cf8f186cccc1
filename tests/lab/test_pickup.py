"""A phone picks up the call of another one that rings (``*8``): it is the one who has answered."""

from __future__ import annotations

import asyncio

import pytest

from bridge.testing.lab_engine import Lab
from tests.lab.conftest import Phones, pushing
from tests.lab.driving import action, by_hand, client_of
from tests.lab.moving import hears, so_far, tone, voices
from tests.lab.sink import open_sink
from tests.lab.waiting import PATIENCE_S, until


async def test_the_first_message_about_a_call_that_was_picked_up_names_its_parties(lab: Lab, phones: Phones) -> None:
    alice, bob, carol = await phones("1001", "1002", "1003")
    async with open_sink() as sink:
        subscription = {"id": "carol", "url": sink.url, "dialect": "twilio", "extensions": ["1003"]}
        async with pushing(lab, subscriptions=[subscription]) as target, by_hand(bob):
            await alice.call("1002", play=tone("1001"))
            await bob.called()
            await carol.call("*8", play=tone("1003"))
            await alice.answered()
            await hears(lambda: so_far(alice), "1003")
            await hears(lambda: so_far(carol), "1001")
            (received,) = await sink.connected(1)
            await until(lambda: voices(received.twilio("inbound")))
            start = received.messages[1]["start"]["customParameters"]
            assert (start["from_number"], start["to_number"]) == ("1001", "1003")
            calls = (await target.get("/v1.0/calls"))[1]["result"]
            assert [(call["source"]["target"], call["streams"]) for call in calls] == [("1001", 1)]
            await carol.hangup()
            await alice.ended()
            await asyncio.wait_for(received.ended.wait(), PATIENCE_S)
    assert len(sink.connections) == 1


async def test_a_phone_picks_up_a_call_that_is_originated(lab: Lab, phones: Phones) -> None:
    bob, carol = await phones("1002", "1003")
    async with open_sink() as sink:
        media = action("external_media_start", url=sink.url, encapsulation="sln", direction_listen="in")
        async with pushing(lab) as target, client_of(target) as client, by_hand(bob):
            call_id = await client.call("1002", media, action("sleep", duration=60000))
            await bob.called()
            await carol.call("*8", play=tone("1003"))
            await carol.answered()
            await bob.ended()
            (received,) = await sink.connected(1)
            await hears(lambda: received.samples, "1003")
            record = await client.record(call_id)
            assert (record["status"], [party["endpoint"] for party in record["parties"]]) == ("progressing", ["1003"])
            await client.done("DELETE", f"/v1.0/calls/{call_id}")
            await carol.ended()
            record = await client.record(call_id)
            assert (record["hangup_reason"], record["hangup_by"]) == ("normal", "local")


@pytest.mark.parametrize("early_media", [False, True])
async def test_a_phone_picks_up_what_a_flow_connects(lab: Lab, phones: Phones, early_media: bool) -> None:
    alice, bob, carol = await phones("1001", "1002", "1003")
    destinations = [{"type": "extension", "target": "1002"}]
    connect = action("connect", destinations=destinations, early_media=early_media)
    flow = {"id": "connect", "match": ["750"], "actions": [connect]}
    async with pushing(lab, flows=[flow]) as target, client_of(target) as client, by_hand(bob):
        await alice.call("750", play=tone("1001"))
        await bob.called()
        await carol.call("*8", play=tone("1003"))
        await hears(lambda: so_far(alice), "1003")
        await hears(lambda: so_far(carol), "1001")
        await carol.hangup()
        await alice.ended()
        await client.until("flow_ended")
        assert client.failures() == []
