"""Observed calls, conferences and flows whose parties are transferred: who talks with whom, and what streams get."""

from __future__ import annotations

import asyncio
import logging

import pytest

from bridge.testing.lab_engine import Lab
from tests.lab.conftest import Phones, pushing
from tests.lab.driving import action, client_of
from tests.lab.moving import HZ, consult, desk, hears, so_far, tone, voices
from tests.lab.sink import open_sink
from tests.lab.waiting import PATIENCE_S, until


@pytest.mark.parametrize("how", ["blind", "attended", "feature code", "parking"])
async def test_a_stream_of_an_observed_call_follows_its_party(lab: Lab, phones: Phones, how: str) -> None:
    """Alice talks with Bob (or the desk phone), who transfers the call to Carol."""
    alice, bob, carol = await phones("1001", "1002", "1003")
    alice.play_next(tone("1001"))
    carol.play_next(tone("1003"))
    async with open_sink() as sink, desk(lab) as phone:
        subscription = {"id": "alice", "url": sink.url, "dialect": "yeastar", "extensions": ["1001"]}
        subscription["multiparty"] = "single"
        async with pushing(lab, subscriptions=[subscription]) as target:
            if how == "attended":
                first = await phone.call("1001", HZ["desk"])
                await hears(lambda: so_far(alice), "desk")
                await phone.transfer(first, await phone.call("1003", HZ["desk"]))
            else:
                await bob.call("81001", play=tone("1002"))
                await hears(lambda: so_far(alice), "1002")
            if how == "blind":
                await bob.transfer("1003")
            elif how == "feature code":
                await consult(bob, "1003", lambda: carol.in_call)
                await carol.answered()
                await bob.hangup()
            elif how == "parking":
                await bob.transfer("800")
                await bob.ended()
                await carol.call("801", play=tone("1003"))
            await hears(lambda: so_far(alice), "1003")
            await hears(lambda: so_far(carol), "1001")
            (received,) = await sink.connected(1)
            await until(lambda: {"1001", "1003"} <= set(received.yeastar_channels))
            for name in ("1001", "1003"):
                await hears(lambda name=name: received.yeastar(received.yeastar_channels[name]), name)  # type: ignore[misc]
            assert (await target.get("/v1.0/streams"))[1]["result"][0]["trouble"] is None
            await alice.hangup()
            await carol.ended()
            await asyncio.wait_for(received.ended.wait(), PATIENCE_S)
    assert (received.close_code, len(sink.connections)) == (1000, 1)


async def test_an_attended_transfer_into_a_conference(
    lab: Lab, phones: Phones, caplog: pytest.LogCaptureFixture
) -> None:
    alice, bob = await phones("1001", "1002")
    alice.play_next(tone("1001"))
    await lab.cli(f"dialplan add extension 770,1,Stasis({lab.ari_app},conference,room) into from-internal")
    async with pushing(lab) as target, client_of(target) as client, desk(lab) as phone:
        await bob.call("770", play=tone("1002"))
        await bob.answered()
        first, second = await phone.call("1001", HZ["desk"]), await phone.call("770", HZ["desk"])
        await hears(lambda: so_far(bob), "desk")
        await phone.transfer(first, second)
        await hears(lambda: so_far(bob), "1001")
        await hears(lambda: so_far(alice), "1002")
        (conference,) = (await target.get("/v1.0/conferences"))[1]["result"]
        named = [(each["number"], each["name"]) for each in conference["participants"]]
        assert named == [("1002", "Bob"), ("1001", "Alice")]
        await client.until("conference_joined", number="1001", name="Alice")
        await alice.hangup()
        await client.until("conference_left", number="1001")
        await bob.hangup()
    await lab.cli("dialplan remove extension 770@from-internal")
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING] == []


