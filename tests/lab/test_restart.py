"""The process dies with calls up and starts again: phones and applications have afterwards what they had before."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.calls.journal import channels_in, journal_file
from bridge.testing import judge
from bridge.testing.lab_engine import Lab
from bridge.testing.phone import Phone
from tests.lab.conftest import Phones
from tests.lab.driving import by_hand
from tests.lab.restarting import Service, restarting
from tests.lab.resumed import (
    BACK_S,
    RATE,
    TONES,
    extension,
    heard,
    hears,
    killed_and_started,
    originate,
    ready,
    streamed,
)
from tests.lab.sink import Received, Sink, open_sink
from tests.lab.waiting import sends, until


async def test_an_originated_flow_stays_connected_and_continues_afterwards(
    lab: Lab, tmp_path: Path, phones: Phones
) -> None:
    alice, bob = await ready(phones, "1001", "1002")
    beeps = [{"type": "beep"}, {"type": "sleep", "option": {"duration": 1000}}]
    connect = {"type": "connect", "option": {"destinations": [extension("1002")]}}
    async with restarting(lab, tmp_path) as service:
        call = await originate(service, "1001", actions=[connect, *beeps], variables={"customer": "4711"})
        await alice.answered()
        await bob.answered()
        await asyncio.gather(hears(alice, 700), hears(bob, 500))
        _, before = await service.get(f"/v1.0/calls/{call['id']}")
        assert before["variables"] == {"customer": "4711"}
        await killed_and_started(service)
        await asyncio.gather(hears(alice, 700), hears(bob, 500))
        _, again = await service.get(f"/v1.0/calls/{call['id']}")
        for key in ("direction", "source", "destination", "status", "variables", "tm_create", "tm_progressing"):
            assert again[key] == before[key]
        begin = len(heard(alice))
        await bob.hangup()
        await alice.ended()  # after its last action
        levels = judge.block_levels(heard(alice)[begin:], RATE, 1000, block_s=0.1)
        assert levels.max() > 1000, "the beep after the connection"


async def test_a_flow_waits_for_digits_again_and_its_streams_come_back(
    lab: Lab, tmp_path: Path, phones: Phones
) -> None:
    (alice,) = await ready(phones, "1001")
    async with open_sink() as sink:
        actions = [
            {"type": "answer"},
            {"type": "variable_set", "option": {"key": "customer", "value": "4711"}},
            {
                "type": "external_media_start",
                "option": {"url": sink.url, "dialect": "twilio", "direction_listen": "in"},
            },
            {"type": "digits_receive", "option": {"duration": 60_000, "length": 2}},
            {"type": "external_media_stop"},
            {"type": "beep"},
        ]
        flow = {"id": "menu", "match": ["750"], "actions": actions}
        async with restarting(lab, tmp_path, flows=[flow]) as service:
            await alice.call("750")
            await alice.answered()
            (first,) = await sink.connected(1)
            await streamed(first, 500)
            await killed_and_started(service)
            _, second = await sink.connected(2)
            await streamed(second, 500)
            assert first.close_code != 1000
            begin = len(heard(alice))
            await alice.dtmf("12")
            await alice.ended()
            assert judge.block_levels(heard(alice)[begin:], RATE, 1000, block_s=0.1).max() > 1000
            assert second.of(event="start")[0]["start"]["callSid"] == first.of(event="start")[0]["start"]["callSid"]


async def test_calls_of_routes_and_subscriptions_have_their_streams_back(
    lab: Lab, tmp_path: Path, phones: Phones
) -> None:
    alice, bob, carol = await ready(phones, "1001", "1002", "1003")
    async with open_sink() as agent, open_sink() as observer:
        route = {"id": "agent", "match": "750", "url": agent.url, "dialect": "twilio"}
        subscription = {"id": "all", "url": observer.url, "dialect": "twilio", "extensions": ["1002"]}
        async with restarting(lab, tmp_path, dialplan=[route], subscriptions=[subscription]) as service:
            await alice.call("750")
            await bob.call("1003")
            await asyncio.gather(alice.answered(), bob.answered(), carol.answered())
            await streamed((await agent.connected(1))[0], 500)
            await streamed((await observer.connected(1))[0], 700)
            loop = asyncio.get_running_loop()
            await service.die()
            began = loop.time()
            await service.start()
            await streamed((await agent.connected(2))[1], 500)
            await streamed((await observer.connected(2))[1], 700)
            assert loop.time() - began < BACK_S
            await hears(bob, 900)
            await asyncio.gather(alice.hangup(), bob.hangup())


async def test_a_call_that_requests_control_can_be_controlled_again(lab: Lab, tmp_path: Path, phones: Phones) -> None:
    (alice,) = await ready(phones, "1001")
    async with restarting(lab, tmp_path) as service:
        call = await originate(service, "1001")
        await alice.answered()
        path = f"/v1.0/calls/{call['id']}"
        await until(lambda: _has_status(service, path, "progressing"))
        assert (await service.request("POST", f"{path}/recording_start"))[0] == 200
        await sends(alice, 1)
        await service.die()
        await sends(alice, 3)
        await service.start()
        _, again = await service.get(path)
        assert (again["tm_create"], again["direction"]) == (call["tm_create"], "outgoing")
        recording = again["recording_id"]
        assert recording
        await sends(alice, 1)
        assert (await service.request("POST", f"{path}/recording_stop"))[0] == 200
        _, found = await service.get(f"/v1.0/recordings/{recording}")
        assert (found["status"], found["call_id"]) == ("ended", call["id"])
        assert found["duration"] >= 4  # whole seconds, of at least 5: it continued while the process did not run
        assert (await service.request("POST", f"{path}/hangup"))[0] == 200
        await alice.ended()
        await service.delete_recordings()


async def _has_status(service: Service, path: str, status: str) -> bool:
    return bool((await service.get(path))[1]["status"] == status)


async def test_a_conference_stays_together(lab: Lab, tmp_path: Path, phones: Phones) -> None:
    alice, bob, carol = await ready(phones, "1001", "1002", "1003")
    flow = {
        "id": "meet",
        "match": ["750"],
        "actions": [{"type": "conference_join", "option": {"conference_id": "daily"}}, {"type": "beep"}],
    }
    async with restarting(lab, tmp_path, flows=[flow]) as service:
        assert (await service.request("POST", "/v1.0/conferences", {"id": "daily", "name": "Every day"}))[0] < 300
        for phone in (alice, bob):
            await phone.call("750")
            await phone.answered()
        await asyncio.gather(hears(alice, 700), hears(bob, 500))
        await killed_and_started(service)
        await asyncio.gather(hears(alice, 700), hears(bob, 500))
        _, again = await service.get("/v1.0/conferences/daily")
        assert (again["name"], len(again["participants"])) == ("Every day", 2)
        await carol.call("750")
        await carol.answered()
        await asyncio.gather(hears(alice, 900), hears(carol, 700))
        begin = len(heard(bob))
        (channel,) = [each["channel_id"] for each in again["participants"] if each["number"] == "1002"]
        status, _ = await service.request("DELETE", f"/v1.0/conferences/daily/participants/{channel}")
        assert status < 300
        await bob.ended()  # its flow continues: a beep, and the end
        assert judge.block_levels(heard(bob)[begin:], RATE, 1000, block_s=0.1).max() > 1000
        assert (await service.request("DELETE", "/v1.0/conferences/daily"))[0] < 300
        await asyncio.gather(alice.ended(), carol.ended())


async def test_a_phone_that_is_rung_by_connect_is_called_again(lab: Lab, tmp_path: Path, phones: Phones) -> None:
    (alice,) = await ready(phones, "1001")
    connect = {"type": "connect", "option": {"destinations": [{"type": "tel", "target": "602"}], "timeout": 60}}
    async with restarting(lab, tmp_path, calling={"tel_endpoint": "Local/{number}@from-internal/n"}) as service:
        call = await originate(service, "1001", actions=[connect])
        await alice.answered()
        rung = f"/v1.0/calls?master_call_id={call['id']}"
        await until(lambda: _ringing(service, call["id"]))
        before = await _ringing(service, call["id"])
        await killed_and_started(service)
        after = await until(lambda: _other(service, call["id"], before))
        assert len(after) == 1, rung
        await alice.hangup()


@pytest.mark.parametrize("answers", ["before", "meanwhile", "afterwards"])
async def test_a_transfer_by_request_is_completed(lab: Lab, tmp_path: Path, phones: Phones, answers: str) -> None:
    """The destination answers before the process dies, while it is dead, or afterwards: both hear each other."""
    alice, bob = await ready(phones, "1001", "1002")
    async with restarting(lab, tmp_path) as service:
        call = await originate(service, "1001", actions=[{"type": "sleep", "option": {"duration": 60000}}])
        await alice.answered()
        await until(lambda: _status(service, call["id"], "progressing"))
        async with by_hand(bob):
            status, _ = await service.request(
                "POST", f"/v1.0/calls/{call['id']}/transfer", {"destination": extension("1002")}
            )
            assert status == 200
            await bob.called()
            if answers == "before":
                await bob.command("accept")
                await bob.answered()
                await hears(alice, TONES["1002"])
            await until(lambda: len(channels_in(journal_file(str(tmp_path / "state.sqlite3")), ("transfer",))) == 2)
            await service.die()
            if answers == "meanwhile":
                await bob.command("accept")
                await bob.answered()
            await service.start()
            if answers == "afterwards":
                await bob.command("accept")
                await bob.answered()
        await hears(alice, TONES["1002"])
        await hears(bob, TONES["1001"])
        await bob.hangup()
        await alice.ended()


async def _status(service: Service, call_id: str, status: str) -> bool:
    return bool((await service.get(f"/v1.0/calls/{call_id}"))[1]["status"] == status)


async def _ringing(service: Service, call_id: str) -> list[str]:
    _, calls = await service.get("/v1.0/calls")
    return [each["id"] for each in calls["result"] if each["master_call_id"] == call_id and each["status"] == "ringing"]


async def _other(service: Service, call_id: str, before: list[str]) -> list[str]:
    return [each for each in await _ringing(service, call_id) if each not in before]


@pytest.mark.parametrize("dies", ["worker", "all"])
async def test_calls_of_a_worker_that_dies_are_resumed(lab: Lab, tmp_path: Path, phones: Phones, dies: str) -> None:
    alice, bob, carol = await ready(phones, "1001", "1002", "1003")
    connect = {"type": "connect", "option": {"destinations": [extension("1002")]}}
    flow = {"id": "desk", "match": ["750"], "actions": [connect, {"type": "beep"}]}
    async with restarting(lab, tmp_path, flows=[flow], workers={"count": 2}) as service:
        await alice.call("750")
        await alice.answered()
        await bob.answered()
        held = await originate(service, "1003")
        await carol.answered()
        await asyncio.gather(hears(alice, 700), hears(bob, 500))
        if dies == "all":
            await killed_and_started(service)
        else:
            for number in (1, 2):
                pid = service.pid(number)
                service.kill(number)
                await until(lambda number=number, pid=pid: service.pid(number) != pid)  # type: ignore[misc]
                await service.all_in_step()
        await asyncio.gather(hears(alice, 700), hears(bob, 500))
        assert alice.in_call
        begin = len(heard(alice))
        await bob.hangup()
        await alice.ended()
        assert judge.block_levels(heard(alice)[begin:], RATE, 1000, block_s=0.1).max() > 1000
        assert (await service.request("POST", f"/v1.0/calls/{held['id']}/hangup"))[0] == 200
        await carol.ended()


async def test_an_upgrade_keeps_calls_and_closes_streams_with_1012(lab: Lab, tmp_path: Path, phones: Phones) -> None:
    alice, bob, carol = await ready(phones, "1001", "1002", "1003")
    connect = {"type": "connect", "option": {"destinations": [extension("1002")]}}
    async with open_sink() as sink:
        route = {"id": "agent", "match": "750", "url": sink.url, "dialect": "twilio"}
        async with restarting(lab, tmp_path, dialplan=[route]) as service:
            call = await originate(service, "1001", actions=[connect, {"type": "beep"}])
            await asyncio.gather(alice.answered(), bob.answered())
            await carol.call("750")
            await carol.answered()
            (first,) = await sink.connected(1)
            await streamed(first, 900)
            await asyncio.gather(hears(alice, 700), hears(bob, 500))
            await service.end()
            assert first.close_code == 1012
            left = [each for each in await service.ours_on_the_pbx() if "-hold-" not in each and "-call-" not in each]
            assert not left, "taps"
            await asyncio.gather(hears(alice, 700), hears(bob, 500))  # the call does not need the process
            await service.start()
            await streamed((await sink.connected(2))[1], 900)
            await asyncio.gather(hears(alice, 700), hears(bob, 500))
            assert (await service.get(f"/v1.0/calls/{call['id']}"))[1]["status"] == "progressing"
            for channel in (call["id"], (await service.call_from("1003"))["id"]):
                timeout = await service.ari("GET", f"/channels/{channel}/variable", variable="TIMEOUT(absolute)")
                assert float(timeout["value"]) == 0
            await bob.hangup()
            await alice.ended()
            await carol.hangup()


async def test_calls_that_no_run_resumes_end(lab: Lab, tmp_path: Path, phones: Phones) -> None:
    (alice,) = await ready(phones, "1001")
    async with restarting(lab, tmp_path, restart={"wait_s": 5}) as service:
        await originate(service, "1001")
        await alice.answered()
        await sends(alice, 1)
        await service.end()
        await sends(alice, 1)
        assert alice.in_call
        await alice.ended(20)
        await service.start()  # and finds nothing but what it sweeps


@contextlib.asynccontextmanager
async def draining(
    lab: Lab, tmp_path: Path, phone: Phone, drain_s: int
) -> AsyncIterator[tuple[Service, Sink, Received]]:
    """Run a process that drains while a phone talks with an agent."""
    async with open_sink() as sink:
        route = {"id": "agent", "match": "750", "url": sink.url, "dialect": "twilio"}
        async with restarting(lab, tmp_path, dialplan=[route], restart={"drain_s": drain_s}) as service:
            await phone.call("750")
            await phone.answered()
            (first,) = await sink.connected(1)
            await streamed(first, 500)
            service.process.send_signal(signal.SIGTERM)
            await service.says("draining calls_and_streams=2")
            yield service, sink, first


async def test_a_drain_waits_for_the_calls_that_are_up(lab: Lab, tmp_path: Path, phones: Phones) -> None:
    alice, bob = await ready(phones, "1001", "1002")
    async with draining(lab, tmp_path, alice, 120) as (service, _, first):
        status, health = await service.get("/health")
        assert (status, health["faults"]) == (
            503,
            ["the process is draining: it stops when the active calls and streams have ended"],
        )
        assert (await service.get("/health/live")) == (200, {"status": "ok"})
        status, _ = await service.request("POST", "/v1.0/calls", {"destinations": [extension("1002")]})
        assert status == 503
        await bob.call("750")
        await bob.ended()
        begin = len(first.twilio())
        await sends(alice, 1)
        assert judge.level_of(first.twilio()[begin:], 500, RATE) > 1000
        await alice.hangup()
        assert await asyncio.wait_for(service.process.wait(), 20) == 0
        await service.nothing_left()
        await service.start()


async def test_a_second_signal_ends_a_drain_in_order(lab: Lab, tmp_path: Path, phones: Phones) -> None:
    (alice,) = await ready(phones, "1001")
    async with draining(lab, tmp_path, alice, 600) as (service, sink, first):
        await service.end()
        assert first.close_code == 1012
        await service.start()
        await streamed((await sink.connected(2))[1], 500)
        await alice.hangup()
        service.write(restart={"drain_s": 0})


@pytest.mark.parametrize("end", ["die", "end"])
async def test_calls_can_be_handed_to_an_extension(lab: Lab, tmp_path: Path, phones: Phones, end: str) -> None:
    (alice,) = await ready(phones, "1001")
    async with restarting(lab, tmp_path, restart={"calls": "601@from-internal"}) as service:
        await originate(service, "1001")
        await alice.answered()
        await sends(alice, 1)
        await getattr(service, end)()
        if end == "end":
            await hears(alice, 1004)
        await service.start()
        await hears(alice, 1004)
        await alice.hangup()
