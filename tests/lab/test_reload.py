"""SIGHUP with calls up: what has changed is applied, and nobody who talks notices."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bridge.testing import judge
from bridge.testing.lab_engine import Lab
from tests.lab.conftest import Phones
from tests.lab.restarting import restarting
from tests.lab.sink import open_sink
from tests.lab.waiting import PATIENCE_S, sends

RATE = 8000


async def test_a_reload_touches_no_call_and_applies_to_new_ones(lab: Lab, tmp_path: Path, phones: Phones) -> None:
    alice, bob, carol = await phones("1001", "1002", "1003")
    async with open_sink() as before, open_sink() as after, open_sink() as observer:
        route = {"id": "agent", "match": "750", "url": before.url, "dialect": "twilio", "then": "hangup"}
        async with restarting(lab, tmp_path, dialplan=[route]) as service:
            await alice.call("750", play=judge.tone(500, 60, RATE))
            await alice.answered()
            await bob.call("1003", play=judge.tone(700, 60, RATE))
            await bob.answered()
            (first,) = await before.connected(1)
            await sends(alice, 1)

            heard = len(first.twilio())
            began = asyncio.get_running_loop().time()
            subscription = {"id": "all", "url": observer.url, "dialect": "yeastar", "extensions": ["1002"]}
            await service.reload(dialplan=[route | {"url": after.url}], subscriptions=[subscription])
            (observed,) = await observer.connected(1)  # a call that is up already
            await sends(alice, 2)
            took_s = asyncio.get_running_loop().time() - began
            sound = first.twilio()[heard:]
            assert abs(len(sound) / RATE - took_s) < 0.3
            assert (judge.block_levels(sound, RATE, 500, block_s=0.1)[1:-1] > 1000).all()  # not a gap
            async with asyncio.timeout(PATIENCE_S):
                while not any(message.get("status") == "process" for message in observed.messages):
                    await asyncio.sleep(0.05)

            # What has not changed keeps its streams; a wrong file changes nothing.
            service.write(dialplan=[route | {"dialect": "morse"}])
            service.process.send_signal(1)
            assert "morse" in (await service.says("reload failed, nothing has changed error=(.*)"))[0]
            await alice.hangup()
            await alice.call("750", play=judge.tone(500, 60, RATE))
            await alice.answered()
            (second,) = await after.connected(1)
            await sends(alice, 1)
            assert judge.level_of(second.twilio()[-4000:], 500, RATE) > 1000
            assert (len(before.connections), len(observer.connections)) == (1, 1)
            assert observed.close_code is None
            await alice.hangup()
            await bob.hangup()
    await carol.hangup()
