"""Text messages that a client of ``media_stream`` may request beside its audio, on a real call."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from bridge.testing import judge, modem, peer
from bridge.testing.lab_engine import Lab
from bridge.testing.peer import Peer
from tests.lab.conftest import Phones, pushing
from tests.lab.moving import HZ, hears, so_far, tone
from tests.lab.parties import hears_on
from tests.lab.target import Target
from tests.lab.waiting import PATIENCE_S

RATE = 8000
CONTROL = {"encapsulation": "sln", "control": "true"}
LAST_WORDS = "Thank you for your call. Goodbye!"


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


async def test_a_hang_up_after_the_last_word(target: Target, phones: Phones) -> None:
    """The last character of the data arrives before the call ends, and nothing is sent after the request."""
    (alice,) = await phones("1001")
    await alice.call("750", play=judge.silence(60, RATE))
    await alice.answered()
    call = await target.call_from("1001")
    seen: list[dict[str, Any]] = []
    async with target.stream(call["id"], **CONTROL) as application:
        await next_event(application, seen)
        said = modem.modulate(LAST_WORDS, RATE, lead_s=2.0).astype("<i2")
        for message in peer.frames(said.tobytes()):
            await application.send(message)
        await application.send('{"event": "hangup", "hangup": {"after_playout": true}}')
        await alice.ended()
        assert await next_event(application, seen) == {"event": "drained"}
        assert await next_event(application, seen) == {"event": "stop", "stop": {"reason": "call ended"}}
    assert modem.demodulate(alice.recording(), RATE) == LAST_WORDS
    await target.nothing_left()


async def test_a_hang_up_of_an_ordinary_call_ends_it_for_both(target: Target, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    await alice.call("1002", play=tone("1001"))
    await hears(lambda: so_far(bob), "1001")
    call = await target.call_from("1001")
    async with target.stream(call["id"], **CONTROL) as application:
        await next_event(application, [])
        for message in peer.frames(judge.silence(20, RATE).astype("<i2").tobytes()):
            await application.send(message)
        await application.send('{"event": "hangup"}')
        began = asyncio.get_running_loop().time()
        await alice.ended()
        await bob.ended()
        assert asyncio.get_running_loop().time() - began < 10, "the queue was not waited for"
    await target.nothing_left()


async def test_a_transfer_connects_the_caller_with_a_colleague(lab: Lab, phones: Phones) -> None:
    """Alice talks with the application, then with Bob; the application receives both."""
    alice, bob = await phones("1001", "1002")
    bob.play_next(tone("1002"))
    async with pushing(lab) as target:
        await alice.call("750", play=tone("1001"))
        await alice.answered()
        call = await target.call_from("1001")
        seen: list[dict[str, Any]] = []
        async with target.stream(call["id"], **CONTROL) as application:
            await next_event(application, seen)
            await application.send(tone("agent", 60).astype("<i2").tobytes())
            await hears(lambda: so_far(alice), "agent")
            wrong = {"type": "extension", "target": "no such phone"}
            await application.send(json.dumps({"event": "transfer", "transfer": {"destination": wrong}}))
            error = (await next_event(application, seen))["error"]
            assert (error["received"], error["reason"]) == ("transfer", "INVALID_DESTINATION")
            await hears(lambda: so_far(alice), "agent")
            await application.send('{"event": "clear"}')
            assert await next_event(application, seen) == {"event": "drained"}
            bobs = {"type": "extension", "target": "1002"}
            await application.send(json.dumps({"event": "transfer", "transfer": {"destination": bobs}}))
            answer = (await next_event(application, seen))["transfer"]
            assert answer["call_id"]
            await hears(lambda: so_far(alice), "1002")
            await hears(lambda: so_far(bob), "1001")
            await hears_on(application, HZ["1002"])
            await application.send('{"event": "hangup"}')
            await alice.ended()
            await bob.ended()
        await target.nothing_left()
