"""Supervisor and workers over a real Unix socket: claims, which workers exist, and what is passed on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bridge.events.hub import Events, as_json
from bridge.flows.program import InvalidFlow
from bridge.flows.syntax import parse
from bridge.workers.control import Control
from bridge.workers.peer_workers import PeerWorkers
from bridge.workers.supervisor_client import SupervisorClient
from bridge.workers.wire import MAX_LINE
from bridge.workers.worker_pool import WorkerPool
from tests.waiting import until


class Party:
    """One worker, and its notifications."""

    def __init__(self, number: int) -> None:
        self.load = 0
        self.ready = True
        self.member = SupervisorClient(PeerWorkers("bridge", number, 2), lambda: (self.load, self.ready))
        self.free: list[str] = []
        self.events: list[Any] = []
        self.homes: list[tuple[str, int]] = []
        self.member.on_free = self.free.append
        self.member.on_event = self.events.append
        self.member.on_home = lambda channel, number: self.homes.append((channel, number))


class Office:
    """A supervisor's end and two workers."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "control"
        self.pool = WorkerPool("bridge", 2)
        self.control = Control(self.pool)
        self.gone: list[int] = []
        self.control.on_gone = self.gone.append
        self.parties = {number: Party(number) for number in (1, 2)}

    async def enter(self, number: int) -> SupervisorClient:
        member = self.parties[number].member
        await member.start(self.path)
        member.up(self.path.with_name(f"http-{number}"))
        member.report_load()
        await until(lambda: number in self.pool.workers and self.pool.workers[number].ready)
        return member


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    it = Office(tmp_path)
    await it.control.start(it.path)
    yield it
    for party in it.parties.values():
        await party.member.stop()
    await it.control.stop()


async def test_all_know_who_is_there_and_who_leads(office: Office) -> None:
    first = await office.enter(1)
    second = await office.enter(2)
    await until(lambda: len(first.view.workers) == len(second.view.workers) == 2)
    await until(lambda: first.view.leads and not second.view.leads)
    office.parties[1].ready = False
    first.report_load()
    await until(lambda: second.view.leads and not first.view.leads)
    await first.stop()
    await until(lambda: set(second.view.workers) == {2})
    assert office.gone == [1]


async def test_a_worker_that_is_started_again_counts_before_it_is_back(office: Office) -> None:
    first = await office.enter(1)
    assert first.view.restarts == {1: 0, 2: 0}
    office.control.count_restart(2)
    await until(lambda: first.view.restarts == {1: 0, 2: 1})
    assert set(first.view.workers) == {1}


async def test_of_two_that_ask_the_one_with_less_to_do_gets_it(office: Office) -> None:
    office.parties[1].load = 5
    first, second = await office.enter(1), await office.enter(2)
    granted = await asyncio.gather(first.claim("s/c"), second.claim("s/c"))
    assert tuple(granted) == (False, True)
    assert await second.claim("s/c")  # it has it
    assert not await first.claim("s/c")
    second.release("s/c")
    await until(lambda: office.parties[1].free == ["s/c"])
    assert await first.claim("s/c")
    assert office.parties[2].free == []


async def test_the_claims_of_one_that_dies_are_offered_to_those_that_wait(office: Office) -> None:
    first, second = await office.enter(1), await office.enter(2)
    assert await first.claim("a")
    assert not await second.claim("a")
    await first.stop()  # as its process's end would
    await until(lambda: office.parties[2].free == ["a"])
    assert await second.claim("a")


async def test_a_claim_that_is_given_up_at_once_is_free(office: Office) -> None:
    first, second = await office.enter(1), await office.enter(2)
    asking = asyncio.create_task(first.claim("a"))
    await asyncio.sleep(0)
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    first.release("a")
    await asyncio.sleep(0.05)
    assert await second.claim("a")


async def test_what_one_tells_the_others_hear(office: Office) -> None:
    first, second = await office.enter(1), await office.enter(2)
    first.report_event({"id": "e"})
    await until(lambda: office.parties[2].events == [{"id": "e"}])
    first.report_conferences({"daily": "b"})
    await until(lambda: second.view.conference("daily") == (1, "b"))
    office.pool.settle("c", 2, [])
    office.control.settle("c", 2)
    await until(lambda: office.parties[1].homes == office.parties[2].homes == [("c", 2)])
    assert first.view.owner(["c"]) == 2
    assert office.parties[1].events == []


async def test_one_that_comes_later_is_told_whose_calls_are(office: Office) -> None:
    office.pool.settle("c", 1, [])
    await office.enter(1)
    second = await office.enter(2)
    await until(lambda: second.view.owner(["c"]) == 1)


async def test_without_a_supervisor_nothing_is_granted_and_everybody_stops(office: Office) -> None:
    first = await office.enter(1)
    waiting = asyncio.create_task(first.claim("a"))
    await asyncio.sleep(0)
    await office.control.stop()
    async with asyncio.timeout(60):
        await first.lost.wait()
        assert not await waiting
        assert not await first.claim("b")


# Messages that are too long


