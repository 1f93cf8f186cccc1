"""Supervisor and workers over a real Unix socket: claims, who is there, and what is passed on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bridge.workers.control import Control
from bridge.workers.fleet import Fleet
from bridge.workers.member import Member
from bridge.workers.view import View


class Party:
    """One worker, and what it was told."""

    def __init__(self, number: int) -> None:
        self.load = 0
        self.ready = True
        self.member = Member(View("bridge", number, 2), lambda: (self.load, self.ready))
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
        self.fleet = Fleet("bridge", 2)
        self.control = Control(self.fleet, {1: 0, 2: 0})
        self.gone: list[int] = []
        self.control.on_gone = self.gone.append
        self.parties = {number: Party(number) for number in (1, 2)}

    async def enter(self, number: int) -> Member:
        member = self.parties[number].member
        await member.start(self.path)
        member.up(self.path.with_name(f"http-{number}"))
        member.tell_load()
        await until(lambda: number in self.fleet.workers and self.fleet.workers[number].ready)
        return member


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    it = Office(tmp_path)
    await it.control.start(it.path)
    yield it
    for party in it.parties.values():
        await party.member.stop()
    await it.control.stop()


async def until(true: Any) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.005)


async def test_all_know_who_is_there_and_who_leads(office: Office) -> None:
    first = await office.enter(1)
    second = await office.enter(2)
    await until(lambda: len(first.view.workers) == len(second.view.workers) == 2)
    await until(lambda: first.view.leads and not second.view.leads)
    office.parties[1].ready = False
    first.tell_load()
    await until(lambda: second.view.leads and not first.view.leads)
    await first.stop()
    await until(lambda: set(second.view.workers) == {2})
    assert office.gone == [1]


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
    first.tell_event({"id": "e"})
    await until(lambda: office.parties[2].events == [{"id": "e"}])
    first.tell_conferences({"daily": "b"})
    await until(lambda: second.view.conference("daily") == (1, "b"))
    office.fleet.settle("c", 2, [])
    office.control.settle("c", 2)
    await until(lambda: office.parties[1].homes == office.parties[2].homes == [("c", 2)])
    assert first.view.owner(["c"]) == 2
    assert office.parties[1].events == []


async def test_one_that_comes_later_is_told_whose_calls_are(office: Office) -> None:
    office.fleet.settle("c", 1, [])
    await office.enter(1)
    second = await office.enter(2)
    await until(lambda: second.view.owner(["c"]) == 1)


async def test_without_a_supervisor_nothing_is_granted_and_everybody_stops(office: Office) -> None:
    first = await office.enter(1)
    waiting = asyncio.create_task(first.claim("a"))
    await asyncio.sleep(0)
    await office.control.stop()
    async with asyncio.timeout(5):
        await first.lost.wait()
        assert not await waiting
        assert not await first.claim("b")
