"""The call model, fed with ARI's events of real calls (tests/wire/ari) and with awkward ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import msgspec
import pytest

from bridge.ari.model import Bridge, Caller, Channel, Dialplan, Event, decode_event
from bridge.calls.call import (
    CallAnswered,
    CallEnded,
    CallStarted,
    Change,
    PartyChanged,
    PartyJoined,
    PartyLeft,
    endpoint_of,
    is_party,
)
from bridge.calls.facts import call_facts
from bridge.calls.model import CallModel
from bridge.config import PbxConfig
from tests.unit.calls.pbx import Pbx
from tests.unit.calls.recordings import RECORDINGS, Step, feed, promptly, recorded


def story(changes: Iterator[Change] | list[Change]) -> list[str]:
    """Return what happened, without the parties' smaller changes."""
    lines = []
    for change in changes:
        match change:
            case PartyJoined() | PartyLeft():
                lines.append(f"{type(change).__name__} {change.party.endpoint}")
            case PartyChanged():
                if "state" in change.fields:
                    lines.append(f"{change.party.endpoint} {change.party.state}")
            case _:
                lines.append(type(change).__name__)
    return lines


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


# Single cases.


def channel(
    channel_id: str,
    name: str = "",
    state: str = "Up",
    created: str = "2026-01-31T12:00:00.000+0000",
    dialplan: Dialplan | None = None,
    linkedid: str = "",
) -> Channel:
    return Channel(
        id=channel_id,
        name=name or f"PJSIP/{channel_id}-0001",
        state=state,
        creationtime=created,
        caller=Caller(number=channel_id),
        dialplan=dialplan or Dialplan(app_name="Echo"),
        channelvars={"CHANNEL(linkedid)": linkedid} if linkedid else {},
    )


def created(one: Channel) -> Event:
    return decode_event(msgspec.json.encode({"type": "ChannelCreated", "channel": one}))


def destroyed(one: Channel) -> Event:
    return decode_event(
        msgspec.json.encode({"type": "ChannelDestroyed", "channel": one, "cause": 16, "cause_txt": "Normal Clearing"})
    )


@pytest.mark.parametrize(
    ("name", "endpoint"),
    [
        ("PJSIP/1001-0000002a", "1001"),
        ("PJSIP/trunk-a-0000002a", "trunk-a"),
        ("Local/600@from-internal-00000003;1", "600@from-internal"),
        ("DAHDI/i1/5551001-1", "i1/5551001"),
        ("PJSIP/odd", "odd"),
        ("odd", ""),
    ],
)
def test_endpoints_are_read_from_names(name: str, endpoint: str) -> None:
    assert endpoint_of(name) == endpoint


@pytest.mark.parametrize(
    ("channel_id", "name", "wanted"),
    [
        ("1.1", "PJSIP/1001-01", True),
        ("1.1", "Local/x@y-01;1", True),
        ("ab-bridge-0011aabb-call-1", "PJSIP/1001-01", True),
        ("ab-bridge-0011aabb-media-1", "Local/x@y-01;1", False),
        ("ab-other_1-0011aabb-snoop-1", "Snoop/1.1-01", False),
        ("1.1", "Snoop/1.1-01", False),
        ("1.1", "AudioSocket/h:1-uuid", False),
        ("1.1", "UnicastRTP/h:1-0x1", False),
        ("1.1", "CBAnn/720-01;1", False),
        ("1.1", "Announcer/ARI-01;2", False),
        ("1.1", "Recorder/ARI-01;2", False),
    ],
)
def test_who_is_a_party(channel_id: str, name: str, wanted: bool) -> None:
    assert is_party(Channel(id=channel_id, name=name)) is wanted


def test_variables_that_hold_the_linkedid_save_the_question() -> None:
    model = CallModel()
    assert story(model.apply(created(channel("a", linkedid="a")), 5.0)) == [
        "CallStarted",
        "PartyJoined a",
        "CallAnswered",
    ]
    assert model.take_unplaced() == []
    assert model.calls["a"].answered_at == 5.0


def test_a_channel_without_a_call_is_found_nowhere_and_asked_for_once() -> None:
    model = CallModel()
    assert model.apply(created(channel("a")), 0) == []
    assert model.find("a") is None
    assert model.take_unplaced() == ["a"]
    assert model.take_unplaced() == []


