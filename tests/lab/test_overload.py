"""An overloaded bridge refuses what is new and serves what is up; what waited begins when it recovers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from uuid import uuid4

import aiohttp

from bridge.media.call_admission import LATE_OF_MEASURED
from bridge.testing import judge
from bridge.testing.lab_engine import Lab
from tests.lab.conftest import Phones, pushing
from tests.lab.sink import open_sink, tone_share
from tests.lab.target import Target
from tests.lab.waiting import PATIENCE_S

RATE = 8000
HZ = 500
LATE_S = 0.2


async def test_a_refused_subscription_gets_its_stream_when_there_is_room(lab: Lab, phones: Phones) -> None:
    carol, alice, bob = await phones("1003", "1001", "1002")
    async with open_sink() as sink:
        subscription = {"id": "ext", "url": sink.url, "dialect": "yeastar", "extensions": ["1001"]}
        async with pushing(lab, subscriptions=[subscription], media={"refuse_from": 2}) as target:
            assert target.bridge is not None
            admission = target.bridge.admission
            await carol.call("750", play=judge.tone(900, 60, RATE))
            await carol.answered()
            call = (await target.call_from("1003"))["id"]
            async with (
                target.stream(call, encapsulation="sln") as application,
                target.stream(call, encapsulation="sln") as another,
            ):
                await application.heard(5)
                await another.heard(5)
                for _ in range(LATE_OF_MEASURED):
                    admission.measured(LATE_S, 0.1, asyncio.get_running_loop().time())
                bob.play_next(judge.tone(700, 60, RATE))
                await alice.call("1002", play=judge.tone(HZ, 60, RATE))
                await alice.answered()
                async with (
                    aiohttp.ClientSession() as session,
                    session.post(
                        f"{target.url}/v1.0/calls", json={"destinations": [{"type": "extension", "target": "1004"}]}
                    ) as response,
                ):
                    assert response.status == 503
                    assert response.headers["Retry-After"] == "5"
                    assert (await response.json())["error"]["reason"] == "OVERLOADED"
                status, health = await target.get("/health")
                assert (status, health["accepting"], sink.connections) == (200, False, [])
                await application.heard(50)  # what is up continues
                await another.close()  # and makes room
                async with asyncio.timeout(PATIENCE_S):
                    while not (sink.connections and len(sink.connections[0].messages) > 100):
                        await asyncio.sleep(0.05)
            channel = sink.connections[0].yeastar_channels["1001"]
            assert tone_share(sink.connections[0].yeastar(channel), RATE, HZ) > 0.7
            await alice.hangup()
            await carol.hangup()


CROWD = 40


async def come(target: Target, names: Sequence[str]) -> None:
    """Have calls come in together, each with a tone at its other end."""
    calls = (
        target.ari(
            *("POST", "/channels"),
            endpoint="Local/750@from-internal/n",
            extension="601",
            context="from-internal",
            priority="1",
            channelId=name,
            otherChannelId=f"{name}-2",
        )
        for name in names
    )
    await asyncio.gather(*calls)


async def test_of_a_crowd_some_are_rejected_and_those_that_were_up_are_not_touched(lab: Lab) -> None:
    """What this is for, tests/loopback/test_overload.py measures: here the bridge shares a process with the crowd."""
    async with open_sink() as sink:
        route = {"id": "agent", "match": "750", "url": sink.url, "dialect": "twilio", "then": "hangup"}
        async with pushing(lab, dialplan=[route], media={"refuse_from": 1}) as target:
            bridge = target.bridge
            assert bridge is not None
            names = [f"crowd-{uuid4()}" for _ in range(CROWD)]
            await come(target, names[:1])  # so few may start together
            (first,) = await sink.connected(1)
            await come(target, names[1:])
            async with asyncio.timeout(PATIENCE_S):
                while bridge.counters.starts_refused + bridge.admission.open < len(names):
                    await asyncio.sleep(0.05)
            assert bridge.counters.starts_refused > 0
            assert first.close_code is None
            for channel in await target.ari("GET", "/channels"):
                with contextlib.suppress(AssertionError):  # its other end has taken it along
                    await target.ari("DELETE", f"/channels/{channel['id']}")
