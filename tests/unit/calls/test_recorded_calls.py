"""The call model, fed with ARI's events of real calls (tests/wire/ari), complete and mangled."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from bridge.calls.call import (
    CallAnswered,
    CallEnded,
    CallStarted,
    Change,
    PartyChanged,
    PartyJoined,
    PartyLeft,
)
from bridge.calls.model import CallModel
from tests.unit.calls.recordings import RECORDINGS, Step, feed, promptly, recorded
from tests.unit.calls.stories import story


def test_an_extension_calls_another() -> None:
    model = CallModel("bridge")
    lines = story(feed(model, promptly("caller_hangs_up")))
    assert lines == [
        "CallStarted",
        "PartyJoined 1001",
        "PartyJoined 1002",
        "1002 Ringing",
        "1002 Up",
        "1001 Up",
        "CallAnswered",
        *lines[7:9],
        "CallEnded",
    ]
    assert set(lines[7:9]) == {"PartyLeft 1001", "PartyLeft 1002"}  # who is gone first, varies


def test_the_callee_hangs_up() -> None:
    lines = story(feed(CallModel("bridge"), promptly("callee_hangs_up")))
    assert set(lines[-3:-1]) == {"PartyLeft 1002", "PartyLeft 1001"}
    assert lines[-1] == "CallEnded"


def test_numbers_and_bridge_of_parties_while_they_talk() -> None:
    model = CallModel("bridge")
    talking = feed(model, promptly("caller_hangs_up"))
    while sum(party.bridge_id is not None for call in model.calls.values() for party in call.parties.values()) < 2:
        next(talking)
    (call,) = model.calls.values()
    caller, callee = call.parties.values()
    assert call.primary is caller
    assert (caller.endpoint, caller.caller_number, caller.connected_number) == ("1001", "1001", "1002")
    assert (callee.endpoint, callee.caller_number, callee.connected_number) == ("1002", "1002", "1001")
    assert (caller.context, caller.exten, caller.app_name) == ("from-internal", "1002", "Dial")
    assert caller.bridge_id == callee.bridge_id
    assert caller.bridge_id in model.bridges
    assert caller.created.startswith("20")
    assert model.find(call.id) == (call, caller)
    assert model.find(callee.id) == (call, callee)
    assert model.find("nobody") is None


def test_nobody_answers() -> None:
    lines = story(feed(CallModel("bridge"), promptly("not_registered")))
    assert lines[:2] == ["CallStarted", "PartyJoined 1001"]
    assert lines[-2:] == ["PartyLeft 1001", "CallEnded"]
    assert "CallAnswered" not in lines


def test_a_call_enters_and_leaves_our_application() -> None:
    model = CallModel("bridge")
    states = [
        change.party.in_stasis
        for change in feed(model, promptly("stasis_caller_hangs_up"))
        if isinstance(change, PartyChanged) and change.party.endpoint == "1001" and "in_stasis" in change.fields
    ]
    assert states == [True, False]


def test_an_ivr_leads_to_an_extension() -> None:
    model = CallModel("bridge")
    lines, apps = [], []
    for change in feed(model, promptly("ivr_then_extension")):
        lines += story([change])
        if isinstance(change, PartyChanged) and change.party.endpoint == "1001" and "app_name" in change.fields:
            apps.append(change.party.app_name)
    assert lines.count("CallAnswered") == 1
    assert lines.index("CallAnswered") < lines.index("PartyJoined 1002")
    assert apps == ["Goto", "Answer", "BackGround", "Goto", "Dial", *apps[5:]]


def test_a_queue_finds_an_agent() -> None:
    model = CallModel("bridge")
    seen = set()
    for change in feed(model, promptly("queue_agent_hangs_up")):
        if isinstance(change, PartyChanged):
            seen.add((change.party.endpoint, change.party.app_name, change.party.app_data.split(",")[0]))
    assert ("1001", "Queue", "support") in seen
    assert any(endpoint == "1002" and app == "AppQueue" for endpoint, app, _ in seen)


def test_members_of_a_conference_room_stay_in_their_own_calls() -> None:
    model = CallModel("bridge")
    most = 0
    lines = []
    for change in feed(model, promptly("conference_of_three")):
        lines += story([change])
        rooms = Counter(party.bridge_id for call in model.calls.values() for party in call.parties.values())
        most = max(most, *(count for room, count in rooms.items() if room is not None), 0)
    assert most == 3
    assert (lines.count("CallStarted"), lines.count("CallEnded")) == (3, 3)


@pytest.mark.parametrize(
    ("recording", "caller", "callee", "context"),
    [
        ("trunk_to_did", "trunk-a", "1001", "from-trunk"),
        ("out_by_trunk", "1001", "trunk-a", "from-internal"),
    ],
)
def test_calls_by_trunk(recording: str, caller: str, callee: str, context: str) -> None:
    joined = [change.party for change in feed(CallModel(), promptly(recording)) if isinstance(change, PartyJoined)]
    assert [party.endpoint for party in joined] == [caller, callee]
    assert joined[0].context == context


def test_a_blind_transfer_leaves_the_call_the_same() -> None:
    model = CallModel("bridge")
    lines = story(feed(model, promptly("blind_transfer")))
    assert lines.count("CallStarted") == lines.count("CallEnded") == lines.count("CallAnswered") == 1
    assert lines.index("PartyLeft 1001") < lines.index("1003 Up") < lines.index("PartyLeft 1003")
    assert lines[-1] == "CallEnded"


def test_after_a_blind_transfer_the_one_who_stayed_is_primary() -> None:
    model = CallModel("bridge")
    for change in feed(model, promptly("blind_transfer")):
        if isinstance(change, PartyChanged) and change.party.endpoint == "1003" and change.party.state == "Up":
            break
    (call,) = model.calls.values()
    assert call.primary is not None
    assert call.primary.endpoint == "1002"
    assert call.answered
    assert model.find(call.id) == (call, call.primary)


def test_hold_is_seen() -> None:
    held = [
        (change.party.endpoint, change.party.on_hold)
        for change in feed(CallModel(), promptly("keys_and_hold"))
        if isinstance(change, PartyChanged) and "on_hold" in change.fields
    ]
    assert held == [("1001", True)]


def test_the_dialplans_own_audiosocket_channel_is_no_party() -> None:
    joined = [c.party for c in feed(CallModel(), promptly("dialplan_audiosocket")) if isinstance(c, PartyJoined)]
    assert [party.endpoint for party in joined] == ["1001"]


def test_calls_that_meet_in_a_bridge_merge() -> None:
    model = CallModel("bridge")
    moved: list[tuple[str, str | None]] = []
    asked: list[list[str]] = []
    for step in promptly("calls_merge"):
        changes = list(feed(model, [step]))
        moved += [(c.party.id, c.moved_to) for c in changes if isinstance(c, PartyLeft) and c.moved_to]
        asked += [unplaced] if (unplaced := model.take_unplaced()) else []
        if ("second", "first") in moved and model.calls:
            assert model.find("third") is not None
    assert moved[0] == ("third", "second")
    assert sorted(moved[1:]) == [("second", "first"), ("third", "first")]
    # Asked once at creation (six channels), then where calls meet: the newcomer and one other, then whom it concerns.
    assert all(len(unplaced) == 1 for unplaced in asked[:6])
    assert asked[6] == ["second", "third"]
    assert asked[7] in (["first", "second"], ["first", "third"])
    assert {channel_id for unplaced in asked[8:] for channel_id in unplaced} <= {"second", "third"}
    assert sum(map(len, asked[6:])) <= 6


def test_an_ordinary_call_costs_one_question_for_each_channel() -> None:
    for name in ("caller_hangs_up", "queue_agent_hangs_up", "conference_of_three", "blind_transfer"):
        model = CallModel("bridge")
        asked: list[str] = []
        for step in promptly(name):
            list(feed(model, [step]))
            asked += model.take_unplaced()
        assert len(asked) == len(set(asked)), name


# What must hold for every recording, however it is mangled.


@pytest.mark.parametrize("name", RECORDINGS)
def test_nothing_is_left_of_any_recorded_call(name: str) -> None:
    model = CallModel("bridge")
    check_order(list(feed(model, recorded(name))))
    assert not model.calls
    assert not model._parties
    assert not model._call_of
    assert not model._locals
    assert not [bridge for bridge in model.bridges.values() if bridge.creator != "Parking"]  # the car park stays


@pytest.mark.parametrize("name", RECORDINGS)
def test_linkedids_may_come_late(name: str) -> None:
    steps = recorded(name)
    for delay in (3, 10, len(steps)):
        model = CallModel("bridge")
        late: list[Step] = []
        waiting: list[tuple[int, Step]] = []
        for number, step in enumerate(steps):
            if isinstance(step, tuple):
                waiting.append((number + delay, step))
            else:
                late.append(step)
            while waiting and waiting[0][0] <= number:
                late.append(waiting.pop(0)[1])
        late += [step for _, step in waiting]
        check_order(list(feed(model, late)))
        assert not model.calls


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_event_may_come_twice(name: str) -> None:
    once = recorded(name)
    twice = [step for step in once for _ in range(2)]
    check_order(list(feed(CallModel("bridge"), twice)))
    assert story(feed(CallModel("bridge"), twice)) == story(feed(CallModel("bridge"), once))


@pytest.mark.parametrize("name", RECORDINGS)
def test_neighboring_events_may_be_swapped(name: str) -> None:
    steps = recorded(name)
    for at in range(len(steps) - 1):
        swapped = [*steps[:at], steps[at + 1], steps[at], *steps[at + 2 :]]
        model = CallModel("bridge")
        check_order(list(feed(model, swapped)))
        assert not model.calls


@pytest.mark.parametrize("name", RECORDINGS)
def test_the_beginning_may_be_missing(name: str) -> None:
    steps = recorded(name)
    linkedids: list[Step] = [step for step in steps if isinstance(step, tuple)]
    for start in range(1, len(steps), 3):
        model = CallModel("bridge")
        rest: list[Step] = []
        for step in steps[start:]:
            rest += [step, *linkedids]
        check_order(list(feed(model, rest)))
        assert not model.calls


@pytest.mark.parametrize("name", RECORDINGS)
def test_after_a_gap_an_empty_pbx_ends_every_call(name: str) -> None:
    steps = recorded(name)
    for end in range(len(steps)):
        model = CallModel("bridge")
        changes = list(feed(model, steps[:end]))
        changes += model.reconcile([], {}, [], now=99)
        check_order(changes)
        assert not model.calls
        assert not model._parties


def check_order(changes: list[Change]) -> None:
    """Check that calls start before they are joined, are answered once, and end exactly when the last party leaves."""
    running: dict[str, set[str]] = {}
    answered: set[int] = set()
    for change, following in pairwise([*changes, None]):
        call = change.call  # type: ignore[union-attr]
        match change:
            case CallStarted():
                assert call.id not in running
                running[call.id] = set()
                assert isinstance(following, PartyJoined)
                assert following.call is call
            case PartyJoined():
                assert change.party.id not in running[call.id]
                running[call.id].add(change.party.id)
            case PartyChanged():
                assert change.party.id in running[call.id]
                assert change.fields
            case PartyLeft():
                running[call.id].remove(change.party.id)
            case CallAnswered():
                assert id(call) not in answered
                answered.add(id(call))
                assert running[call.id]
            case CallEnded():
                assert running.pop(call.id) == set()
                assert call.primary is None
    assert all(running.values())