def test_a_channel_that_ends_before_it_is_known_leaves_no_trace() -> None:
    model = CallModel()
    one = channel("a")
    model.apply(created(one), 0)
    assert model.apply(destroyed(one), 0) == []
    assert model.learn_linkedid("a", "a", 0) == []
    assert model.take_unplaced() == []
    assert not model.calls


def test_a_straggling_event_does_not_bring_an_ended_channel_back() -> None:
    model = CallModel()
    one = channel("a", linkedid="a")
    list(feed(model, [created(one), destroyed(one)]))
    straggler = decode_event(msgspec.json.encode({"type": "ChannelStateChange", "channel": one}))
    assert model.apply(straggler, 0) == []
    assert model.apply(created(one), 0) != []  # an id of somebody's own choice may be used again


def test_parties_are_in_order_of_creation_however_late_their_linkedid_comes() -> None:
    model = CallModel()
    for name in "abc":
        model.apply(created(channel(name)), 0)
    for name in "cab":
        model.learn_linkedid(name, "a", 0)
    (call,) = model.calls.values()
    assert list(call.parties) == ["a", "b", "c"]


def test_who_began_a_call_joins_it_first_even_if_the_others_linkedid_is_known_sooner() -> None:
    model = CallModel()
    model.apply(created(channel("a", state="Ring")), 0)
    model.apply(created(channel("b", state="Up")), 0)
    assert story(model.learn_linkedid("b", "a", 0)) == ["CallStarted", "PartyJoined a", "PartyJoined b"]
    assert model.learn_linkedid("a", "a", 0) == []


def test_local_halves_are_primary_only_among_themselves() -> None:
    model = CallModel()
    model.apply(created(channel("a", "Local/1002@x-01;1", linkedid="a")), 0)
    model.apply(created(channel("a;2", "Local/1002@x-01;2", linkedid="a")), 0)
    (call,) = model.calls.values()
    assert call.primary is not None
    assert call.primary.id == "a"
    model.apply(created(channel("b", linkedid="a")), 0)
    assert call.primary.id == "b"


def test_a_call_keeps_its_identity_when_it_meets_a_channel_of_ours() -> None:
    model = CallModel("bridge")
    model.apply(created(channel("a", linkedid="a")), 0)
    assert model.learn_linkedid("a", "ab-bridge-0011aabb-media-1", 0) == []
    assert list(model.calls) == ["a"]


def test_a_merged_call_is_still_found_under_its_old_id() -> None:
    model = CallModel()
    for name in ("old.1", "new.2"):  # new.1, which began the second call, has gone: it transferred it
        model.apply(created(channel(name)), 0)
    model.learn_linkedid("old.1", "old.1", 0)
    model.learn_linkedid("new.2", "new.1", 0)
    changes = model.learn_linkedid("new.2", "old.1", 0)
    assert [type(change) for change in changes] == [PartyLeft, PartyJoined, CallEnded]
    assert isinstance(changes[-1], CallEnded)
    assert changes[-1].merged_into == "old.1"
    found = model.find("new.1")
    assert found is not None
    assert found[0].id == "old.1"


def test_reconcile_finds_what_began_changed_and_ended_in_a_gap() -> None:
    model = CallModel("bridge")
    stays, ends = channel("stays", state="Ring", linkedid="stays"), channel("ends", linkedid="ends")
    list(feed(model, [created(stays), created(ends)]))
    inside = Dialplan(context="c", exten="750", app_name="Stasis", app_data="bridge,750")
    changes = model.reconcile(
        [channel("2.10"), channel("2.9", dialplan=inside), channel("stays"), channel("snoop", "Snoop/stays-01")],
        {"2.9": "2.9", "2.10": "2.9", "stays": "stays"},
        [Bridge(id="b", channels=["2.9", "2.10", "elsewhere"])],
        now=7.0,
    )
    assert story(changes) == [
        "PartyLeft ends",
        "CallEnded",
        "stays Up",
        "CallAnswered",
        "CallStarted",
        "PartyJoined 2.9",
        "CallAnswered",
        "PartyJoined 2.10",
    ]
    new = model.calls["2.9"]
    assert new.primary is not None
    assert (new.primary.id, new.primary.in_stasis, new.primary.bridge_id) == ("2.9", True, "b")
    assert not new.parties["2.10"].in_stasis
    assert new.answered_at == 7.0
    assert model.take_unplaced() == []


def test_reconcile_with_what_is_known_already_changes_nothing() -> None:
    model = CallModel("bridge")
    one = channel("a", linkedid="a")
    model.apply(created(one), 0)
    assert model.reconcile([one], {"a": "a"}, [], 0) == []


