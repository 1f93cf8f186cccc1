"""Deliveries: one for each subscription and call, through changes of either."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from bridge.calls.call import Call, CallEnded, PartyChanged, PartyJoined, PartyLeft
from bridge.calls.facts import CallFacts, call_facts
from bridge.config import PbxConfig
from bridge.patterns import Patterns
from tests.unit.streams.subscribed import World, party

LAYOUTS = ("parties", "both", "mix")


def test_a_changed_subscription_begins_anew_at_once_and_a_renamed_one_goes_on() -> None:
    world = World(dialect="yeastar", extensions=("1001",))
    call = world.call("c", party("1001"), party("1002", 2))
    world.subscriptions.consider(call)
    world.subscription = world.subscription.model_copy(update={"name": "another", "principal": "another"})
    world.subscriptions.reconsider([call])
    assert len(world.made) == 1
    world.subscription = world.subscription.model_copy(update={"url": "ws://y.example/"})
    world.subscriptions.reconsider([call])
    assert world.made[0].ended == "the subscription was switched off or changed"
    assert len(world.running) == 1
    assert len(world.running[0].tracks) == 2


def test_a_merge_of_calls_does_not_restart_the_stream() -> None:
    world = World(dialect="yeastar", extensions=("1001",))
    alice, bob = party("1001"), party("1002", 2)
    old, new = world.call("old", alice), world.call("new", bob)
    world.subscriptions.consider(old)
    del old.parties[alice.id]
    world.subscriptions.on_change(PartyLeft(old, alice, moved_to="new"))
    new.add(alice)
    world.subscriptions.on_change(PartyJoined(new, alice))
    world.subscriptions.on_change(CallEnded(old, merged_into="new"))
    assert len(world.made) == 1
    assert world.made[0].ended is None
    assert sorted(world.made[0].tracks) == [alice.name, bob.name]
    world.subscriptions.on_change(CallEnded(new))
    assert world.made[0].ended == "the call ended"


def test_a_trunk_that_only_rings_does_not_take_over_near_and_far() -> None:
    world = World(dialect="voxology", extensions=("1001",))
    call = world.call("c", party("1001"))
    world.subscriptions.consider(call)
    ringing = party("mobile-trunk", 2, state="Ringing")
    call.add(ringing)
    world.subscriptions.on_change(PartyJoined(call, ringing))
    assert len(world.made) == 1
    assert world.running[0].tracks == ["far", "near"]
    world.subscriptions.on_change(PartyChanged(call, ringing, frozenset({"state"})))
    assert len(world.running) == 1


@pytest.mark.parametrize("dialect", ["yeastar", "voxology", "twilio", "telnyx", "plivo", "exotel"])
def test_a_stream_outlasts_the_subscribed_extension_and_ends_with_the_call(dialect: str) -> None:
    """Transferred, parked and retrieved, or left to others: it is the same call."""
    world = World(dialect=dialect, extensions=("1002",))
    alice, bob, carol = party("1001"), party("1002", 2), party("1003", 3)
    call = world.call("c", alice, bob)
    world.subscriptions.consider(call)
    (stream,) = world.running
    del call.parties[bob.id]
    world.subscriptions.on_change(PartyLeft(call, bob))
    assert world.running == [stream], "the caller is alone, as in a parking lot"
    call.add(carol)
    world.subscriptions.on_change(PartyJoined(call, carol))
    world.subscriptions.reconsider([call])
    assert world.made == [stream]
    assert stream.tracks == ([alice.name, carol.name] if dialect == "yeastar" else stream.tracks)
    world.subscriptions.on_change(CallEnded(call))
    assert stream.ended == "the call ended"


def test_the_streams_of_a_conference_member_end_when_that_member_leaves() -> None:
    """Each member of a room has a call of their own."""
    world = World(dialect="yeastar", extensions=("1001",))
    members = [party("1001"), party("1002", 2)]
    for each in members:
        each.bridge_id, each.bridge_creator = "room", "ConfBridge"
    alices, bobs = (world.call(each.endpoint, each) for each in members)
    for call in (bobs, alices):
        world.subscriptions.consider(call)
    (stream,) = world.running
    assert sorted(stream.tracks) == [each.name for each in members]
    del alices.parties[members[0].id]
    world.subscriptions.on_change(CallEnded(alices))
    assert stream.ended == "the call ended"
    world.subscriptions.consider(bobs)
    assert world.running == []


def test_a_third_party_has_a_socket_of_its_own_and_its_end_ends_only_that() -> None:
    world = World(dialect="yeastar", extensions=("1001",))
    third = party("1003", 3)
    call = world.call("c", party("1001"), party("1002", 2), third)
    world.subscriptions.consider(call)
    assert [len(stream.tracks) for stream in world.made] == [2, 1]
    del call.parties[third.id]
    world.subscriptions.on_change(PartyLeft(call, third))
    assert [stream.ended for stream in world.made] == [None, "its parties have left"]


def test_what_matches_is_found_once_for_what_it_depends_on(monkeypatch: Any) -> None:
    """A call changes dozens of times; its numbers, and the subscriptions, hardly ever."""
    asked: list[str] = []

    class Counted(Patterns):
        def match(self, name: str) -> bool:
            asked.append(name)
            return super().match(name)

    world = World(dialect="yeastar", extensions=("1001",))
    world.subscription = world.subscription.model_copy(update={"extensions": Counted(("7*",))})
    enabled = (world.subscription,)
    monkeypatch.setattr(world.subscriptions._catalog, "enabled", lambda: enabled)
    call = world.call("c", party("1001"), party("1002", 2))
    for _ in range(20):
        world.subscriptions.consider(call)
    assert sorted(asked) == ["1001", "1002"]
    call.add(party("7001", 3))
    world.subscriptions.consider(call)
    assert world.made
    world.subscriptions.on_change(CallEnded(call))
    assert not world.subscriptions._matching


def test_facts_are_computed_once_for_each_change_of_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a conference room, where each member is a call, of the changed one only."""
    computed: list[str] = []

    def counted(call: Call, naming: PbxConfig) -> CallFacts:
        computed.append(call.id)
        return call_facts(call, naming)

    for name, module in tuple(sys.modules.items()):
        if name.startswith("bridge.streams.") and hasattr(module, "call_facts"):
            monkeypatch.setattr(module, "call_facts", counted)
    world = World(dialect="yeastar", extensions=("1001",))
    every = [
        world.subscription.model_copy(update={"id": f"s{n}", "tracks": tracks}) for n, tracks in enumerate(LAYOUTS)
    ]
    monkeypatch.setattr(world.subscriptions._catalog, "enabled", lambda: every)
    members = [party(f"100{n}", n) for n in range(1, 6)]
    for member in members:
        member.bridge_id, member.bridge_creator = "room", "ConfBridge"
    calls = [world.call(f"c{member.endpoint}", member) for member in members]
    for call in calls:
        world.subscriptions.consider(call)
    assert set(computed) == {call.id for call in calls}
    assert len(world.made) >= len(LAYOUTS)
    computed.clear()
    for _ in range(10):
        world.subscriptions.on_change(PartyChanged(calls[0], members[0], frozenset({"bridge_id"})))
    assert computed == [calls[0].id] * 10
    world.subscriptions.reconsider(calls)
    assert len(computed) == 10, "the calls have not changed"
    world.subscriptions.on_change(CallEnded(calls[0]))
    assert calls[0].id not in world.subscriptions._facts
