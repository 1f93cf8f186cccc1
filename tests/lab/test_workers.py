"""Two worker processes share the work of one bridge: every call is in one of them, and any of them answers for all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.testing import judge, peer
from bridge.testing.lab_engine import Lab
from bridge.testing.phone import Phone
from tests.lab.conftest import Phones
from tests.lab.sink import open_sink
from tests.lab.waiting import PATIENCE_S, sends, until
from tests.lab.workers import Several, serving

RATE = 8000
TONES = {"1001": 500, "1002": 700, "1003": 900}
BOTH = {1, 2}


@pytest.fixture
async def several(lab: Lab, tmp_path: Path) -> AsyncIterator[Several]:
    async with serving(lab, tmp_path) as it:
        yield it


async def into_the_bridge(several: Several, *phones: Phone) -> dict[str, int]:
    """Have each phone call the bridge; return the worker of each call, by the call's id."""
    workers: dict[str, int] = {}
    for phone in phones:
        await phone.call("750", play=judge.tone(TONES[phone.name], 60, RATE))
        await phone.answered()
        call_id = (await several.call_from(phone.name))["id"]
        number = several.worker_of(call_id)
        assert number is not None
        workers[call_id] = number
    return workers


async def test_calls_are_spread_and_streamed(several: Several, phones: Phones) -> None:
    used = await phones("1001", "1002", "1003")
    workers = await into_the_bridge(several, *used)
    assert set(workers.values()) == BOTH
    for phone, call_id in zip(used, workers, strict=True):
        for _ in range(3):  # at whatever worker the connection arrives
            async with several.stream(call_id, encapsulation="sln", rate=RATE) as application:
                assert await hears(application, TONES[phone.name])
                # It joins the bridge that holds the call, also where that is another worker's.
                assert not [each for each in await several.ours_on_the_pbx() if "-snoop-" in each]


async def hears(application: peer.Peer, hz: int, frames: int = 50) -> bool:
    """Return whether an application receives a tone in the next frames."""
    await application.heard(len(application.binary) + frames)
    heard = peer.samples_of(b"".join(application.binary[-25:]))
    return judge.level_of(heard, hz, RATE) > 1000


async def test_a_subscription_starts_once(lab: Lab, tmp_path: Path, phones: Phones) -> None:
    async with open_sink() as sink, open_sink() as later:
        subscription = {"id": "all", "url": sink.url, "dialect": "yeastar", "extensions": ["1001"]}
        async with serving(lab, tmp_path, subscriptions=[subscription]) as several:
            alice, bob = await phones("1001", "1002")
            bob.play_next(judge.tone(700, 60, RATE))
            for number in range(1, 4):
                await alice.call("1002", play=judge.tone(500, 60, RATE))
                await alice.answered()
                await sink.connected(number)
                await sends(alice, 1)
                assert len(sink.connections) == number
                await alice.hangup()
                await asyncio.wait_for(sink.connections[-1].ended.wait(), PATIENCE_S)
            # One that is made at any worker is known to all, and starts once as well.
            made = {"id": "made", "url": later.url, "dialect": "twilio", "extensions": ["1001"]}
            assert (await several.request("POST", "/v1.0/subscriptions", made))[0] == 201
            for answer in (await several.from_each("/v1.0/subscriptions", BOTH)).values():
                assert {each["id"] for each in answer["result"]} == {"all", "made"}
            await alice.call("1002", play=judge.tone(500, 60, RATE))
            await alice.answered()
            await later.connected(1)
            await sink.connected(4)
            await sends(alice, 1)
            assert (len(sink.connections), len(later.connections)) == (4, 1)
            # The worker that streams it dies: the other one takes over.
            streams = await streams_of(several)
            (streaming,) = {number for stream, number in streams.items() if stream["started_by"] == "subscription:made"}
            several.kill(streaming)
            await later.connected(2)
            await sends(alice, 1)
            assert len(later.connections) == 2
            assert len(sink.connections) in (4, 5)  # it may have been the same worker
            (again,) = [stream for stream in await streams_of(several) if stream["started_by"] == "subscription:made"]
            assert again["live"]
            await several.all_in_step()
            await alice.hangup()


