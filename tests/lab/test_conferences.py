"""Conferences with real phones and WebSocket clients: everybody hears the others and not itself, of both kinds."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import numpy as np
import pytest
from websockets.exceptions import InvalidStatus

from bridge.testing import judge, peer
from bridge.testing.lab_engine import Lab
from bridge.testing.phone import Phone
from tests.lab.calling import CALLING
from tests.lab.conftest import Phones, pushing, synchronized
from tests.lab.target import Target
from tests.lab.waiting import PATIENCE_S, sends, stays, until

RATE = 8000
LEVEL = 4000
"""Of each tone: the sum of five must fit."""
PHONES = {"1001": 480.0, "1002": 700.0, "1003": 920.0}
"""Who sends which tone, in Hz. None is a multiple of another, or a sum or difference of two."""
CLIENTS = (1150.0, 1390.0)
ROOM = "720"
PIECE = RATE // 5
"""Samples that are judged together."""


class Conferring:
    """What these tests ask of a bridge, all of it over HTTP."""

    def __init__(self, target: Target, events: peer.Peer | None = None) -> None:
        self.target = target
        self._events = events

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.target.token}"} if self.target.token else {}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.request(method, f"{self.target.url}/v1.0{path}", json=body) as answer,
        ):
            return answer.status, await answer.json() if answer.content_type == "application/json" else None

    async def done(self, method: str, path: str, body: object = None) -> Any:
        """Send a request that must succeed; return the response."""
        status, answer = await self.ask(method, path, body)
        assert status in (200, 204), (method, path, status, answer)
        return answer

    @contextlib.asynccontextmanager
    async def stream(self, path: str, **options: str | int) -> AsyncIterator[peer.Peer]:
        """Open a stream of a conference or a call, by its path."""
        query = urlencode((options or {"encapsulation": "sln"}) | self._token)
        url = f"ws{self.target.url.removeprefix('http')}/v1.0{quote(path)}/media_stream?{query}"
        async with peer.open_peer(url) as opened:
            yield opened

    async def call(self, name: str, actions: list[dict[str, Any]]) -> str:
        """Has the bridge call a phone, which answers by itself, and run a flow; returns the call's id."""
        body = {"destinations": [{"type": "extension", "target": name}], "actions": actions}
        call_id: str = (await self.done("POST", "/calls", body))["calls"][0]["id"]
        return call_id

    async def participants(self, conference_id: str) -> list[dict[str, Any]]:
        status, body = await self.ask("GET", f"/conferences/{conference_id}/participants")
        assert status in (200, 404)
        return body["result"] if status == 200 else []

    async def until_in(self, conference_id: str, count: int, timeout_s: float = PATIENCE_S) -> list[str]:
        """Wait until there are ``count`` participants, and return their channels."""
        async with asyncio.timeout(timeout_s):
            while len(there := await self.participants(conference_id)) != count:
                await asyncio.sleep(0.05)
        return [each["channel_id"] for each in there]

    async def until_over(self, conference_id: str, timeout_s: float = PATIENCE_S) -> None:
        async with asyncio.timeout(timeout_s):
            while (await self.ask("GET", f"/conferences/{conference_id}"))[0] != 404:
                await asyncio.sleep(0.05)

    async def told(self, kind: str, count: int) -> list[dict[str, Any]]:
        """Wait for ``count`` events of a kind, and return their data."""
        events = self._events
        assert events is not None

        def published() -> list[dict[str, Any]]:
            found = [json.loads(message.data) for message in events.messages]
            return [event["data"] for event in found if event["type"] == f"conference_{kind}"]

        await until(lambda: len(published()) >= count)
        return published()

    @property
    def _token(self) -> dict[str, str]:
        return {"token": self.target.token} if self.target.token else {}