async def test_an_event_that_is_too_long_costs_that_event(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    first, second = await office.enter(1), await office.enter(2)
    dropped: list[bool] = []
    first.on_dropped = lambda: dropped.append(True)
    first.report_event({"n": 1, "reason": "\u00e9" * MAX_LINE})
    first.report_event({"n": 2})
    await until(lambda: office.parties[2].events)
    assert office.parties[2].events == [{"n": 2}]
    assert dropped == [True]
    assert "message dropped direction=to the supervisor size_bytes=2097" in caplog.text
    assert not first.lost.is_set()
    assert not second.lost.is_set()


@pytest.mark.parametrize("line", [b"x" * (3 * MAX_LINE), b'{"t":"event","event":' + b"[" * 100_000, b"[]", b"\xff"])
async def test_a_line_that_is_none_costs_that_line_in_the_supervisor(office: Office, line: bytes) -> None:
    """Also of a worker that does not bound what it sends."""
    first, second = await office.enter(1), await office.enter(2)
    assert first._wire is not None
    first._wire._writer.write(line + b"\n")
    first.report_event({"n": 2})
    await until(lambda: office.parties[2].events)
    assert office.control.dropped == 1
    office.parties[1].ready = False
    first.report_load()  # makes the supervisor notify all of the pool
    await until(lambda: second.view.dropped_by_supervisor == 1)
    assert office.gone == []
    assert not first.lost.is_set()


async def test_a_line_that_is_too_long_costs_that_line_in_the_worker(office: Office) -> None:
    first = await office.enter(1)
    dropped: list[bool] = []
    first.on_dropped = lambda: dropped.append(True)
    wire = office.control._wires[1]
    wire._writer.write(b"y" * (MAX_LINE + 1) + b"\n" + b"z" * (4 * MAX_LINE) + b"\n")
    office.control.settle("channel", 1)
    await until(lambda: office.parties[1].homes)
    assert dropped == [True, True]
    assert not first.lost.is_set()


async def test_a_message_that_cannot_be_used_costs_that_message(office: Office) -> None:
    first, second = await office.enter(1), await office.enter(2)
    first._send("load")
    first._send("conferences", made=3)
    first.report_event({"n": 1})
    await until(lambda: office.parties[2].events)
    assert office.gone == []
    assert not second.lost.is_set()


async def test_half_a_surrogate_pair_arrives(office: Office) -> None:
    first, _ = await office.enter(1), await office.enter(2)
    first.report_event({"name": "\ud83d \u00e9"})
    await until(lambda: office.parties[2].events)
    assert office.parties[2].events == [{"name": "\ud83d \u00e9"}]


async def test_a_flow_servers_text_ends_no_worker(office: Office) -> None:
    """One unknown option of 400,000 characters: its name is in the refusal, and so in an event."""
    first, second = await office.enter(1), await office.enter(2)
    events = Events()
    events.subscribe(lambda event: first.report_event(as_json(event)))
    with pytest.raises(InvalidFlow) as refused:
        parse([{"type": "talk", "option": {"\u00e9" * 400_000: 1}}])
    assert len(str(refused.value)) < 2000
    events.publish("flow_action", {"call_id": "c", "reason": f"failed: {refused.value}"})
    events.publish("flow_action", {"call_id": "c", "reason": "\u00e9" * 400_000})
    await until(lambda: len(office.parties[2].events) == 2)
    assert all(len(each["data"]["reason"]) <= 500 for each in office.parties[2].events)
    assert not first.lost.is_set()
    assert not second.lost.is_set()


async def test_thirteen_workers_have_a_thousand_conferences_each(tmp_path: Path) -> None:
    """With the longest ids that there may be, most of it emoji."""
    count, each = 13, 1000
    pool = WorkerPool("bridge", count)
    control = Control(pool)
    await control.start(tmp_path / "control")
    members = {
        number: SupervisorClient(PeerWorkers("bridge", number, count), lambda: (0, True))
        for number in range(1, count + 1)
    }
    try:
        for number, member in members.items():
            await member.start(tmp_path / "control")
            member.report_conferences({_conference(number, 0): "before it is up"})
            member.up(tmp_path / f"http-{number}")
        for number, member in members.items():
            member.report_conferences({_conference(number, at): f"bridge-{number}-{at}" for at in range(each)})

        def knows_all(member: SupervisorClient) -> bool:
            return len(member.view.conferences_elsewhere) == (count - 1) * each

        for member in members.values():
            await until(partial(knows_all, member))
            assert member.view.conference(_conference(7, 999)) == (7, "bridge-7-999")
            assert member.view.conference(_conference(5, 0)) == (5, "bridge-5-0")
        members[7].report_conferences({_conference(7, 1): "bridge-7-1"})
        await until(lambda: len(members[1].view.conferences_elsewhere) == (count - 2) * each + 1)
        await members[9].stop()
        await until(lambda: len(members[1].view.conferences_elsewhere) == (count - 3) * each + 1)
        late = SupervisorClient(PeerWorkers("bridge", 9, count), lambda: (0, True))
        members[9] = late
        await late.start(tmp_path / "control")
        late.up(tmp_path / "http-9")
        await until(lambda: len(late.view.conferences_elsewhere) == (count - 2) * each + 1)
        assert control.dropped == 0
        assert not any(member.lost.is_set() for member in members.values())
    finally:
        for member in members.values():
            await member.stop()
        await control.stop()


def _conference(number: int, at: int) -> str:
    return f"{number:02d}-{at:04d}" + "\U0001f600" * 120
