"""A transfer to an agent where several processes serve: the worker that holds the call continues it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bridge.testing.lab_engine import Lab
from tests.lab.conftest import Phones
from tests.lab.moving import HZ, desk, hears, so_far, speak, tone
from tests.lab.sink import open_sink
from tests.lab.waiting import PATIENCE_S
from tests.lab.workers import serving


async def test_an_attended_transfer_to_an_agent_of_a_worker(lab: Lab, tmp_path: Path, phones: Phones) -> None:
    (alice,) = await phones("1001")
    alice.play_next(tone("1001"))
    async with open_sink() as sink:
        route = {"id": "agent", "match": "750", "url": sink.url, "dialect": "twilio", "then": "hangup"}
        async with serving(lab, tmp_path, dialplan=[route]) as several, desk(lab) as phone:
            for number in (1, 2):  # one call is the first worker's, the other the second's
                first, second = await phone.call("1001", HZ["desk"]), await phone.call("750", HZ["desk"])
                received = (await sink.connected(number))[-1]
                await speak(received)
                await hears(received.twilio, "desk")
                stream = (await several.get("/v1.0/streams"))[1]["result"][0]
                await phone.transfer(first, second)
                await hears(received.twilio, "1001")
                await hears(lambda: so_far(alice), "agent")
                # Any worker answers for the call, by the id that its stream was given.
                for _ in range(4):
                    status, call = await several.request("GET", f"/v1.0/calls/{stream['call_id']}")
                    assert (status, call["status"]) == (200, "progressing")
                assert (await several.request("DELETE", f"/v1.0/calls/{stream['call_id']}"))[0] == 200
                await alice.ended()
                await asyncio.wait_for(received.ended.wait(), PATIENCE_S)
                alice.forget()
    assert len(sink.connections) == 2
