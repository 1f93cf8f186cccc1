"""Events of a real call: a webhook's server and a client of the WebSocket receive the same."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from websockets.asyncio.client import connect

from bridge.app.application import Application
from bridge.testing.lab_engine import Lab
from tests.lab.conftest import Phones, configuration, pushing, synchronized
from tests.lab.driving import action, client_of
from tests.lab.target import Target
from tests.lab.waiting import PATIENCE_S, sends, stays
from tests.loopback.webhook_receiver import Receiver, hook


@pytest.mark.quick
async def test_a_call_is_told_from_its_first_ring_to_its_end(lab: Lab, phones: Phones) -> None:
    heard: list[dict[str, Any]] = []
    async with Receiver().serving() as receiver:
        webhook = hook(receiver.port, events=["call_*", "dtmf_received"])
        async with Application(configuration(lab, webhooks=[webhook])) as bridge:
            target = Target(lab, f"http://127.0.0.1:{bridge.http_port}", None, bridge)
            await synchronized(target)
            url = f"ws{target.url.removeprefix('http')}/v1.0/events?types=call_*,dtmf_received"

            async def listen() -> None:
                async with connect(url) as socket:
                    async for message in socket:
                        heard.append(json.loads(message))

            listener = asyncio.create_task(listen())
            alice, _ = await phones("1001", "1002")
            await alice.call("1002")
            await alice.answered()
            call = await target.call_from("1001")
            # Asterisk looks for keys in an ordinary call only while somebody listens to it.
            async with target.stream(call["id"], encapsulation="sln"):
                await sends(alice, 0.3)
                await alice.dtmf("12")
                await sends(alice, 0.5)
            await alice.hangup()
            async with asyncio.timeout(PATIENCE_S):
                while not any(event["type"] == "call_hangup" for event in heard):
                    await asyncio.sleep(0.05)
            await receiver.got(len(heard))
            await stays(lambda: receiver.events == heard, 0.2)  # nothing comes twice
        await asyncio.gather(listener, return_exceptions=True)
    kinds = [event["type"] for event in heard]
    assert kinds[0] == "call_created"
    assert kinds[-1] == "call_hangup"
    assert kinds.count("call_progressing") == 1
    assert [event["data"]["digit"] for event in heard if event["type"] == "dtmf_received"] == ["1", "2"]
    assert {event["data"].get("call_id", event["data"].get("id")) for event in heard} == {call["id"]}
    assert heard[-1]["data"]["hangup_reason"] == "normal"


async def test_a_recorder_that_follows_events_records_the_agent_of_a_queue(lab: Lab, phones: Phones) -> None:
    """The agent is called for a caller who is in the call already: only ``call_joined`` shows it."""
    alice, bob = await phones("1001", "1002")
    async with pushing(lab) as target, client_of(target) as client:
        await alice.call("700")
        joined = await client.until("call_joined", count=2)
        call_id = joined["id"]
        shown = await client.record(call_id)
        assert set(joined) - {"party", "at"} == set(shown), "the data of events has the shape of the call"
        parties = {data["party"]["endpoint"]: data["party"] for data in client.told("call_joined", call_id)}
        assert [*parties] == ["1001", "1002"]
        assert {party["endpoint"] for party in joined["parties"] if not party["name"].startswith("Local/")} == {
            "1001", "1002"
        }  # fmt: skip
        async with target.stream(parties["1002"]["id"], encapsulation="sln"):
            started = await client.until("stream_started")
            assert started["call_id"] == call_id
            await bob.hangup()
            await client.until("call_left", call_id, count=2)  # the dialplan hangs up the caller after the agent
            left = {data["party"]["endpoint"]: data["cause"] for data in client.told("call_left", call_id)}
            assert left == {"1001": 16, "1002": 16}
        ended = await client.until("call_hangup", call_id)
        assert ended["parties"] == []


async def test_the_outcome_of_a_flow_is_told(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    async with pushing(lab) as target, client_of(target) as client:
        menu = action("digits_receive", length=1, duration=30_000)
        call_id = await client.call("1001", menu, action("variable_set", key="answer", value="confirmed"))
        await client.until("flow_action", call_id, type="digits_receive")
        await sends(alice, 0.5)
        await alice.dtmf("1")
        ended = await client.until("flow_ended", call_id)
        assert ended["variables"] == {"answer": "confirmed"}
        hung_up = await client.until("call_hangup", call_id)
        assert hung_up["variables"] == {"answer": "confirmed"}
        assert (await client.record(call_id))["variables"] == {"answer": "confirmed"}
