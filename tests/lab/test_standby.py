"""A second instance takes the calls over when the first one stops or dies: with the same configuration and ports."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from bridge.testing.lab_engine import Lab, free_port
from tests.lab.conftest import Phones
from tests.lab.restarting import restarting
from tests.lab.resumed import BACK_S, extension, hears, originate, ready, streamed
from tests.lab.sink import open_sink


@pytest.mark.parametrize("end", ["end", "die"])
@pytest.mark.parametrize("workers", [1, 2])
async def test_a_standby_takes_over_calls_that_are_up(
    lab: Lab, tmp_path: Path, phones: Phones, workers: int, end: str
) -> None:
    alice, bob, carol = await ready(phones, "1001", "1002", "1003")
    connect = {"type": "connect", "option": {"destinations": [extension("1002")]}}
    sections: dict[str, Any] = {
        "workers": {"count": workers},
        "audiosocket": {"bind_port": free_port() if workers == 1 else 0},
    }
    async with contextlib.AsyncExitStack() as stack:
        agent, observer = [await stack.enter_async_context(open_sink()) for _ in range(2)]
        route = {"id": "agent", "match": "750", "url": agent.url, "dialect": "twilio"}
        subscription = {"id": "all", "url": observer.url, "dialect": "twilio", "extensions": ["1001"]}
        first = await stack.enter_async_context(
            restarting(lab, tmp_path, dialplan=[route], subscriptions=[subscription], **sections)
        )
        call = await originate(first, "1001", actions=[connect, {"type": "beep"}])
        await asyncio.gather(alice.answered(), bob.answered())
        await carol.call("750")
        await carol.answered()
        await streamed((await agent.connected(1))[0], 900)
        await streamed((await observer.connected(1))[0], 500)
        second = await first.stand_by()
        loop = asyncio.get_running_loop()
        began = loop.time()
        await getattr(first, end)()
        await streamed((await agent.connected(2))[1], 900)
        await streamed((await observer.connected(2))[1], 500)
        assert loop.time() - began < BACK_S
        await second.up()
        first.become(second)  # which is stopped in the end, with nothing left on the PBX
        await asyncio.gather(hears(alice, 700), hears(bob, 500))
        assert (await second.get(f"/v1.0/calls/{call['id']}"))[1]["status"] == "progressing"
        await bob.hangup()
        await alice.ended()  # after the beep: its flow continues there
        await carol.hangup()
