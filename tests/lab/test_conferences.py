"""Conferences with real phones and WebSocket clients: everybody hears the others and not itself, of both kinds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from aiohttp import web

from bridge.audio.playout import Playout
from bridge.calls.addresses import Address
from bridge.calls.conferences import Conferences, Left, NoSuchConference, NotOurs, Participant
from bridge.calls.legs import LegGone
from bridge.config import Config
from bridge.errors import AriError
from bridge.media.counters import Counters
from bridge.streams.clients import Clients, MediaStreamOptions
from bridge.streams.registry import Streams
from bridge.streams.room import Room
from bridge.testing import judge, peer
from bridge.testing.engine import Lab
from bridge.testing.phone import Phone
from tests.lab.calling import Calling
from tests.lab.conftest import Phones

RATE = 8000
LEVEL = 4000
"""Of each tone: five of them at once must fit."""
PHONES = {"1001": 480.0, "1002": 700.0, "1003": 920.0}
"""Who sends which tone, in Hz. None is a multiple of another, or a sum or difference of two."""
CLIENTS = (1150.0, 1390.0)
ROOM = "720"
PIECE = RATE // 5
"""Samples that are judged at once."""


@dataclass
class Rig:
    """Calls, conferences and streams on a lab, and an HTTP server with the route of the streams."""

    calling: Calling
    streams: Streams
    conferences: Conferences
    port: int = 0
    joins: dict[str, asyncio.Task[Left]] = field(default_factory=dict)
    brings: list[asyncio.Task[None]] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def stream(self, conference_id: str, **options: str | int) -> AsyncIterator[peer.Peer]:
        """A client of a conference."""
        query = urlencode(options or {"encapsulation": "sln"})
        url = f"ws://127.0.0.1:{self.port}/v1.0/conferences/{conference_id}/media_stream?{query}"
        async with peer.open_peer(url) as opened:
            yield opened

    @contextlib.asynccontextmanager
    async def stream_on_party(self, channel_id: str) -> AsyncIterator[peer.Peer]:
        """A client of one party, as ``/v1.0/calls/{id}/media_stream`` has them."""
        async with peer.open_peer(f"ws://127.0.0.1:{self.port}/v1.0/calls/{channel_id}/media_stream") as opened:
            yield opened

    async def join(self, phone: Phone, conference_id: str, **options: bool) -> str:
        """Has a phone that has called 750 take part; returns its channel's id."""
        legs = self.calling.legs
        await self.until(lambda: self.held(phone) is not None)
        channel_id = self.held(phone) or ""
        leg = legs.take(channel_id)
        assert leg is not None
        self.joins[channel_id] = asyncio.create_task(self.conferences.join(leg, conference_id, **options))
        await self.until(lambda: channel_id in self.members(conference_id))
        return channel_id

    def held(self, phone: Phone) -> str | None:
        """The channel of a phone that is in our application."""
        stasis = self.calling.stasis
        for call in self.calling.tracker.calls.values():
            for party in call.parties.values():
                if party.endpoint == phone.name and (stasis.bridge_of(party.id) or self.calling.legs.get(party.id)):
                    return party.id
        return None

    def participants(self, conference_id: str) -> tuple[Participant, ...]:
        conference = self.conferences.get(conference_id)
        return conference.participants if conference else ()

    def members(self, conference_id: str) -> list[str]:
        return [each.channel_id for each in self.participants(conference_id)]

    def numbers(self, conference_id: str) -> set[str]:
        return {each.number for each in self.participants(conference_id)}

    async def until(self, true: Callable[[], bool], timeout_s: float = 8.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not true():
                await asyncio.sleep(0.02)

    def told(self, kind: str) -> list[Mapping[str, Any]]:
        """The data of what was published."""
        return [event.data for event in self.calling.seen if event.type == kind]

    async def nothing_left(self) -> None:
        await self.calling.nothing_left()
        await self.until(lambda: not len(self.streams))


@pytest.fixture
async def rig(lab: Lab) -> AsyncIterator[Rig]:
    counters, config, room = Counters(), Config(), Room(10)
    calling = Calling(lab)
    streams = Streams(
        client=calling.client,
        tracker=calling.tracker,
        stasis=calling.stasis,
        taps=calling.taps,
        counters=counters,
        room=room,
        new_playout=lambda fmt: Playout(fmt, 10_000, 60),
    )
    calling.legs.on_moved = streams.party_moved
    conferences = Conferences(calling.client, calling.tracker, calling.ids, calling.events, context="media-tap")
    clients = Clients(streams, calling.stasis, counters, config, room, conferences=conferences)
    rest = calling.object_ids
    calling.object_ids = lambda: {*rest(), *conferences.object_ids}  # type: ignore[method-assign]
    rig = Rig(calling, streams, conferences)

    async def media_stream(request: web.Request) -> web.StreamResponse:
        options = MediaStreamOptions.for_conference(dict(request.query))
        return await clients.accept_conference(request, request.match_info["id"], options)

    async def call_stream(request: web.Request) -> web.StreamResponse:
        found = calling.tracker.find(request.match_info["id"])
        assert found is not None
        return await clients.accept(request, *found, MediaStreamOptions("sln"))

    app = web.Application()
    app.router.add_get("/v1.0/calls/{id}/media_stream", call_stream)
    app.router.add_get("/v1.0/conferences/{id}/media_stream", media_stream)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    rig.port = runner.addresses[0][1]
    calling.legs.on_conference = lambda leg, name: rig.brings.append(asyncio.create_task(conferences.bring(leg, name)))
    await calling.start()
    yield rig
    await streams.stop()
    await conferences.stop()
    await rig.nothing_left()
    await asyncio.gather(*rig.joins.values(), *rig.brings, return_exceptions=True)
    await calling.stop()
    await runner.cleanup()


async def speak(client: peer.Peer, hz: float, seconds: float) -> None:
    pcm = judge.tone(hz, seconds, RATE, LEVEL).astype("<i2").tobytes()
    await client.play(peer.frames(pcm))


def samples(client: peer.Peer) -> judge.Samples:
    return peer.samples_of(b"".join(client.binary))


def assert_hears(who: str, heard: judge.Samples, tones: Sequence[float], silent: Sequence[float]) -> None:
    """All of some tones and none of others, most of the time (a late packet turns a tone's phase)."""
    pieces = heard[: len(heard) // PIECE * PIECE].reshape(-1, PIECE)
    levels = {hz: float(np.median([judge.level_of(piece, hz, RATE) for piece in pieces])) for hz in (*tones, *silent)}
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
    await rig.nothing_left()


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
    assert [data["name"] for data in (*rig.told("conference_created"), *rig.told("conference_deleted"))] == [
        "Daily"
    ] * 2
    assert {data["number"] for data in rig.told("conference_left")} == set(PHONES)
    await rig.nothing_left()


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
    await rig.nothing_left()


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
    await rig.nothing_left()


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
    assert {channel.id for channel in await rig.calling.client.channels.list()} == set(channels), "nobody is hung up"
    for phone in (alice, bob):
        await phone.hangup()
    await rig.nothing_left()


async def test_kicked_from_a_room_of_the_dialplan_and_not_muted_there(rig: Rig, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    for phone in (alice, bob):
        await phone.call(ROOM, play=judge.tone(PHONES[phone.name], 30, RATE, LEVEL))
        await phone.answered()
    await rig.until(lambda: len(rig.members(ROOM)) == 2)
    first, second = rig.members(ROOM)
    with pytest.raises(NotOurs, match="ConfBridge"):
        await rig.conferences.mute(ROOM, first)
    with pytest.raises(AriError, match="409"):  # which is why
        await rig.calling.client.channels.mute(first, "in")
    await rig.conferences.kick(ROOM, first)
    assert rig.members(ROOM) == [second]
    await rig.conferences.delete(ROOM)
    assert rig.conferences.get(ROOM) is None
    for phone in (alice, bob):
        await phone.ended()
    await rig.nothing_left()


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
    await rig.nothing_left()


async def test_a_leg_goes_into_a_room_of_the_dialplan_and_is_kicked(rig: Rig, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    await alice.call(ROOM, play=judge.tone(480, 30, RATE, LEVEL))
    await alice.answered()
    await rig.until(lambda: rig.numbers(ROOM) == {"1001"})
    await bob.call("750", play=judge.tone(700, 30, RATE, LEVEL))
    await bob.answered()
    channel_id = await rig.join(bob, ROOM)
    await asyncio.sleep(3)
    assert not rig.joins[channel_id].done()
    await rig.conferences.kick(ROOM, channel_id)
    with pytest.raises(LegGone):
        await rig.joins[channel_id]
    await bob.ended()
    await alice.hangup()
    assert_hears("bob", steady(bob.recording(), [480]), [480], [700])
    assert judge.block_levels(alice.recording(), RATE, 700, 0.1).max() > LEVEL / 2
    await rig.nothing_left()


async def test_a_call_that_is_placed_to_a_conference(rig: Rig, phones: Phones) -> None:
    (alice,) = await phones("1001")
    leg = await (await rig.calling.placer.place(Address("conference", "team"))).answered()
    await rig.until(lambda: len(rig.members("team")) == 1)
    phone = await rig.calling.call("1001")
    await rig.calling.legs.bridge_together(leg, phone)
    async with rig.stream("team") as client:
        await speak(client, 1150, 3)
        await rig.conferences.delete("team")
        assert await client.closed() == 1000
    await asyncio.wait_for(leg.gone.wait(), 5)  # the half that was in the conference has been hung up
    await phone.hang_up()
    await alice.ended()
    assert judge.block_levels(alice.recording(), RATE, 1150, 0.1).max() > LEVEL / 2
    await rig.nothing_left()


async def test_a_stream_on_a_party_follows_it_into_a_conference_and_out(rig: Rig, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    await rig.conferences.create(id="club")
    channels = []
    for phone in (alice, bob):
        await phone.call("750", play=judge.tone(PHONES[phone.name], 60, RATE, LEVEL))
        await phone.answered()
        await rig.until(lambda phone=phone: rig.held(phone) is not None)  # type: ignore[misc]
        channels.append(rig.held(phone) or "")
    async with rig.stream_on_party(channels[0]) as client:

        async def hears() -> set[float]:
            await asyncio.sleep(1.5)
            now = peer.samples_of(b"".join(client.binary[-25:]))
            return {hz for hz in PHONES.values() if judge.level_of(now, hz, RATE) > LEVEL / 20}

        assert await hears() == {480}
        for phone in (alice, bob):
            await rig.join(phone, "club")
        assert await hears() == {480, 700}
        await rig.conferences.kick("club", channels[0])
        leg = rig.calling.legs.get(channels[0])
        assert leg is not None
        await leg.hold_in_bridge()
        assert await hears() == {480}
    for phone in (alice, bob):
        await phone.hangup()
    await rig.conferences.delete("club")
    await rig.nothing_left()
