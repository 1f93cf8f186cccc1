"""Text messages that a client of ``media_stream`` may request beside its audio, on a real call."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from bridge.testing import judge, peer
from bridge.testing.peer import Peer
from tests.lab.conftest import Phones
from tests.lab.target import Target
from tests.lab.waiting import PATIENCE_S

RATE = 8000


async def next_event(application: Peer, seen: list[dict[str, Any]]) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            events = [json.loads(each.data) for each in application.messages if isinstance(each.data, str)]
            if len(events) > len(seen):
                seen.append(events[len(seen)])
                return seen[-1]
            await asyncio.sleep(0.02)


async def test_a_client_is_notified_of_the_call_its_digits_and_its_queue(target: Target, phones: Phones) -> None:
    alice, _ = await phones("1001", "1002")
    await alice.call("1002", play=judge.silence(60, RATE))
    await alice.answered()
    call = await target.call_from("1001")
    seen: list[dict[str, Any]] = []
    options = {"encapsulation": "sln", "control": "true", "direction_listen": "in", "direction_speak": "out"}
    async with target.stream(call["id"], **options) as application:
        start = (await next_event(application, seen))["start"]
        assert start["call_id"] == call["id"]
        assert (start["caller"], start["callee"], start["direction"]) == ("1001", "1002", "internal")
        assert (start["encapsulation"], start["codec"], start["rate"]) == ("sln", "slin", RATE)
        # Two seconds in one burst; the queue runs dry when the phone has received them.
        pcm = judge.tone(700, 2, RATE).astype("<i2").tobytes()
        for message in peer.frames(pcm):
            await application.send(message)
        await application.send('{"event": "queue"}')
        buffered = (await next_event(application, seen))["queue"]["buffered_ms"]
        assert 1000 < buffered <= 2000
        began = asyncio.get_running_loop().time()
        assert await next_event(application, seen) == {"event": "drained"}
        assert 0.5 < asyncio.get_running_loop().time() - began < 4
        await alice.dtmf("7")
        assert await next_event(application, seen) == {"event": "dtmf", "dtmf": {"digits": "7"}}
        await application.send('{"event": "cleared"}')
        error = (await next_event(application, seen))["error"]
        assert (error["message"], error["received"]) == ("not understood", '{"event": "cleared"}')
        await alice.hangup()
        assert await next_event(application, seen) == {"event": "stop", "stop": {"reason": "call ended"}}
    await target.nothing_left()
    levels = judge.block_levels(alice.recording(), RATE, 700)
    assert 1.9 < (levels > 3000).sum() * judge.BLOCK_S < 2.2
