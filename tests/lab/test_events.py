"""What is told of a real call: the same to a webhook's server and to a client of the WebSocket."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from websockets.asyncio.client import connect

from bridge.app.application import Application
from bridge.testing.lab_engine import Lab
from tests.lab.conftest import Phones, configuration, in_step
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
            await in_step(target)
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
