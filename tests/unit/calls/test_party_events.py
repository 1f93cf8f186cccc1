"""Who joins and who leaves the calls of a real PBX, as events report it."""

from __future__ import annotations

import itertools

import pytest

from bridge.calls.call_json import full_call_json
from bridge.calls.model import CallModel
from bridge.calls.party_events import PartyEvents
from bridge.calls.records import Records
from bridge.events.hub import Event, Events
from tests.unit.calls.recordings import RECORDINGS, promptly


def replay(recording: str) -> list[Event]:
    """Return the events of a recorded day of the PBX."""
    events, told = Events(lambda: 0.0), list[Event]()
    events.subscribe(told.append)
    records = Records(events, lambda: 0.0)
    model = CallModel("bridge")
    records.show = lambda record: full_call_json(record, model.calls.get(record.id), 0)
    parties = PartyEvents(events, records)
    for step in promptly(recording):
        changes = model.learn_linkedid(*step, now=0.0) if isinstance(step, tuple) else model.apply(step, 0.0)
        for change in changes:
            records.on_change(change)
            parties.on_change(change)
        if not isinstance(step, tuple):
            records.on_event(step)
    return told


def moves(told: list[Event], call_id: str) -> list[tuple[str, str]]:
    return [
        (event.type.removeprefix("call_"), event.data["party"]["endpoint"])
        for event in told
        if event.type in ("call_joined", "call_left") and event.data["id"] == call_id
    ]


def first_call(told: list[Event]) -> str:
    return str(next(event.data["id"] for event in told if event.type == "call_created"))


def test_the_agent_of_a_queue_joins_its_caller_and_leaves() -> None:
    told = replay("with_variables_menu_to_queue")
    who = moves(told, first_call(told))
    joined = [endpoint for kind, endpoint in who if kind == "joined"]
    assert len(joined) == len(set(joined)) == 2, "each party once; halves of Local channels are none"
    assert {endpoint for kind, endpoint in who if kind == "left"} == set(joined)


def test_the_parties_of_a_call_are_in_its_events() -> None:
    told = replay("callee_hangs_up")
    call_id = first_call(told)
    assert moves(told, call_id)[:2] == [("joined", "1002"), ("joined", "1001")]
    second = [event for event in told if event.type == "call_joined"][1]
    assert {party["endpoint"] for party in second.data["parties"]} == {"1001", "1002"}
    (left, *_) = [event for event in told if event.type == "call_left"]
    assert (left.data["party"]["endpoint"], left.data["cause"], left.data["moved_to"]) == ("1002", 16, "")
    hangup = next(event for event in told if event.type == "call_hangup" and event.data["id"] == call_id)
    assert (hangup.data["parties"], hangup.data["streams"]) == ([], 0)


def test_a_party_that_moves_to_another_call_leaves_its_own() -> None:
    told = replay("park_and_take_up")
    moved = [event for event in told if event.type == "call_left" and event.data["moved_to"]]
    assert moved
    for left in moved:
        later = told[told.index(left) :]
        assert any(
            event.type == "call_joined"
            and event.data["id"] == left.data["moved_to"]
            and event.data["party"]["id"] == left.data["party"]["id"]
            for event in later
        )


@pytest.mark.parametrize("recording", RECORDINGS)
def test_nothing_follows_the_hangup_and_nobody_joins_twice(recording: str) -> None:
    told = replay(recording)
    for call_id in {str(event.data["id"]) for event in told if event.type == "call_hangup"}:
        types = [event.type for event in told if event.data.get("id") == call_id]
        assert types.index("call_hangup") == len(types) - 1
        for party, each in itertools.groupby(
            sorted(moves(told, call_id), key=lambda move: move[1]), key=lambda move: move[1]
        ):
            kinds = [kind for kind, _ in each]
            assert kinds.count("left") <= kinds.count("joined"), party