def test_reconcile_leaves_a_channel_without_linkedid_to_be_asked_for() -> None:
    model = CallModel("bridge")
    assert model.reconcile([channel("a")], {"a": ""}, [], 0) == []
    assert model.take_unplaced() == ["a"]


def test_a_destroyed_bridge_holds_nobody() -> None:
    model = CallModel()
    one = channel("a", linkedid="a")
    entered = {"type": "ChannelEnteredBridge", "channel": one, "bridge": {"id": "b", "channels": ["a"]}}
    ended = {"type": "BridgeDestroyed", "bridge": {"id": "b", "channels": ["a"]}}
    list(feed(model, [decode_event(msgspec.json.encode(raw)) for raw in (entered, ended)]))
    assert model.calls["a"].parties["a"].bridge_id is None
    assert not model.bridges


def test_merged_bridges_take_their_channels_along() -> None:
    model = CallModel()
    one = channel("a", linkedid="a")
    entered = {"type": "ChannelEnteredBridge", "channel": one, "bridge": {"id": "from", "channels": ["a"]}}
    merged = {"type": "BridgeMerged", "bridge": {"id": "to", "channels": ["a"]}, "bridge_from": {"id": "from"}}
    left = {"type": "ChannelLeftBridge", "channel": one, "bridge": {"id": "from"}}
    list(feed(model, [decode_event(msgspec.json.encode(raw)) for raw in (entered, merged, left)]))
    assert model.calls["a"].parties["a"].bridge_id == "to"
    assert list(model.bridges) == ["to"]


def test_memory_of_ended_channels_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.calls.aliases.MAX_REMEMBERED", 10)
    model = CallModel()
    for number in range(50):
        one = channel(f"c{number}", linkedid=f"c{number}")
        list(feed(model, [created(one), destroyed(one)]))
    assert len(model._gone) == 10


def test_a_phone_that_picks_up_anothers_call_is_of_its_own_call_until_then_and_that_is_not_answered() -> None:
    pbx = Pbx()
    pbx.comes("a", "PJSIP/1001-1", "from-internal", "1002", "1001")
    pbx.at("a", "from-internal,1002,1", "Dial", "PJSIP/1002")
    pbx.new("b", "PJSIP/1002-2", number="1002")
    pbx.dial("a", "b", "1002")
    pbx.comes("c", "PJSIP/1003-3", "from-internal", "*8", "1003")
    pbx.channels["c"]["channelvars"]["CHANNEL(linkedid)"] = "c"
    pbx.event("ChannelStateChange", channel=pbx.channels["c"])
    answered: list[str] = []

    def note() -> None:
        answered.extend(change.call.id for change in pbx.changes if isinstance(change, CallAnswered))

    pbx.up("c")
    note()
    pbx.at("c", "from-internal,1002,1", "AppDial", "(Outgoing Line)")
    note()
    pbx.dial("a", "c", "")
    note()
    pbx.up("a")
    note()
    assert answered == ["a"]
    pbx.joins("bridge", "c", "a")
    note()
    pbx.channels["c"]["channelvars"]["CHANNEL(linkedid)"] = "a"
    pbx.event("ChannelConnectedLine", channel=pbx.channels["c"])
    pbx.gone("b")
    assert answered == ["a"]
    facts = call_facts(pbx.call, PbxConfig())
    assert (facts.caller, facts.callee, facts.direction) == ("1001", "1003", "internal")


def test_whom_a_local_channel_stands_for() -> None:
    pbx = Pbx()
    pbx.comes("a", "PJSIP/1001-1", "from-internal", "1002", "1001")
    for half in (";1", ";2"):
        pbx.new(f"l{half}", f"Local/_attended@transfer-1{half}")
    parties, behind = pbx.call.parties, pbx.model.person_behind
    assert behind(parties["l;2"]).id == "l;2"  # nobody yet
    pbx.joins("conference", "l;2", creator="Stasis", kind="stasis")
    pbx.joins("basic", "a", "l;1")
    pbx.channels["l;2"]["channelvars"]["CHANNEL(linkedid)"] = "older"  # that of the conference's other members
    pbx.event("ChannelConnectedLine", channel=pbx.channels["l;2"])
    member = pbx.model.member("l;2")
    assert member is not None
    assert [behind(each).id for each in (member[1], parties["a"])] == ["a", "a"]
