"""A dialect of somebody else: one class and one registration, and everything that streams can speak it."""

# ruff: noqa: ARG002 - the interface has them

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest

from bridge import dialects
from bridge.dialects.base import Account, CallInfo, Command, Dialect, Layout, Message, Play, Setting, TrackInfo
from bridge.testing import judge, peer
from bridge.testing.lab_engine import Lab
from tests.lab.conftest import Phones, pushing
from tests.lab.driving import action, client_of, sleep
from tests.lab.sink import Received, open_sink, tone_share
from tests.lab.waiting import sends

RATE = 8000
PHONE_HZ = 500
APPLICATION_HZ = 700


class Plain(Dialect):
    """Lines of JSON, both ways; what a vendor's format may need of the bridge, and nothing else."""

    name: ClassVar[str] = "plain"
    layouts: ClassVar[tuple[Layout, ...]] = (Layout("said", "caller", {"said": "in"}),)
    default_layout: ClassVar[str] = "said"
    caller_track: ClassVar[str] = "said"
    flow_tracks: ClassVar[tuple[str, ...]] = ("said",)
    flow_keys: ClassVar[frozenset[str]] = frozenset({"stream_data"})

    def __init__(
        self, *, greeting: str = "", speaks: bool = False, stream_data: Mapping[str, Any] | None = None
    ) -> None:
        self.two_way = speaks
        self._greeting = greeting
        self._data = stream_data
        self._started: set[str] = set()

    @classmethod
    def arguments(cls, options: Mapping[str, Any], setting: Setting) -> Mapping[str, Any]:
        return {"speaks": setting.two_way, **options}

    def handshake_headers(self, url: str, account: Account) -> Mapping[str, str]:
        return {"X-Plain": f"{account.installation} to {url}"}

    def update(self, data: Mapping[str, Any]) -> None:
        self._data = data

    def opened(self, call: CallInfo, tracks: Sequence[str], now: float, wall: float) -> Sequence[Message]:
        return [json.dumps({"type": "hello", "call": call.call_id, "greeting": self._greeting, "tracks": list(tracks)})]

    def track_started(self, track: TrackInfo, now: float) -> Sequence[Message]:
        self._started.add(track.name)
        return [json.dumps({"type": "track", "name": track.name})]

    def audio(self, track: str, pcm: bytes, now: float) -> Sequence[Message]:
        if not pcm or track not in self._started:
            return []
        return [json.dumps({"type": "audio", "name": track, "pcm": base64.b64encode(pcm).decode()})]

    def closed(self, reason: str, now: float, error: str | None = None) -> Sequence[Message]:
        return [json.dumps({"type": "bye", "data": self._data})]

    def receive(self, message: Message) -> Sequence[Command]:
        return [Play(base64.b64decode(json.loads(message)["pcm"]), self.rate)]


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """The registration."""
    unregister = dialects.register(Plain)
    yield
    unregister()


def samples(messages: Sequence[Mapping[str, Any]]) -> peer.Samples:
    """Return the audio of the track."""
    pcm = [base64.b64decode(each["pcm"]) for each in messages if each["type"] == "audio" and each["name"] == "said"]
    return np.frombuffer(b"".join(pcm), "<i2").astype(np.int16)


def tone() -> str:
    """Return a second of the application's tone, as it sends it."""
    pcm = judge.tone(APPLICATION_HZ, 1.0, RATE).astype("<i2").tobytes()
    return json.dumps({"pcm": base64.b64encode(pcm).decode()})


async def heard(messages: Sequence[Mapping[str, Any]]) -> None:
    """Wait until the phone's tone has arrived for a second."""
    async with asyncio.timeout(10):
        while (len(samples(messages)) - RATE) < RATE or tone_share(samples(messages)[-RATE:], RATE, PHONE_HZ) < 0.8:
            await asyncio.sleep(0.05)


def first(received: Received) -> list[Any]:
    """Return the first message of the stream."""
    return [[message["type"], message.get("tracks"), message.get("greeting")] for message in received.messages[:2]]


async def test_in_a_route_a_subscription_and_a_clients_own_stream(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    async with open_sink() as agent, open_sink() as listener:
        route = {"id": "r", "match": "750", "url": agent.url, "dialect": "plain", "options": {"greeting": "hi"}}
        subscription = {"id": "s", "url": listener.url, "dialect": "plain", "extensions": ["1001"]}
        async with pushing(lab, dialplan=[route], subscriptions=[subscription]) as target:
            await alice.call("750", play=judge.tone(PHONE_HZ, 60, RATE))
            await alice.answered()
            (of_route,), (of_subscription,) = await agent.connected(1), await listener.connected(1)
            await heard(of_route.messages)
            await heard(of_subscription.messages)
            assert first(of_route) == [["hello", ["said"], "hi"], ["track", None, None]]
            assert first(of_subscription) == [["hello", ["said"], ""], ["track", None, None]]
            assert of_route.headers["X-Plain"] == f"{lab.ari_app} to {agent.url}"
            call_id = of_route.messages[0]["call"]
            async with target.stream(call_id, dialect="plain", greeting="ho", direction_listen="in") as client:
                async with asyncio.timeout(10):
                    while len(client.messages) < 100:
                        await asyncio.sleep(0.05)
                own = [json.loads(message.data) for message in client.messages]
                assert (own[0]["greeting"], own[0]["call"], own[0]["tracks"]) == ("ho", call_id, ["said"])
                assert tone_share(samples(own)[RATE:], RATE, PHONE_HZ) > 0.8
                await client.send(tone())
                await sends(alice, 1.5)
            await of_route.socket.send(tone())
            await sends(alice, 1.5)
            (shown,) = [each for each in (await target.get("/v1.0/subscriptions"))[1]["result"] if each["id"] == "s"]
            assert shown["dialect"] == "plain"
            await alice.hangup()
            for received in (of_route, of_subscription):
                await asyncio.wait_for(received.ended.wait(), 15)
                assert received.messages[-1] == {"type": "bye", "data": None}
    blocks = judge.block_levels(alice.recording(), RATE, APPLICATION_HZ) > 3000
    assert 1.7 < blocks.sum() * judge.BLOCK_S < 2.2, "both the route's application and the client spoke"


async def test_in_the_actions_of_a_flow(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    alice.play_next(judge.tone(PHONE_HZ, 60, RATE))
    async with open_sink() as one, open_sink() as other, pushing(lab) as target, client_of(target) as client:
        media = action("external_media_start", url=one.url, dialect="plain", direction_listen="in")
        call_id = await client.call("1001", media, sleep(60_000))
        (of_media,) = await one.connected(1)
        await heard(of_media.messages)
        assert first(of_media)[0] == ["hello", ["said"], ""]
        await client.done("POST", f"/v1.0/calls/{call_id}/hangup")
        stream = {"url": other.url, "dialect": "plain", "tracks": "said", "stream_data": {"a": 1}}
        alice.play_next(judge.tone(PHONE_HZ, 60, RATE))
        actions = [
            {"type": "STREAM", "params": stream},
            {"type": "PAUSE", "params": {"duration": 3000}},
            {"type": "STREAM", "params": {"action": "stop", "url": other.url, "stream_data": {"b": 2}}},
        ]
        await client.call("1001", *actions)
        (of_stream,) = await other.connected(1)
        await heard(of_stream.messages)
        await asyncio.wait_for(of_stream.ended.wait(), 15)
        assert of_stream.messages[-1] == {"type": "bye", "data": {"b": 2}}