class Shown(dict[str, object]):
    """A stream as it is listed."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(self["id"])


async def streams_of(several: Several) -> dict[Shown, int]:
    """Return all streams and the worker of each: with two workers, the odd or the even numbers."""
    _, answer = await several.get("/v1.0/streams")
    return {Shown(stream): 2 - int(re.sub(r"\D", "", stream["id"])) % 2 for stream in answer["result"]}


async def test_one_dies_and_the_other_goes_on(several: Several, phones: Phones) -> None:
    used = await phones("1001", "1002", "1003")
    workers = await into_the_bridge(several, *used)
    calls = dict(zip(used, workers, strict=True))
    dying = workers[calls[used[0]]]
    phone = next(each for each in used if workers[calls[each]] != dying)
    hz = TONES[phone.name]
    async with contextlib.AsyncExitStack() as stack:
        application: peer.Peer | None = None
        while application is None:  # a stream in the one that lives, on a call in the one that lives
            before = {stream["id"] for stream in await streams_of(several)}
            opened = await stack.enter_async_context(several.stream(calls[phone], encapsulation="sln", rate=RATE))
            assert await hears(opened, hz)
            (number,) = [n for stream, n in (await streams_of(several)).items() if stream["id"] not in before]
            application = opened if number != dying else None
        heard, began = len(application.binary), asyncio.get_running_loop().time()
        old = several.pid(dying)
        several.kill(dying)
        await sends(phone, 2)
        frames, took_s = len(application.binary) - heard, asyncio.get_running_loop().time() - began
        assert abs(frames - took_s * 50) < 10
        levels = judge.block_levels(peer.samples_of(b"".join(application.binary[heard:])), RATE, hz, block_s=0.1)
        assert (levels > 1000).all()  # not a gap
        await several.says(rf"worker started worker={dying} pid=(\d+)", 2)
        assert several.pid(dying) != old
    await several.all_in_step()
    # What it held is with somebody again, and what it left behind is gone: there is one bridge for each call.
    for phone in used:
        async with several.stream(calls[phone], encapsulation="sln", rate=RATE) as application:
            assert await hears(application, TONES[phone.name])
    async with asyncio.timeout(PATIENCE_S):
        while len(await several.ours_on_the_pbx()) != len(used):
            await asyncio.sleep(0.1)
    assert several.process.returncode is None


async def test_any_worker_answers_for_all(several: Several, phones: Phones) -> None:
    used = await phones("1001", "1002", "1003")
    workers = await into_the_bridge(several, *used)
    alice, bob, _ = workers
    async with several.stream(alice, encapsulation="sln"), several.stream(bob, encapsulation="sln"):

        async def shown() -> set[tuple[tuple[str, int], ...]]:
            """Return the calls and their numbers of streams, as each worker lists them."""
            answers = (await several.from_each("/v1.0/calls", BOTH)).values()
            return {tuple((call["id"], call["streams"]) for call in answer["result"]) for answer in answers}

        expected = tuple(zip(list(workers)[::-1], (0, 1, 1), strict=True))

        async def as_expected() -> bool:
            return await shown() == {expected}

        await until(as_expected)
        for answer in (await several.from_each("/v1.0/calls?page_size=2", BOTH)).values():
            assert len(answer["result"]) == 2
            status, rest = await several.get("/v1.0/calls", page_size="2", page_token=answer["next_page_token"])
            assert (status, [call["id"] for call in rest["result"]]) == (200, [alice])
        for answer in (await several.from_each("/v1.0/streams", BOTH)).values():
            assert sorted(stream["call_id"] for stream in answer["result"]) == sorted([alice, bob])
            assert len({stream["id"] for stream in answer["result"]}) == 2
        for answer in (await several.from_each(f"/v1.0/calls/{alice}", BOTH)).values():
            assert (answer["status"], answer["streams"]) == ("progressing", 1)
        for text in (await several.from_each("/metrics", BOTH)).values():
            assert total(text, "asterisk_bridge_calls") == 3
            assert total(text, "asterisk_bridge_streams") == 2
            assert 'asterisk_bridge_up{worker="1"} 1' in text
    # The worker that has a call carries out its requests, whichever worker receives them.
    for call_id in (alice, bob):
        for _ in range(4):
            assert (await several.request("POST", f"/v1.0/calls/{call_id}/hold"))[0] == 200
            answers = await several.from_each(f"/v1.0/calls/{call_id}", BOTH)
            assert [answer["on_hold"] for answer in answers.values()] == [True, True]
            assert (await several.request("DELETE", f"/v1.0/calls/{call_id}/hold"))[0] == 200
    for call_id in (alice, bob):
        assert (await several.request("POST", f"/v1.0/calls/{call_id}/recording_start"))[0] == 200
    await sends(used[0], 1)
    for call_id in (alice, bob):
        assert (await several.request("POST", f"/v1.0/calls/{call_id}/recording_stop"))[0] == 200
    for answer in (await several.from_each("/v1.0/recordings", BOTH)).values():
        assert [each["call_id"] for each in answer["result"]] == [bob, alice]
        for recording in answer["result"]:
            for _ in range(3):
                url = f"{several.url}/v1.0/recordings/{recording['id']}/file"
                async with aiohttp.ClientSession() as session, session.get(url) as file:
                    assert (file.status, (await file.read())[:4]) == (200, b"RIFF")
    assert (await several.request("POST", f"/v1.0/calls/{bob}/hangup"))[0] == 200
    for answer in (await several.from_each("/v1.0/calls", BOTH)).values():
        assert bob not in {call["id"] for call in answer["result"]}
    for answer in (await several.from_each("/v1.0/calls?ended=true", BOTH)).values():
        assert [call["status"] for call in answer["result"] if call["id"] == bob] == ["hangup"]
    for _ in range(4):
        assert (await several.request("GET", "/v1.0/calls/nobody"))[0] == 404


def total(text: str, name: str) -> float:
    """Return a metric, summed over all workers."""
    return sum(float(value) for value in re.findall(rf"^{name}{{.*}} (\S+)$", text, re.MULTILINE))


async def test_events_are_told_once_to_clients_of_every_worker(several: Several, phones: Phones) -> None:
    alice, _ = await phones("1001", "1002")
    async with contextlib.AsyncExitStack() as stack:
        url = f"ws{several.url.removeprefix('http')}/v1.0/events?types=call_*"
        # Ten: that all of them are at one worker happens once in 512 runs, and the test is true even then.
        clients = [await stack.enter_async_context(peer.open_peer(url)) for _ in range(10)]
        (held,) = await into_the_bridge(several, alice)
        await alice.hangup()
        await alice.call("1002")  # one that the bridge only sees
        await alice.answered()
        observed = (await several.call_from("1001"))["id"]
        await alice.hangup()

        def of(client: peer.Peer) -> list[Any]:
            return [json.loads(str(message.data)) for message in client.messages]

        def all_ended() -> bool:
            return all([each["type"] for each in of(client)].count("call_hangup") >= 2 for client in clients)

        await until(all_ended)
        for client in clients:
            told = of(client)
            for call_id in (held, observed):
                kinds = [event["type"] for event in told if event["data"]["id"] == call_id]
                for kind in ("call_created", "call_progressing", "call_hangup"):
                    assert kinds.count(kind) == 1, kinds
            assert len({event["id"] for event in told}) == len(told)


async def test_a_conference_holds_calls_of_both(several: Several, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    assert (await several.request("POST", "/v1.0/conferences", {"id": "daily"}))[0] == 200
    for _ in range(6):
        assert (await several.request("POST", "/v1.0/conferences", {"id": "daily"}))[0] == 409
    placed: dict[int, str] = {}
    actions = [{"type": "conference_join", "option": {"conference_id": "daily"}}]
    while set(placed) != BOTH:
        # The worker that receives a request originates the call: repeated until each of them has.
        phone = bob if placed else alice
        phone.forget()
        phone.play_next(judge.tone(TONES[phone.name], 60, RATE))
        body = {"destinations": [{"type": "extension", "target": phone.name}], "actions": actions}
        status, answer = await several.request("POST", "/v1.0/calls", body)
        assert status == 200, answer
        call_id = answer["calls"][0]["id"]
        number = int(re.findall(r"_w(\d+)-", call_id)[0])
        await phone.answered()
        if number in placed:
            assert (await several.request("POST", f"/v1.0/calls/{call_id}/hangup"))[0] == 200
            await phone.ended()  # it takes one call at a time
        else:
            placed[number] = call_id
    async with asyncio.timeout(PATIENCE_S):
        while True:
            answers = await several.from_each("/v1.0/conferences", BOTH)
            if all(len(a["result"]) == 1 and len(a["result"][0]["participants"]) == 2 for a in answers.values()):
                break
            await asyncio.sleep(0.1)
    for number, answer in answers.items():
        (conference,) = answer["result"]
        assert conference["id"] == "daily", number
    async with several_streams(several, "daily", 4) as applications:
        for application in applications:
            assert await hears(application, TONES["1001"])
            assert await hears(application, TONES["1002"])
    # A participant whose call is in another worker is removed as well.
    channel = answers[1]["result"][0]["participants"][0]["channel_id"]
    assert (await several.request("DELETE", f"/v1.0/conferences/daily/participants/{channel}"))[0] == 204
    for answer in (await several.from_each("/v1.0/conferences/daily", BOTH)).values():
        assert len(answer["participants"]) == 1
    assert (await several.request("DELETE", "/v1.0/conferences/daily"))[0] == 200
    for answer in (await several.from_each("/v1.0/conferences", BOTH)).values():
        assert answer["result"] == []
    for phone, other in ((alice, bob), (bob, alice)):
        await phone.hangup()
        levels = judge.block_levels(phone.recording(), RATE, TONES[other.name], block_s=0.1)
        assert (levels > 1000).sum() > 10, phone.name


async def test_a_call_comes_back_from_the_dialplan_to_its_worker(several: Several, phones: Phones) -> None:
    alice, agent = await phones("1001", "1002")
    actions = [
        {"type": "queue_join", "option": {"queue_id": "support"}},
        {"type": "sleep", "option": {"duration": 30000}},
    ]
    workers: set[int] = set()
    while workers != BOTH:
        body = {"destinations": [{"type": "extension", "target": alice.name}], "actions": actions}
        status, answer = await several.request("POST", "/v1.0/calls", body)
        assert status == 200, answer
        call_id = answer["calls"][0]["id"]
        workers.add(int(re.findall(r"_w(\d+)-", call_id)[0]))
        await agent.answered()
        await asyncio.sleep(0.5)
        await agent.hangup()
        async with asyncio.timeout(PATIENCE_S):
            while (await several.get(f"/v1.0/calls/{call_id}"))[1].get("action", {}).get("type") != "sleep":
                await asyncio.sleep(0.05)
        assert (await several.request("POST", f"/v1.0/calls/{call_id}/hangup"))[0] == 200
        await alice.ended()
        agent.forget()
        alice.forget()


async def test_the_dialplan_sends_calls_into_a_conference(several: Several) -> None:
    """Whatever worker they come from, it is one conference."""
    workers: set[int] = set()
    placed = 0
    while workers != BOTH or placed < 3:
        body = {"destinations": [{"type": "conference", "target": "weekly"}], "actions": [PAUSE]}
        status, answer = await several.request("POST", "/v1.0/calls", body)
        assert status == 200, answer
        workers.add(int(re.findall(r"_w(\d+)-", answer["calls"][0]["id"])[0]))
        placed += 1
    async with asyncio.timeout(PATIENCE_S):
        while True:
            lists = [answer["result"] for answer in (await several.from_each("/v1.0/conferences", BOTH)).values()]
            if all(len(each) == 1 and len(each[0]["participants"]) == placed for each in lists):
                break
            await asyncio.sleep(0.1)
    for call in (await several.get("/v1.0/calls"))[1]["result"]:
        await several.request("POST", f"/v1.0/calls/{call['id']}/hangup")
    async with asyncio.timeout(PATIENCE_S):  # it was made by the first of them, and goes with the last
        while (await several.get("/v1.0/conferences"))[1]["result"]:
            await asyncio.sleep(0.1)


PAUSE = {"type": "sleep", "option": {"duration": 60000}}


@contextlib.asynccontextmanager
async def several_streams(several: Several, conference_id: str, count: int) -> AsyncIterator[list[peer.Peer]]:
    """Streams on a conference, opened over connections that any worker may get."""
    async with contextlib.AsyncExitStack() as stack:
        url = f"ws{several.url.removeprefix('http')}/v1.0/conferences/{conference_id}/media_stream?encapsulation=sln"
        yield [await stack.enter_async_context(peer.open_peer(url)) for _ in range(count)]


async def test_it_ends_in_order_and_without_its_supervisor_too(lab: Lab, tmp_path: Path, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    async with serving(lab, tmp_path) as several:
        await into_the_bridge(several, alice, bob)
        pids = [several.pid(1), several.pid(2)]
        async with several.stream((await several.call_from("1001"))["id"], encapsulation="sln") as application:
            assert await several.stop() < 8
            assert await application.closed() == 1012
        await several.nothing_left()
        assert not any(map(runs, pids))
    # The calls still exist, and the next run resumes them: also one that ends badly.
    async with contextlib.AsyncExitStack() as stack:
        several = await stack.enter_async_context(serving(lab, tmp_path, ends_well=False))
        await sends(alice, 1)
        assert several.worker_of((await several.call_from("1001"))["id"]) is not None
        pids = [several.pid(1), several.pid(2)]
        several.process.kill()
        async with asyncio.timeout(PATIENCE_S):
            while any(map(runs, pids)):
                await asyncio.sleep(0.05)
        await several.nothing_left()


def runs(pid: int) -> bool:
    """Return whether a process exists."""
    return Path(f"/proc/{pid}").exists()