@pytest.fixture
async def conferring(target: Target) -> AsyncIterator[Conferring]:
    query = urlencode({"types": "conference_*"} | ({"token": target.token} if target.token else {}))
    async with peer.open_peer(f"ws{target.url.removeprefix('http')}/v1.0/events?{query}") as events:
        yield Conferring(target, events)


def joins(conference_id: str) -> dict[str, Any]:
    """Return the action that brings a caller into a conference."""
    return {"type": "conference_join", "option": {"conference_id": conference_id}}


def pauses(ms: int) -> dict[str, Any]:
    return {"type": "sleep", "option": {"duration": ms}}


async def speak(client: peer.Peer, hz: float, seconds: float) -> None:
    pcm = judge.tone(hz, seconds, RATE, LEVEL).astype("<i2").tobytes()
    await client.play(peer.frames(pcm))


def samples(client: peer.Peer) -> judge.Samples:
    return peer.samples_of(b"".join(client.binary))


def assert_hears(who: str, heard: judge.Samples, tones: Sequence[float], silent: Sequence[float]) -> None:
    """Require all of some tones and none of others, most of the time (a late packet turns a tone's phase)."""
    pieces = heard[: len(heard) // PIECE * PIECE].reshape(-1, PIECE)
    levels = {hz: float(np.median([judge.level_of(piece, hz, RATE) for piece in pieces])) for hz in (*tones, *silent)}
    assert all(levels[hz] > LEVEL / 2 for hz in tones), (who, levels)
    assert all(levels[hz] < LEVEL / 40 for hz in silent), (who, levels)


def steady(heard: judge.Samples, tones: Sequence[float]) -> judge.Samples:
    """Return the middle two seconds of the passage in which all tones sound."""
    block_s = 0.1
    levels = np.array([judge.block_levels(heard, RATE, hz, block_s) for hz in tones])
    loud = np.flatnonzero((levels > LEVEL / 3).all(axis=0))
    assert len(loud) >= 25, f"all of {tones} sound for {len(loud) * block_s:.1f} s only"
    middle = int(loud[len(loud) // 2] * block_s * RATE)
    return heard[middle - RATE : middle + RATE]


async def everybody_hears_everybody_else(conferring: Conferring, started: dict[str, Phone], conference_id: str) -> None:
    """Three phones in the conference, and two clients, a tone each."""
    await conferring.until_in(conference_id, len(started))
    conference = f"/conferences/{conference_id}"
    async with conferring.stream(conference) as first, conferring.stream(conference) as second:
        await asyncio.gather(first.heard(1), second.heard(1))
        await asyncio.gather(speak(first, CLIENTS[0], 6), speak(second, CLIENTS[1], 6))
        heard = [samples(first), samples(second)]
        assert len(await conferring.participants(conference_id)) == len(started), "a client is no participant"
    everything = [*PHONES.values(), *CLIENTS]
    for index, hz in enumerate(CLIENTS):
        others = [other for other in everything if other != hz]
        assert_hears(f"client {index}", steady(heard[index], others), others, [hz])
    for phone in started.values():
        await phone.hangup()
    for name, phone in started.items():
        others = [other for other in everything if other != PHONES[name]]
        assert_hears(name, steady(phone.recording(), others), others, [PHONES[name]])


@pytest.mark.core
async def test_three_phones_and_two_clients_in_a_room_of_the_dialplan(conferring: Conferring, phones: Phones) -> None:
    started = dict(zip(PHONES, await phones(*PHONES), strict=True))
    for name, phone in started.items():
        await phone.call(ROOM, play=judge.tone(PHONES[name], 60, RATE, LEVEL))
    await everybody_hears_everybody_else(conferring, started, ROOM)
    await conferring.until_over(ROOM)
    assert [data["conference_id"] for data in await conferring.told("created", 1)] == [ROOM]
    assert {data["number"] for data in await conferring.told("joined", len(PHONES))} == set(PHONES)
    assert {data["number"] for data in await conferring.told("left", len(PHONES))} == set(PHONES)
    assert [data["kind"] for data in await conferring.told("deleted", 1)] == ["confbridge"]


@pytest.mark.core
async def test_three_phones_and_two_clients_in_a_conference_of_the_bridge(
    conferring: Conferring, phones: Phones
) -> None:
    made = await conferring.done("POST", "/conferences", {"id": "daily", "name": "Daily"})
    assert (made["kind"], made["participants"]) == ("bridge", [])
    assert (await conferring.ask("POST", "/conferences", {"id": "daily"}))[0] == 409
    started = dict(zip(PHONES, await phones(*PHONES), strict=True))
    for name, phone in started.items():
        phone.play_next(judge.tone(PHONES[name], 60, RATE, LEVEL))
        await conferring.call(name, [joins("daily")])
    await everybody_hears_everybody_else(conferring, started, "daily")
    await conferring.until_in("daily", 0)
    assert (await conferring.ask("GET", "/conferences/daily"))[0] == 200, "it stays when it is empty"
    await conferring.done("DELETE", "/conferences/daily")
    assert (await conferring.ask("GET", "/conferences/daily"))[0] == 404
    for kind in ("created", "deleted"):
        assert [data["name"] for data in await conferring.told(kind, 1)] == ["Daily"]
    for kind in ("joined", "left"):
        assert len(await conferring.told(kind, len(PHONES))) == len(PHONES)


async def test_a_client_alone_hears_silence_without_end_and_the_end(conferring: Conferring) -> None:
    await conferring.done("POST", "/conferences", {"id": "empty"})
    async with conferring.stream("/conferences/empty") as client:
        received = await client.heard(150)
        assert 2.7 < received[149].at - received[0].at < 3.3
        assert not samples(client).any()
        await conferring.done("DELETE", "/conferences/empty")
        assert (await client.closed(), client.close_reason) == (1000, "conference ended")
    assert (await conferring.ask("GET", "/conferences/empty/media_stream?encapsulation=sln"))[0] == 404


async def test_a_room_is_not_kept_alive_by_its_clients(conferring: Conferring, phones: Phones) -> None:
    (alice,) = await phones("1001")
    await alice.call(ROOM, play=judge.tone(480, 30, RATE, LEVEL))
    await conferring.until_in(ROOM, 1)
    room = f"/conferences/{ROOM}"
    async with conferring.stream(room) as first, conferring.stream(room, encapsulation="audiosocket") as second:
        await first.heard(50)
        await second.heard(50)
        await alice.hangup()
        for client in (first, second):
            assert (await client.closed(), client.close_reason) == (1000, "conference ended")
    await conferring.until_over(ROOM)


async def test_kicked_and_muted_in_a_conference_of_the_bridge(conferring: Conferring, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    await conferring.done("POST", "/conferences", {"id": "club"})
    channels = []
    for phone in (alice, bob):
        phone.play_next(judge.tone(PHONES[phone.name], 60, RATE, LEVEL))
        # A kicked participant comes back once.
        channels.append(await conferring.call(phone.name, [joins("club"), pauses(2000), joins("club"), pauses(500)]))
        await conferring.until_in("club", len(channels))
    mute, kick = f"/conferences/club/participants/{channels[0]}/mute", f"/conferences/club/participants/{channels[0]}"

    async def hears() -> set[float]:
        """Return the tones in half a second of what a client receives, half a second from now."""
        before = len(client.binary) + 25
        await client.heard(before + 25)
        now = peer.samples_of(b"".join(client.binary[before:]))
        return {hz for hz in PHONES.values() if judge.level_of(now, hz, RATE) > LEVEL / 20}

    async with conferring.stream("/conferences/club") as client:
        await client.heard(25)
        assert await hears() == {480, 700}
        assert (await conferring.done("POST", mute))["muted"]
        assert await hears() == {700}
        assert [each["muted"] for each in await conferring.participants("club")] == [True, False]
        await conferring.done("DELETE", mute)
        assert await hears() == {480, 700}
        await conferring.done("POST", mute)
        await conferring.done("DELETE", kick)
        assert await conferring.until_in("club", 1) == [channels[1]]
        assert (await conferring.ask("DELETE", kick))[0] == 404
        assert await hears() == {700}
        await conferring.until_in("club", 2)  # its flow continued, and it is muted no longer
        assert await hears() == {480, 700}
        await conferring.done("DELETE", "/conferences/club")
        assert await client.closed() == 1000
    for phone in (alice, bob):
        await phone.ended()
    assert len(await conferring.told("joined", 3)) == len(await conferring.told("left", 3)) == 3


async def test_kicked_from_a_room_of_the_dialplan_and_not_muted_there(conferring: Conferring, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    for phone in (alice, bob):
        await phone.call(ROOM, play=judge.tone(PHONES[phone.name], 30, RATE, LEVEL))
    first, second = await conferring.until_in(ROOM, 2)
    status, body = await conferring.ask("POST", f"/conferences/{ROOM}/participants/{first}/mute")
    assert (status, "ConfBridge" in body["error"]["message"]) == (409, True)
    with pytest.raises(AssertionError, match="409"):  # which is why
        await conferring.target.ari("POST", f"/channels/{first}/mute", direction="in")
    await conferring.done("DELETE", f"/conferences/{ROOM}/participants/{first}")
    assert await conferring.until_in(ROOM, 1) == [second]
    await conferring.done("DELETE", f"/conferences/{ROOM}")
    await conferring.until_over(ROOM)
    for phone in (alice, bob):
        await phone.ended()


async def test_a_flow_goes_into_a_room_of_the_dialplan_and_is_kicked(conferring: Conferring, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    await alice.call(ROOM, play=judge.tone(480, 30, RATE, LEVEL))
    await conferring.until_in(ROOM, 1)
    bob.play_next(judge.tone(700, 30, RATE, LEVEL))
    channel_id = await conferring.call("1002", [joins(ROOM), pauses(60_000)])
    assert channel_id in await conferring.until_in(ROOM, 2)
    await sends(alice, 3.5)
    await conferring.done("DELETE", f"/conferences/{ROOM}/participants/{channel_id}")
    await bob.ended()
    await alice.hangup()
    assert_hears("bob", steady(bob.recording(), [480]), [480], [700])
    assert judge.block_levels(alice.recording(), RATE, 700, 0.1).max() > LEVEL / 2


@pytest.mark.quick
async def test_a_call_that_is_connected_with_a_conference(conferring: Conferring, phones: Phones) -> None:
    (alice,) = await phones("1001")
    alice.play_next(judge.tone(480, 30, RATE, LEVEL))
    connects = {"type": "connect", "option": {"destinations": [{"type": "conference", "target": "team"}]}}
    await conferring.call("1001", [connects])
    await conferring.until_in("team", 1)
    async with conferring.stream("/conferences/team") as client:
        await client.heard(25)
        await speak(client, 1150, 3)
        assert judge.level_of(samples(client)[-RATE:], 480, RATE) > LEVEL / 2
        await conferring.done("DELETE", "/conferences/team")
        assert await client.closed() == 1000
    await alice.ended()
    assert judge.block_levels(alice.recording(), RATE, 1150, 0.1).max() > LEVEL / 2


async def test_a_conference_made_by_joining_ends_with_its_last_participant(
    conferring: Conferring, phones: Phones
) -> None:
    (alice,) = await phones("1001")
    alice.play_next(judge.tone(480, 30, RATE, LEVEL))
    await conferring.call("1001", [{"type": "CONFERENCE", "params": {"name": "ad hoc"}}])
    await conferring.until_in("ad hoc", 1)
    async with conferring.stream("/conferences/ad hoc") as client:
        await client.heard(50)
        await alice.hangup()
        assert await client.closed() == 1000
    await conferring.until_over("ad hoc")


async def test_a_stream_on_a_party_follows_it_into_a_conference_and_out(conferring: Conferring, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    for phone in (alice, bob):
        phone.play_next(judge.tone(PHONES[phone.name], 60, RATE, LEVEL))
    await conferring.done("POST", "/conferences", {"id": "club"})
    await conferring.call("1002", [joins("club")])
    await conferring.until_in("club", 1)
    call_id = await conferring.call("1001", [pauses(4000), joins("club"), pauses(6000)])
    await conferring.target.call_from("1001")
    async with conferring.stream(f"/calls/{call_id}", encapsulation="sln") as client:

        async def hears() -> set[float]:
            await client.heard(len(client.binary) + 75)
            now = peer.samples_of(b"".join(client.binary[-25:]))
            return {hz for hz in PHONES.values() if judge.level_of(now, hz, RATE) > LEVEL / 20}

        assert await hears() == {480}
        await conferring.until_in("club", 2)
        assert await hears() == {480, 700}
        await conferring.done("DELETE", f"/conferences/club/participants/{call_id}")
        assert await hears() == {480}
    for phone in (alice, bob):
        await phone.hangup()
    await conferring.done("DELETE", "/conferences/club")


@pytest.mark.parametrize("context", ["", "from-trunk"])
async def test_a_pbx_without_a_way_into_its_rooms(lab: Lab, phones: Phones, context: str) -> None:
    (alice,) = await phones("1001")
    async with pushing(lab, calling=CALLING.model_dump() | {"context": context}) as target:
        conferring = Conferring(target)
        await alice.call(ROOM, play=judge.tone(480, 30, RATE, LEVEL))
        await conferring.until_in(ROOM, 1)
        if not context:
            with pytest.raises(InvalidStatus) as refused:
                async with conferring.stream(f"/conferences/{ROOM}"):
                    pass
            assert refused.value.response.status_code == 409
            assert b"calling.context" in refused.value.response.body
        else:
            async with conferring.stream(f"/conferences/{ROOM}") as client:
                assert await client.closed() == 1011
                assert "room-720" in client.close_reason
        assert len(await conferring.participants(ROOM)) == 1
        await alice.hangup()


async def test_a_stream_of_a_conference_has_no_directions(conferring: Conferring) -> None:
    await conferring.done("POST", "/conferences", {"id": "x"})
    for query in (
        "encapsulation=sln&direction_listen=in",
        "encapsulation=sln&direction_speak=out",
        "",
        "encapsulation=x",
    ):
        status, body = await conferring.ask("GET", f"/conferences/x/media_stream?{query}")
        assert (status, body["error"]["reason"]) == (400, "INVALID_STREAM_OPTIONS"), query
    assert (await conferring.ask("GET", "/conferences/x/media_stream?encapsulation=sln"))[0] == 426
    await conferring.done("DELETE", "/conferences/x")


async def test_there_again_after_a_restart_of_asterisk(conferring: Conferring) -> None:
    target = conferring.target
    await conferring.done("POST", "/conferences", {"id": "lasting"})
    async with conferring.stream("/conferences/lasting") as client:
        await client.heard(25)
        await target.lab.restart_asterisk()
        await synchronized(target)
        await stays(lambda: client.close_code in (None, 1011), 1)  # it continues if Asterisk is back soon enough
    assert len([each for each in await target.ours_on_the_pbx() if "-conf-" in each]) == 1
    async with conferring.stream("/conferences/lasting") as first, conferring.stream("/conferences/lasting") as second:
        await asyncio.gather(first.heard(25), second.heard(25))
        await speak(first, 1150, 1)
        assert judge.level_of(samples(second)[-RATE // 2 :], 1150, RATE) > LEVEL / 2
    await conferring.done("DELETE", "/conferences/lasting")
