"""An overloaded bridge refuses what is new and serves what is up; what waited begins when it recovers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import aiohttp

from bridge.app.application import Application
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
                await application.heard(50)  # what is up goes on
                await another.close()  # and makes room
                async with asyncio.timeout(PATIENCE_S):
                    while not (sink.connections and len(sink.connections[0].messages) > 100):
                        await asyncio.sleep(0.05)
            channel = sink.connections[0].yeastar_channels["1001"]
            assert tone_share(sink.connections[0].yeastar(channel), RATE, HZ) > 0.7
            await alice.hangup()
            await carol.hangup()


UP, MORE = 4, 100
MEASURED_S = 5.0


async def come(target: Target, names: Sequence[str]) -> None:
    """Have calls come in together, each with a tone at its other end."""
    await asyncio.gather(
        *(
            target.ari(
                "POST", "/channels", endpoint="Local/750@from-internal/n", extension="601", context="from-internal",
                priority="1", channelId=name, otherChannelId=f"{name}-2",
            )
            for name in names
        ),
    )  # fmt: skip


async def part_skipped(bridge: Application) -> float:
    """Return the part of all frames to Asterisk that is not written in the next seconds."""
    counters = bridge.counters
    skipped, written = counters.ticks_skipped, counters.frames_to_asterisk
    await asyncio.sleep(MEASURED_S)
    skipped, written = counters.ticks_skipped - skipped, counters.frames_to_asterisk - written
    return skipped / (skipped + written)


async def test_calls_that_are_up_stay_clean_when_a_hundred_come_at_once(lab: Lab) -> None:
    async with open_sink() as sink:
        route = {"id": "agent", "match": "750", "url": sink.url, "dialect": "twilio", "then": "hangup"}
        async with pushing(lab, dialplan=[route]) as target:
            bridge = target.bridge
            assert bridge is not None
            names = [f"crowd-{number}" for number in range(UP + MORE)]
            await come(target, names[:UP])
            up = await sink.connected(UP)
            before = await part_skipped(bridge)
            await come(target, names[UP:])
            skipped = await part_skipped(bridge)
            streams, refused = bridge.admission.open, bridge.counters.starts_refused
            print("CROWD", before, skipped, streams, refused, bridge.admission.overload.__dict__)
            assert skipped < before + 0.05
            assert all(each.close_code is None for each in up)
            assert streams + refused >= UP + MORE
            for channel in await target.ari("GET", "/channels"):
                with contextlib.suppress(AssertionError):  # its other end has taken it along
                    await target.ari("DELETE", f"/channels/{channel['id']}")
