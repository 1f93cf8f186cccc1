"""A party that is transferred to an agent talks with it: the agent's stream continues with another channel."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from bridge.testing.lab_engine import Lab
from tests.lab.conftest import Phones
from tests.lab.moving import ACCOUNT, HZ, agent, consult, desk, hears, so_far, speak, tone
from tests.lab.sink import Received
from tests.lab.target import Target
from tests.lab.waiting import PATIENCE_S, until


async def end_by_request(target: Target, received: Received) -> None:
    """End a call as agents do, by the id that its stream was given."""
    sid = received.of(event="start")[0]["start"]["callSid"]
    url = f"{target.url}/2010-04-01/Accounts/{ACCOUNT['account_sid']}/Calls/{sid}.json"
    login = aiohttp.encode_basic_auth(ACCOUNT["account_sid"], ACCOUNT["auth_token"])
    async with (
        aiohttp.ClientSession(headers={"Authorization": login}) as session,
        session.post(url, data={"Status": "completed"}) as answer,
    ):
        assert answer.status == 200, await answer.text()


@pytest.mark.parametrize(
    ("end", "agent_first"), [("agent", False), ("agent", True), ("request", False), ("party", False)]
)
async def test_an_attended_transfer_to_an_agent(lab: Lab, phones: Phones, end: str, agent_first: bool) -> None:
    """By REFER with Replaces, as a desk phone's Transfer key sends it: in its call with Alice, or with the agent."""
    (alice,) = await phones("1001")
    alice.play_next(tone("1001"))
    async with agent(lab) as (target, sink), desk(lab) as phone:
        first = await phone.call("1001", HZ["desk"])
        second = await phone.call("750", HZ["desk"])
        (received,) = await sink.connected(1)
        await speak(received)
        await hears(received.twilio, "desk")
        call_id = (await target.get("/v1.0/streams"))[1]["result"][0]["call_id"]
        await phone.transfer(*((second, first) if agent_first else (first, second)))
        await hears(received.twilio, "1001")
        await hears(lambda: so_far(alice), "agent")
        await asyncio.wait_for(asyncio.gather(first.over.wait(), second.over.wait()), PATIENCE_S)
        assert (await target.get(f"/v1.0/calls/{call_id}"))[1]["status"] == "progressing"

        # The halves of the Local channel between them belong to one call, or to one each: the oldest of their bridges.
        expected = [("1004", 0), ("1004", 1)] if agent_first else [("1004", 1)]

        async def listed() -> bool:
            calls = (await target.get("/v1.0/calls"))[1]["result"]
            return sorted((call["source"]["target"], call["streams"]) for call in calls) == expected

        await until(listed)
        await alice.dtmf("7")
        await until(lambda: [message["dtmf"]["digit"] for message in received.of(event="dtmf")] == ["7"])
        if end == "agent":
            await received.socket.close()  # then = "hangup"
        elif end == "request":
            await end_by_request(target, received)
        else:
            await alice.hangup()
        await alice.ended()
        await asyncio.wait_for(received.ended.wait(), PATIENCE_S)
        record = (await target.get(f"/v1.0/calls/{call_id}"))[1]
        assert (record["status"], record["hangup_reason"]) == ("hangup", "normal")
    assert len(received.of(event="start")) == len(sink.connections) == 1
    assert received.close_code == 1000


async def test_the_dialplan_continues_behind_the_agent_after_an_attended_transfer(lab: Lab, phones: Phones) -> None:
    for priority, application in ((1, f"Stasis({lab.ari_app},750)"), (2, "Milliwatt()")):
        await lab.cli(f"dialplan add extension 760,{priority},{application} into from-internal")
    (alice,) = await phones("1001")
    alice.play_next(tone("1001"))
    async with agent(lab, then="continue") as (_, sink), desk(lab) as phone:
        first, second = await phone.call("1001", HZ["desk"]), await phone.call("760", HZ["desk"])
        (received,) = await sink.connected(1)
        await phone.transfer(first, second)
        await hears(received.twilio, "1001")
        await received.socket.close()
        heard = len(so_far(alice))
        await until(lambda: len(so_far(alice)) > heard + 8000)
        assert alice.in_call
        await alice.hangup()
    await lab.cli("dialplan remove extension 760@from-internal")
    assert alice.recording()[-4000:].max() > 3000  # Milliwatt


@pytest.mark.parametrize("how", ["blind", "feature code"])
async def test_a_softphone_transfers_to_an_agent(lab: Lab, phones: Phones, how: str) -> None:
    alice, bob = await phones("1001", "1002")
    alice.play_next(tone("1001"))
    async with agent(lab) as (_, sink):
        await bob.call("81001", play=tone("1002"))
        await alice.answered()
        await hears(lambda: so_far(alice), "1002")
        if how == "blind":
            await bob.transfer("750")
        else:
            await consult(bob, "750", lambda: sink.connections)
            await hears(sink.connections[0].twilio, "1002")
            await bob.hangup()
        (received,) = await sink.connected(1)
        await speak(received)
        await hears(received.twilio, "1001")
        await hears(lambda: so_far(alice), "agent")
        await received.socket.close()
        await alice.ended()
    assert len(sink.connections) == 1


async def test_a_call_that_is_transferred_by_request_loses_its_agent(lab: Lab, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    bob.play_next(tone("1002"))
    async with agent(lab) as (target, sink):
        await alice.call("750", play=tone("1001"))
        (received,) = await sink.connected(1)
        await speak(received)
        await hears(lambda: so_far(alice), "agent")
        call_id = (await target.call_from("1001"))["id"]
        destination = {"destination": {"type": "extension", "target": "1002"}}
        path = f"{target.url}/v1.0/calls/{call_id}/transfer"
        async with aiohttp.ClientSession() as session, session.post(path, json=destination) as answer:
            assert answer.status == 200, await answer.text()
        await asyncio.wait_for(received.ended.wait(), PATIENCE_S)
        assert (received.close_code, received.messages[-1]["event"]) == (1000, "stop")
        await hears(lambda: so_far(alice), "1002")
        await hears(lambda: so_far(bob), "1001")
        assert (await target.get("/v1.0/streams"))[1]["result"] == []
        await bob.hangup()
        await alice.ended()


async def test_the_party_behind_an_agents_caller_is_transferred_by_it(lab: Lab, phones: Phones) -> None:
    """An agent's own caller transfers it to somebody else, who talks with the agent then."""
    bob, carol = await phones("1002", "1003")
    carol.play_next(tone("1003"))
    async with agent(lab) as (_, sink):
        await bob.call("750", play=tone("1002"))
        (received,) = await sink.connected(1)
        await speak(received)
        await hears(received.twilio, "1002")
        await bob.transfer("1003")
        await bob.ended()
        await hears(received.twilio, "1003")
        await hears(lambda: so_far(carol), "agent")
        await carol.hangup()
        await asyncio.wait_for(received.ended.wait(), PATIENCE_S)
    assert (received.close_code, len(sink.connections)) == (1000, 1)
