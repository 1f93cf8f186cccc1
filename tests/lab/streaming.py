"""Calls of phones, and the streams that flows start on them, without a flow."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from bridge.app.application import Application
from bridge.control.legs import Leg
from bridge.events.hub import Event
from bridge.testing import judge, peer
from bridge.testing.lab_engine import Lab
from bridge.testing.phone import Phone
from tests.lab.conftest import pushing
from tests.lab.encapsulations import to_messages
from tests.lab.sink import Received
from tests.lab.target import Target
from tests.lab.waiting import PATIENCE_S

RATE = 8000
PHONE_HZ, OTHER_HZ, APPLICATION_HZ = 500, 900, 700


class Flow:
    """Legs, and streams for them, as a flow has them."""

    def __init__(self, target: Target, bridge: Application) -> None:
        self.target = target
        self.bridge = bridge
        self.events: list[Event] = []
        bridge.events.subscribe(self.events.append)
        self.legs = bridge.legs
        self.streams = bridge.calling.streams

    async def leg_of(self, phone: str) -> Leg:
        """Return the leg of a phone that has called 750."""
        call = await self.target.call_from(phone)
        async with asyncio.timeout(PATIENCE_S):
            while (leg := self.legs.take(call["parties"][0]["id"])) is None:
                await asyncio.sleep(0.02)
        return leg

    def told(self, kind: str) -> list[Event]:
        """Return the events of one type."""
        return [event for event in self.events if event.type == kind]


@contextlib.asynccontextmanager
async def flows(lab: Lab, **sections: object) -> AsyncIterator[Flow]:
    """Run a bridge whose calls can be given streams; nothing may be left at the end."""
    async with pushing(lab, **sections) as target:
        assert target.bridge is not None
        flow = Flow(target, target.bridge)
        yield flow


async def calling(flow: Flow, phone: Phone, hz: float = PHONE_HZ) -> Leg:
    """Have a phone call 750 with a tone, and return its leg."""
    await phone.call("750", play=judge.tone(hz, 60, RATE))
    await phone.answered()
    return await flow.leg_of(phone.name)


def seconds_of(samples: peer.Samples, hz: float) -> float:
    """Return for how many seconds a recording holds a tone."""
    return float((judge.block_levels(samples, RATE, hz) > 3000).sum() * judge.BLOCK_S)


async def say(received: Received, encapsulation: str, seconds: float) -> None:
    """Send a tone to the bridge."""
    for message in to_messages(encapsulation, judge.tone(APPLICATION_HZ, seconds, RATE)):
        await received.socket.send(message)


def check_voxology(received: Received, tracks: list[str]) -> None:
    """Check order and counters of a whole transcript with these tracks, each once."""
    messages = received.messages
    assert messages[0]["type"] == "init_stream"
    assert [message["type"] for message in messages].count("init_stream") == 1
    assert messages[-1]["type"] == "end_stream"
    assert [message["stream_sequence_number"] for message in messages] == list(range(1, len(messages) + 1))
    for name in tracks:
        of_track = [message for message in messages if message.get("name") == name]
        kinds = [message["type"] for message in of_track]
        assert kinds == ["start_track", *["live_track"] * (len(kinds) - 2), "stop_track"], name
        assert [message["track_sequence_number"] for message in of_track] == list(range(1, len(of_track) + 1))
    assert [track["name"] for track in messages[-1]["tracks"]] == tracks
    assert received.close_code == 1000