async def test_transfers_by_feature_code_into_a_conference(lab: Lab, phones: Phones) -> None:
    """Each transferred party is audible, and takes part under its own number."""
    alice, bob, carol = await phones("1001", "1002", "1003")
    alice.play_next(tone("1001", 120))
    await lab.cli(f"dialplan add extension 770,1,Stasis({lab.ari_app},conference,room) into from-internal")
    async with pushing(lab) as target, client_of(target) as client, desk(lab) as phone:
        # Three take part: Asterisk mixes. RTP sequence numbers begin at random: a fault shows in half of the runs.
        await phone.call("770", HZ["desk"])
        await bob.call("770", play=tone("1002", 120))
        for count in range(1, 4):
            carol.forget()
            alice.forget()
            await carol.call("81001", play=tone("1003"))
            await alice.answered()
            await hears(lambda: so_far(alice), "1003")
            await consult(carol, "770", lambda: "1003" in voices(so_far(bob)))
            await hears(lambda: so_far(bob), "1003", "desk")
            await carol.hangup()
            await hears(lambda: so_far(bob), "1001", "desk")
            await hears(lambda: so_far(alice), "1002", "desk")
            (conference,) = (await target.get("/v1.0/conferences"))[1]["result"]
            assert [each["number"] for each in conference["participants"]] == ["1004", "1002", "1001"]
            await client.until("conference_left", number="1003", count=count)
            await client.until("conference_joined", number="1001", count=count)
            await alice.hangup()
            await client.until("conference_left", number="1001", count=count)
            await hears(lambda: so_far(bob), "desk")
        await bob.hangup()
    await lab.cli("dialplan remove extension 770@from-internal")


@pytest.mark.parametrize("early", [False, True])
async def test_an_attended_transfer_into_a_flow(lab: Lab, phones: Phones, early: bool) -> None:
    """The flow continues with the other party: its streams, digits and actions; early: before it is in a bridge."""
    (alice,) = await phones("1001")
    alice.play_next(tone("1001"))
    async with open_sink() as sink, desk(lab) as phone:
        media = action("external_media_start", url=sink.url, encapsulation="sln", direction_listen="in")
        digits = action("digits_receive", length=1, duration=60000)
        before = [action("answer"), action("sleep", duration=5000)] if early else []
        flow = {"id": "menu", "match": ["750"], "actions": [*before, media, digits, action("hangup")]}
        async with pushing(lab, flows=[flow]) as target, client_of(target) as client:
            first, second = await phone.call("1001", HZ["desk"]), await phone.call("750", HZ["desk"])
            if not early:
                await sink.connected(1)
                await hears(lambda: sink.connections[0].samples, "desk")
            await phone.transfer(first, second)
            await until(lambda: sink.connections or client.told("flow_ended"))
            assert client.told("flow_ended") == [], (client.told("call_hangup"), alice.events)
            (received,) = await sink.connected(1)
            await hears(lambda: received.samples, "1001")
            assert client.told("flow_ended") == []
            await alice.dtmf("5")
            await alice.ended()
            (ended,) = [await client.until("flow_ended")]
            assert client.failures(ended["call_id"]) == []
            assert (await client.record(ended["call_id"]))["hangup_reason"] == "normal"
    assert len(sink.connections) == 1


async def test_an_originated_calls_phone_transfers_it(lab: Lab, phones: Phones) -> None:
    """The call, its flow and its stream continue with whom the phone names."""
    bob, carol = await phones("1002", "1003")
    bob.play_next(tone("1002"))
    carol.play_next(tone("1003"))
    async with open_sink() as sink:
        media = action("external_media_start", url=sink.url, encapsulation="sln", direction_listen="in")
        async with pushing(lab) as target, client_of(target) as client:
            call_id = await client.call("1002", media, action("sleep", duration=60000))
            (received,) = await sink.connected(1)
            await hears(lambda: received.samples, "1002")
            await bob.transfer("1003")
            await bob.ended()
            await hears(lambda: received.samples, "1003")
            assert (await client.record(call_id))["status"] == "progressing"
            assert client.told("flow_ended") == []
            await carol.hangup()
            await client.until("call_hangup", call_id)
            assert (await client.record(call_id))["hangup_reason"] == "normal"
