"""Conferences with real phones and WebSocket clients: everybody hears the others and not itself, of both kinds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pytest
from aiohttp import web

from bridge.app import Bridge
from bridge.ari.client import AriClient
from bridge.ari.model import Channel, Event
from bridge.calls.conferences import Conferences, Left, NoSuchConference, NotOurs
from bridge.calls.legs import Direction, Leg, LegGone
from bridge.events.hub import Events
from bridge.streams.clients import Clients, MediaStreamOptions
from bridge.testing import judge, peer
from bridge.testing.phone import Phone
from tests.lab.conftest import Phones
from tests.lab.target import Target

RATE = 8000
LEVEL = 4000
"""Of each tone: five of them at once must fit."""
PHONES = {"1001": 480.0, "1002": 700.0, "1003": 920.0}
"""Who sends which tone, in Hz. None is a multiple of another, or a sum or difference of two."""
CLIENTS = (1150.0, 1390.0)
ROOM = "720"


class HeldLeg:
    """A call that is held in our application, as far as a conference needs a leg."""

    def __init__(self, client: AriClient, channel_id: str) -> None:
        self.id = channel_id
        self.gone = asyncio.Event()
        self.bridge_id: str | None = None
        self._client = client
        client.on_channel_event("StasisEnd", self._on_gone)

    def _on_gone(self, channel: Channel, _: Event) -> None:
        if channel.id == self.id:
            self.gone.set()

    async def answer(self) -> None:
        """It is."""

    async def move_to(self, bridge_id: str) -> None:
        await self._client.bridges.add_channel(bridge_id, self.id)
        self.bridge_id = bridge_id

    async def leave_bridge(self) -> None:
        assert self.bridge_id is not None
        await self._client.bridges.remove_channel(self.bridge_id, self.id)
        self.bridge_id = None

    async def mute(self, direction: Direction = "in") -> None:
        await self._client.channels.mute(self.id, direction)

    async def unmute(self, direction: Direction = "both") -> None:
        await self._client.channels.unmute(self.id, direction)


@dataclass
class Rig:
    """Conferences of the bridge under test, and an HTTP server with the route of their streams."""

    bridge: Bridge
    target: Target
    conferences: Conferences
    events: list[tuple[str, dict[str, Any]]]
    port: int = 0
    joins: dict[str, asyncio.Task[Left]] = field(default_factory=dict)

    @contextlib.asynccontextmanager
    async def stream(self, conference_id: str, **options: str | int) -> AsyncIterator[peer.Peer]:
        query = "&".join(f"{key}={value}" for key, value in (options or {"encapsulation": "sln"}).items())
        url = f"ws://127.0.0.1:{self.port}/v1.0/conferences/{conference_id}/media_stream?{query}"
        async with peer.open_peer(url) as opened:
            yield opened

    async def join(self, phone: Phone, conference_id: str, **options: bool) -> str:
        """Has a phone that has called 750 take part; returns its channel's id."""
        call = await self.target.call_from(phone.name)
        channel_id: str = call["parties"][0]["id"]
        leg = HeldLeg(self.bridge.client, channel_id)
        await self.bridge.stasis.settled(channel_id)
        task = asyncio.create_task(self.conferences.join(cast(Leg, leg), conference_id, **options))
        self.joins[channel_id] = task
        await self.until(lambda: channel_id in self.members(conference_id))
        return channel_id

    def members(self, conference_id: str) -> list[str]:
        conference = self.conferences.get(conference_id)
        return [each.channel_id for each in conference.participants] if conference else []

    def numbers(self, conference_id: str) -> set[str]:
        conference = self.conferences.get(conference_id)
        return {each.number for each in conference.participants} if conference else set()

    async def until(self, true: Callable[[], bool], timeout_s: float = 8.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not true():
                await asyncio.sleep(0.02)

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [data for name, data in self.events if name == kind]


@pytest.fixture
async def rig(target: Target, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    bridge = target.bridge
    if bridge is None:
        pytest.skip("looks into the bridge's process")
    hub = Events()
    conferences = Conferences(bridge.client, bridge.tracker, bridge.ids, hub, context="media-tap")
    rest = bridge._object_ids
    monkeypatch.setattr(bridge, "_object_ids", lambda: {*rest(), *conferences.object_ids})
    rig = Rig(bridge, target, conferences, [])
    hub.subscribe(lambda event: rig.events.append((event.type, dict(event.data))))
    clients = Clients(
        bridge.streams, bridge.stasis, bridge.counters, bridge.config, bridge._room, conferences=conferences
    )

    async def media_stream(request: web.Request) -> web.StreamResponse:
        options = MediaStreamOptions.for_conference(dict(request.query))
        return await clients.accept_conference(request, request.match_info["id"], options)

    app = web.Application()
    app.router.add_get("/v1.0/conferences/{id}/media_stream", media_stream)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    rig.port = runner.addresses[0][1]
    yield rig
    await conferences.stop()
    await runner.cleanup()
    for task in rig.joins.values():
        task.cancel()
    await asyncio.gather(*rig.joins.values(), return_exceptions=True)


async def speak(client: peer.Peer, hz: float, seconds: float) -> None:
    pcm = judge.tone(hz, seconds, RATE, LEVEL).astype("<i2").tobytes()
    await client.play(peer.frames(pcm))


def samples(client: peer.Peer) -> judge.Samples:
    return peer.samples_of(b"".join(client.binary))


def assert_hears(who: str, heard: judge.Samples, tones: Sequence[float], silent: Sequence[float]) -> None:
    """All of some tones and none of others, in two seconds of a recording in which all sound."""
    levels = {hz: judge.level_of(heard, hz, RATE) for hz in (*tones, *silent)}
    assert all(levels[hz] > LEVEL / 2 for hz in tones), (who, levels)
    assert all(levels[hz] < LEVEL / 40 for hz in silent), (who, levels)


def steady(heard: judge.Samples, tones: Sequence[float]) -> judge.Samples:
    """The middle of the passage in which all tones sound, two seconds of it."""
    block_s = 0.1
    levels = np.array([judge.block_levels(heard, RATE, hz, block_s) for hz in tones])
    loud = np.flatnonzero((levels > LEVEL / 3).all(axis=0))
    assert len(loud) >= 25, f"all of {tones} sound for {len(loud) * block_s:.1f} s only"
    middle = int(loud[len(loud) // 2] * block_s * RATE)
    return heard[middle - RATE : middle + RATE]


async def everybody_hears_everybody_else(
    rig: Rig, phones: Phones, conference_id: str, number: str, bring_in: Callable[[Phone], Awaitable[object]]
) -> None:
    """Three phones and two clients, a tone each."""
    started = dict(zip(PHONES, await phones(*PHONES), strict=True))
    for name, phone in started.items():
        await phone.call(number, play=judge.tone(PHONES[name], 60, RATE, LEVEL))
    for phone in started.values():
        await phone.answered()
    for phone in started.values():
        await bring_in(phone)
    await rig.until(lambda: rig.numbers(conference_id) == set(PHONES))
    async with rig.stream(conference_id) as first, rig.stream(conference_id) as second:
        await asyncio.gather(first.heard(1), second.heard(1))
        await asyncio.gather(speak(first, CLIENTS[0], 6), speak(second, CLIENTS[1], 6))
        heard = [samples(first), samples(second)]
    everything = [*PHONES.values(), *CLIENTS]
    for index, hz in enumerate(CLIENTS):
        others = [other for other in everything if other != hz]
        assert_hears(f"client {index}", steady(heard[index], others), others, [hz])
    assert rig.numbers(conference_id) == set(PHONES), "a client is no participant"
    for phone in started.values():
        await phone.hangup()
    for name, phone in started.items():
        others = [other for other in everything if other != PHONES[name]]
        assert_hears(name, steady(phone.recording(), others), others, [PHONES[name]])


@pytest.mark.core
async def test_three_phones_and_two_clients_in_a_room_of_the_dialplan(rig: Rig, phones: Phones) -> None:
    async def is_there_already(_: Phone) -> None:
        pass

    await everybody_hears_everybody_else(rig, phones, ROOM, ROOM, is_there_already)
    await rig.until(lambda: rig.conferences.get(ROOM) is None)
    assert [data["conference_id"] for data in rig.told("conference_created")] == [ROOM]
    assert {data["number"] for data in rig.told("conference_joined")} == set(PHONES)
    assert {data["number"] for data in rig.told("conference_left")} == set(PHONES)
    assert [data["kind"] for data in rig.told("conference_deleted")] == ["confbridge"]
    await rig.target.nothing_left()


@pytest.mark.core
async def test_three_phones_and_two_clients_in_a_conference_of_the_bridge(rig: Rig, phones: Phones) -> None:
    made = await rig.conferences.create("Daily", "daily")
    assert (made.kind, made.participants) == ("bridge", ())
    await everybody_hears_everybody_else(rig, phones, "daily", "750", lambda phone: rig.join(phone, "daily"))
    for task in rig.joins.values():
        with pytest.raises(LegGone):
            await task
    await rig.until(lambda: rig.members("daily") == [])
    assert rig.conferences.get("daily") is not None, "it stays when it is empty"
    await rig.conferences.delete("daily")
    assert rig.conferences.get("daily") is None
    assert [name for name, _ in rig.events if name in ("conference_created", "conference_deleted")] == [
        "conference_created",
        "conference_deleted",
    ]
    assert {data["number"] for data in rig.told("conference_left")} == set(PHONES)
    await rig.target.nothing_left()


async def test_a_client_alone_hears_silence_without_end_and_the_end(rig: Rig) -> None:
    await rig.conferences.create(id="empty")
    async with rig.stream("empty") as client:
        await client.heard(1)
        await asyncio.sleep(3)
        assert 135 <= len(client.binary) <= 165
        assert not samples(client).any()
        await rig.conferences.delete("empty")
        assert (await client.closed(), client.close_reason) == (1000, "conference ended")
    with pytest.raises(NoSuchConference):
        rig.conferences.place_of("empty")
    await rig.target.nothing_left()


async def test_a_room_is_not_kept_alive_by_its_clients(rig: Rig, phones: Phones) -> None:
    (alice,) = await phones("1001")
    await alice.call(ROOM, play=judge.tone(480, 30, RATE, LEVEL))
    await alice.answered()
    await rig.until(lambda: rig.numbers(ROOM) == {"1001"})
    async with rig.stream(ROOM) as first, rig.stream(ROOM, encapsulation="rtp") as second:
        await first.heard(50)
        await second.heard(50)
        await alice.hangup()
        for client in (first, second):
            assert (await client.closed(), client.close_reason) == (1000, "conference ended")
    assert rig.conferences.get(ROOM) is None
    await rig.target.nothing_left()


async def test_kicked_and_muted_in_a_conference_of_the_bridge(rig: Rig, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    await rig.conferences.create(id="club")
    channels = []
    for phone in (alice, bob):
        await phone.call("750", play=judge.tone(PHONES[phone.name], 60, RATE, LEVEL))
        await phone.answered()
        channels.append(await rig.join(phone, "club"))

    async def hears() -> set[float]:
        """Whom a client hears now, by tone."""
        before = len(client.binary)
        await client.heard(before + 50)
        now = peer.samples_of(b"".join(client.binary[before:]))
        return {hz for hz in PHONES.values() if judge.level_of(now, hz, RATE) > LEVEL / 20}

    async with rig.stream("club") as client:
        await client.heard(50)
        assert await hears() == {480, 700}
        await rig.conferences.mute("club", channels[0])
        await asyncio.sleep(0.5)
        assert await hears() == {700}
        conference = rig.conferences.get("club")
        assert conference is not None
        assert [each.muted for each in conference.participants] == [True, False]
        await rig.conferences.unmute("club", channels[0])
        await asyncio.sleep(0.5)
        assert await hears() == {480, 700}
        await rig.conferences.mute("club", channels[0])
        await rig.conferences.kick("club", channels[0])
        assert await rig.joins[channels[0]] == "kicked"
        assert rig.members("club") == [channels[1]]
        await asyncio.sleep(0.5)
        assert await hears() == {700}
        await rig.join(alice, "club")  # who was kicked is still there, and muted no longer
        await asyncio.sleep(0.5)
        assert await hears() == {480, 700}
        with pytest.raises(NoSuchConference):
            await rig.conferences.kick("club", "nobody")
        await rig.conferences.delete("club")
        assert await client.closed() == 1000
    assert [await task for task in rig.joins.values()] == ["deleted", "deleted"]
    assert {each["id"] for each in await rig.target.ari("GET", "/channels")} == set(channels), "nobody is hung up"
    for phone in (alice, bob):
        await phone.hangup()
    await rig.target.nothing_left()


async def test_kicked_from_a_room_of_the_dialplan_and_not_muted_there(rig: Rig, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    for phone in (alice, bob):
        await phone.call(ROOM, play=judge.tone(PHONES[phone.name], 30, RATE, LEVEL))
        await phone.answered()
    await rig.until(lambda: len(rig.members(ROOM)) == 2)
    first, second = rig.members(ROOM)
    with pytest.raises(NotOurs, match="ConfBridge"):
        await rig.conferences.mute(ROOM, first)
    with pytest.raises(AssertionError, match="409"):  # which is why
        await rig.target.ari("POST", f"/channels/{first}/mute", direction="in")
    await rig.conferences.kick(ROOM, first)
    assert rig.members(ROOM) == [second]
    await rig.conferences.delete(ROOM)
    assert rig.conferences.get(ROOM) is None
    for phone in (alice, bob):
        await phone.ended()
    await rig.target.nothing_left()


async def test_a_conference_made_by_joining_ends_with_its_last_participant(rig: Rig, phones: Phones) -> None:
    (alice,) = await phones("1001")
    await alice.call("750", play=judge.tone(480, 30, RATE, LEVEL))
    await alice.answered()
    await rig.join(alice, "adhoc", create=True)
    async with rig.stream("adhoc") as client:
        await client.heard(50)
        await alice.hangup()
        assert await client.closed() == 1000
    await rig.until(lambda: rig.conferences.get("adhoc") is None)
    await rig.target.nothing_left()
