"""Calls in the application that a phone parks: who is retrieved, and what streams and flows get."""

from __future__ import annotations

import asyncio

from bridge.testing.lab_engine import Lab
from bridge.testing.peer import samples_of
from tests.lab.conftest import Phones, pushing
from tests.lab.driving import action, client_of
from tests.lab.moving import agent, hears, so_far, speak, tone
from tests.lab.sink import open_sink
from tests.lab.waiting import PATIENCE_S, until

LOT = "880"


async def add_lot(lab: Lab) -> None:
    """Add an extension that parks, but not in its first priority: Asterisk transfers the call there, then parks it."""
    for priority, application in ((1, "NoOp()"), (2, "Park()")):
        await lab.cli(f"dialplan add extension {LOT},{priority},{application} into from-internal")


async def remove_lot(lab: Lab) -> None:
    await lab.cli(f"dialplan remove extension {LOT}@from-internal")


async def test_an_agent_that_is_parked_is_not_retrieved(lab: Lab, phones: Phones) -> None:
    """Without an extension of its own, the phone parks the agent, and takes the call along when it hangs up."""
    (bob,) = await phones("1002")
    async with agent(lab) as (target, sink), client_of(target) as client:
        await bob.call("750", play=tone("1002"))
        (received,) = await sink.connected(1)
        await hears(received.twilio, "1002")
        await bob.transfer("800")
        await bob.ended()
        assert (await client.until("stream_ended"))["reason"] == "the call was parked"
        await asyncio.wait_for(received.ended.wait(), PATIENCE_S)
    assert received.close_code == 1000


async def test_a_caller_that_is_parked_leaves_the_application(lab: Lab, phones: Phones) -> None:
    """It is an ordinary call then: retrieved, observed, ended by either side."""
    alice, bob, carol = await phones("1001", "1002", "1003")
    bob.play_next(tone("1002"))
    connect = action("connect", destinations=[{"type": "extension", "target": "1002"}])
    flow = {"id": "f", "match": ["750"], "actions": [connect, action("talk", text="Not spoken.")]}
    async with pushing(lab, flows=[flow]) as target, client_of(target) as client:
        await alice.call("750", play=tone("1001"))
        await bob.answered()
        await hears(lambda: so_far(bob), "1001")
        call_id = (await target.call_from("1001"))["id"]
        async with target.stream(call_id, encapsulation="sln", direction_listen="in", direction_speak="none") as stream:
            await stream.heard(10)
            await bob.transfer("800")
            await bob.ended()
            assert (await client.until("flow_ended"))["reason"] == "the call was parked"
            await carol.call("801", play=tone("1003"))
            await hears(lambda: so_far(alice), "1003")
            await hears(lambda: so_far(carol), "1001")
            await hears(lambda: samples_of(b"".join(stream.binary)), "1001")
            await carol.hangup()
            await alice.ended()
        await client.until("call_hangup", call_id)
        assert "talk" not in client.actions(call_id)


async def test_an_agent_talks_with_the_phone_that_retrieves_its_call(lab: Lab, phones: Phones) -> None:
    bob, carol = await phones("1002", "1003")
    await add_lot(lab)
    async with agent(lab) as (_, sink):
        await bob.call("750", play=tone("1002"))
        (received,) = await sink.connected(1)
        await speak(received)
        await hears(received.twilio, "1002")
        await bob.transfer(LOT)
        await bob.ended()
        await carol.call("801", play=tone("1003"))
        await hears(received.twilio, "1003")
        await hears(lambda: so_far(carol), "agent")
        await carol.dtmf("7")
        await until(lambda: [message["dtmf"]["digit"] for message in received.of(event="dtmf")] == ["7"])
        await carol.hangup()
        await asyncio.wait_for(received.ended.wait(), PATIENCE_S)
    await remove_lot(lab)
    assert (received.close_code, len(sink.connections)) == (1000, 1)


async def test_a_flow_continues_with_the_phone_that_retrieves_its_caller(lab: Lab, phones: Phones) -> None:
    alice, bob, carol = await phones("1001", "1002", "1003")
    bob.play_next(tone("1002"))
    await add_lot(lab)
    async with open_sink() as sink:
        media = action("external_media_start", url=sink.url, encapsulation="sln", direction_listen="in")
        connect = action("connect", destinations=[{"type": "extension", "target": "1002"}])
        flow = {
            "id": "f",
            "match": ["750"],
            "actions": [media, connect, action("digits_receive", length=1, duration=60000)],
        }
        async with pushing(lab, flows=[flow]) as target, client_of(target) as client:
            await alice.call("750", play=tone("1001"))
            await bob.answered()
            await hears(lambda: so_far(bob), "1001")
            await bob.transfer(LOT)
            await bob.ended()
            await carol.call("801", play=tone("1003"))
            await hears(lambda: so_far(alice), "1003")
            await hears(lambda: so_far(carol), "1001")
            (received,) = await sink.connected(1)
            await hears(lambda: received.samples, "1001")
            await carol.hangup()
            await client.until("flow_action", type="digits_receive")
            await hears(lambda: received.samples, "1001")
            await alice.hangup()
            await client.until("flow_ended")
    await remove_lot(lab)
    assert len(sink.connections) == 1
