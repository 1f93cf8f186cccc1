"""Parties that hold in calls that the bridge controls, and a queue's agent who sends the caller on."""

from __future__ import annotations

import asyncio

import pytest

from bridge.testing.lab_engine import Lab
from tests.lab.conftest import Phones, pushing
from tests.lab.driving import action, client_of
from tests.lab.moving import agent, consult, hears, so_far, speak, tone, voices
from tests.lab.sink import Received, open_sink
from tests.lab.waiting import PATIENCE_S, until


async def falls_silent(received: Received) -> None:
    """Wait until a stream receives silence, or nothing: Asterisk sends nothing of a party that holds."""
    while voices(received.samples):
        before = len(received.samples)
        await asyncio.sleep(0.5)
        if len(received.samples) == before:
            return


async def test_an_agents_caller_holds_and_resumes(lab: Lab, phones: Phones) -> None:
    (bob,) = await phones("1002")
    async with agent(lab) as (target, sink):
        await bob.call("750", play=tone("1002"))
        (received,) = await sink.connected(1)
        await hears(received.twilio, "1002")
        await bob.hold()
        await hears(received.twilio)
        await bob.resume()
        await hears(received.twilio, "1002")
        await speak(received, 1)
        await received.send(event="mark", mark={"name": "said"})
        await until(lambda: received.of(event="mark"))
        assert (await target.get("/v1.0/streams"))[1]["result"][0]["live"]
        await received.socket.close()
        await bob.ended()
    assert len(sink.connections) == 1


async def test_an_originated_calls_party_holds_and_resumes(lab: Lab, phones: Phones) -> None:
    (bob,) = await phones("1002")
    bob.play_next(tone("1002"))
    async with open_sink() as sink, pushing(lab) as target, client_of(target) as client:
        media = action("external_media_start", url=sink.url, encapsulation="sln", direction_listen="in")
        call_id = await client.call("1002", media, action("sleep", duration=60000))
        (received,) = await sink.connected(1)
        await hears(lambda: received.samples, "1002")
        await bob.hold()
        await falls_silent(received)
        await bob.resume()
        await hears(lambda: received.samples, "1002")
        await bob.hangup()
        await client.until("call_hangup", call_id)
        await asyncio.wait_for(received.ended.wait(), PATIENCE_S)
    assert (received.close_code, client.failures()) == (1000, [])


@pytest.mark.parametrize("how", ["blind", "feature code"])
async def test_a_queues_agent_sends_the_caller_on(lab: Lab, phones: Phones, how: str) -> None:
    """A subscription of the trunk carries the caller throughout, and each agent while they talk."""
    trunk, alice, bob = await phones("trunk", "1001", "1002")
    alice.play_next(tone("1001"))
    bob.play_next(tone("1002"))
    async with open_sink() as sink:
        subscription = {
            "id": "in",
            "url": sink.url,
            "dialect": "yeastar",
            "trunks": ["trunk-a"],
            "multiparty": "single",
        }
        async with pushing(lab, subscriptions=[subscription]):
            await trunk.call("5551003" if how == "blind" else "5552701", play=tone("desk"))
            await bob.answered()
            await hears(lambda: so_far(bob), "desk")
            (received,) = await sink.connected(1)
            await hears(lambda: received.yeastar(received.yeastar_channels.get("1002", "")), "1002")
            if how == "blind":
                await bob.transfer("1001")
            else:
                await consult(bob, "1001", lambda: alice.in_call)
                await alice.answered()
                await bob.hangup()
            await hears(lambda: so_far(alice), "desk")
            await hears(lambda: received.yeastar(received.yeastar_channels.get("1001", "")), "1001")
            await hears(lambda: received.yeastar(received.yeastar_channels["trunk-a"]), "desk")
            await trunk.hangup()
            await asyncio.wait_for(received.ended.wait(), PATIENCE_S)
    assert received.close_code == 1000
