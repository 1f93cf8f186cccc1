"""Every dialect in an action of a flow, both ways, and in a subscription, with real phones."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from bridge.access import CONFIGURATION
from bridge.testing import judge
from bridge.testing.lab_engine import Lab
from tests.flow_requests import external_media
from tests.lab.applications import APPLICATIONS, two_way_dialects
from tests.lab.conftest import Phones, pushing
from tests.lab.sink import Received, open_sink, tone_share
from tests.lab.streaming import APPLICATION_HZ, PHONE_HZ, RATE, calling, flows, seconds_of
from tests.lab.waiting import PATIENCE_S, sends

each_dialect = pytest.mark.parametrize("name", APPLICATIONS)


def test_every_two_way_dialect_is_tested() -> None:
    assert set(APPLICATIONS) == two_way_dialects()


@each_dialect
async def test_an_action_of_a_flow_carries_audio_both_ways(lab: Lab, phones: Phones, name: str) -> None:
    application = APPLICATIONS[name]
    (alice,) = await phones("1001")
    async with open_sink() as sink, flows(lab) as flow:
        sink.on_message = application.answer
        leg = await calling(flow, alice)
        request = external_media(
            url=sink.url, dialect=name, options=dict(application.options), direction_listen="in", direction_speak="out"
        )
        await flow.streams.external_media_start(leg, request, CONFIGURATION)
        (received,) = await sink.connected(1)
        await received.socket.send(application.speech(judge.tone(APPLICATION_HZ, 1.0, RATE)))
        await sends(alice, 2)
        await flow.streams.external_media_stop(leg)
        await asyncio.wait_for(received.ended.wait(), PATIENCE_S)
        heard = application.heard(received)
        assert tone_share(heard[RATE // 2 :], RATE, PHONE_HZ) > 0.9
        assert tone_share(heard, RATE, APPLICATION_HZ) == 0
        await flow.target.streams_gone()
        await alice.hangup()
    assert seconds_of(alice.recording(), APPLICATION_HZ) == pytest.approx(1.0, abs=0.1)


async def test_a_subscription_of_each_dialect_receives_the_caller(lab: Lab, phones: Phones) -> None:
    """All at the same call."""
    alice, _ = await phones("1001", "1002")
    async with open_sink() as sink:

        async def answer(received: Received, message: Mapping[str, Any]) -> None:
            await APPLICATIONS[received.path.removeprefix("/media/")].answer(received, message)

        sink.on_message = answer
        subscriptions = [
            {
                "id": name.replace("_", "-"),
                "url": f"{sink.url}/{name}",
                "dialect": name,
                "extensions": ["1001"],
                "options": dict(application.options),
            }
            for name, application in APPLICATIONS.items()
        ]
        async with pushing(lab, subscriptions=subscriptions) as target:
            await alice.call("1002", play=judge.tone(PHONE_HZ, 60, RATE))
            await alice.answered()
            await sink.connected(len(APPLICATIONS))
            await sends(alice, 2)
            await alice.hangup()
            for received in sink.connections:
                await asyncio.wait_for(received.ended.wait(), PATIENCE_S)
            await target.nothing_left()
        for received in sink.connections:
            name = received.path.removeprefix("/media/")
            assert tone_share(APPLICATIONS[name].heard(received)[RATE // 2 :], RATE, PHONE_HZ) > 0.8, name
