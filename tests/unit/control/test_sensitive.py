"""Which parties sensitive mode covers, as calls meet and part; what is sent to other bridges."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.ari.model import ChannelUserevent
from bridge.calls.call import Call, CallEnded, Party, PartyChanged, PartyLeft
from bridge.calls.records import Records
from bridge.control.sensitive import EVENT_NAME, SensitiveMode
from bridge.events.hub import Event, Events
from tests.fakes.virtual_time import pass_time, until


class World:
    """Two calls of two parties each, and another bridge on the same Asterisk."""

    def __init__(self) -> None:
        self.calls = {name: make(name) for name in ("a", "b")}
        self.told: list[Event] = []
        self.sent: list[tuple[str, dict[str, str]]] = []
        self.lifted: list[str] = []
        events = Events(lambda: 0.0)
        events.subscribe(self.told.append)
        any_self: Any = self
        self.sensitive = SensitiveMode(any_self, any_self, Records(events, lambda: 0.0), events)
        self.sensitive.on_lifted = self.lifted.extend
        self.reviews = 0
        self.settlements = 0
        self.sensitive.settled = self._settle
        self.sensitive.on_change.append(self._reviewed)

    def _reviewed(self) -> None:
        self.reviews += 1

    async def _settle(self) -> None:
        self.settlements += 1

    async def settled_after(self, before: int) -> int:
        """Wait until recordings have been paused or resumed once more; how often by now."""
        await until(lambda: self.settlements > before)
        return self.settlements

    # The call tracker

    def subscribe(self, callback: Callable[[Any], object]) -> None:
        self.change = callback

    def find(self, identity: str) -> tuple[Call, Party] | None:
        for call in self.calls.values():
            for party in call.parties.values():
                if identity in (call.id, party.id):
                    return call, party
        return None

    # ARI

    app = "bridge"

    def on_event(self, _: str, callback: Callable[[Any], object]) -> None:
        self.hear = callback

    @property
    def applications(self) -> Any:
        async def names() -> list[Any]:
            return [SimpleNamespace(name=name) for name in ("bridge", "other")]

        return SimpleNamespace(list=names)

    @property
    def asterisk(self) -> Any:
        async def send(_: str, app: str, variables: dict[str, str]) -> None:
            self.sent.append((app, variables))

        return SimpleNamespace(user_event=send)

    def receive(self, **variables: str) -> None:
        self.hear(ChannelUserevent(type="ChannelUserevent", eventname=EVENT_NAME, userevent=variables))


def make(name: str) -> Call:
    parties = [Party(f"{name}{number}", number, bridge_id=f"bridge-{name}") for number in (1, 2)]
    return Call(name, "", {party.id: party for party in parties})


async def test_all_parties_of_the_call_and_nobody_else() -> None:
    world = World()
    await world.sensitive.start("a2", 60)
    assert [world.sensitive.covers(each) for each in ("a", "a1", "a2", "b", "b1", "?")] == [True] * 3 + [False] * 3
    assert world.sent == [("other", {"call_id": "a", "shown": "a", "timeout_s": "60.000"})]
    assert (world.reviews, world.lifted) == (1, [])
    await world.sensitive.stop("a")
    await world.sensitive.stop("a")
    assert not world.sensitive.covers("a")
    assert world.lifted == ["a1", "a2"]
    assert [(event.type, event.data) for event in world.told] == [
        ("sensitive_started", {"call_id": "a", "timeout": 60}),
        ("sensitive_ended", {"call_id": "a", "reason": "lifted"}),
    ]
    for act in (world.sensitive.start, world.sensitive.stop):
        with pytest.raises(KeyError):
            await act("?")


async def test_who_shares_a_bridge_with_a_party_is_covered_meanwhile() -> None:
    """In a room of the dialplan calls stay apart, and their parties hear each other."""
    world = World()
    await world.sensitive.start("a", 60)
    guest = world.calls["b"].parties["b1"]
    guest.bridge_id = "bridge-a"
    world.change(PartyChanged(world.calls["b"], guest, frozenset({"bridge_id"})))
    assert world.sensitive.covers("b1")
    assert world.sensitive.covers("b")
    assert not world.sensitive.covers("b2")
    await asyncio.sleep(0)
    assert world.reviews == 2
    guest.bridge_id = None
    assert not world.sensitive.covers("b1")
    await world.sensitive.close()


async def test_it_follows_parties_into_the_call_that_they_merge_with_and_ends_with_that() -> None:
    world = World()
    await world.sensitive.start("a", 60)
    first, second = world.calls["a"], world.calls["b"]
    del world.calls["a"]
    world.change(PartyLeft(first, first.parties["a1"], moved_to="b"))
    world.change(CallEnded(first, merged_into="b"))
    assert world.sensitive.covers("b2")
    del world.calls["b"]
    world.change(CallEnded(second))
    assert not world.sensitive.covers("b2")
    assert world.told[-1].data == {"call_id": "a", "reason": "call ended"}


async def test_it_times_out_counted_from_the_last_request() -> None:
    world = World()
    await world.sensitive.start("a", 30)
    await world.sensitive.start("a", 60)
    await pass_time(59)
    assert world.sensitive.covers("a")
    await pass_time(2)
    assert not world.sensitive.covers("a")
    assert [event.data.get("reason") for event in world.told] == [None, "timeout"]


async def test_recordings_follow_whatever_begins_or_ends_it() -> None:
    """Also what no request waits for: a party that joins a covered bridge, the timeout, the end of the call."""
    world = World()
    guest = world.calls["b"].parties["b1"]
    await world.sensitive.start("a", 60)
    before = world.settlements
    guest.bridge_id = "bridge-a"
    world.change(PartyChanged(world.calls["b"], guest, frozenset({"bridge_id"})))
    before = await world.settled_after(before)
    await world.sensitive.start("a", 0.01)
    before = max(world.settlements, before)
    before = await world.settled_after(before)
    assert not world.sensitive.covers("a")
    await world.sensitive.start("a", 60)
    before = await world.settled_after(before)
    await asyncio.sleep(0)
    before = world.settlements
    first = world.calls.pop("a")
    world.change(CallEnded(first))
    await world.settled_after(before)
    await world.sensitive.close()


async def test_what_another_bridge_sends_counts_here_and_one_that_asks_is_answered() -> None:
    world = World()
    world.receive(call_id="a", shown="a", timeout_s="30.0")
    assert world.sensitive.covers("a1")
    world.receive(ask="bridge")
    world.receive(ask="other")
    async with asyncio.timeout(5):
        while not world.sent:
            await asyncio.sleep(0)
    ((app, told),) = world.sent
    assert (app, told["call_id"]) == ("other", "a")
    assert 29 < float(told["timeout_s"]) <= 30
    for nonsense in ({}, {"call_id": "b"}, {"call_id": "b", "shown": "b", "timeout_s": "soon"}):
        world.receive(**nonsense)
    assert not world.sensitive.covers("b")
    world.receive(call_id="a", shown="a", timeout_s="0.000")
    assert not world.sensitive.covers("a1")
    await asyncio.sleep(0)
    await world.sensitive.close()
