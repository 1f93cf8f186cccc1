"""The call model, fed with awkward events."""

from __future__ import annotations

import msgspec
import pytest

from bridge.ari.model import Bridge, Caller, Channel, Dialplan, Event, decode_event
from bridge.calls.call import (
    CallAnswered,
    CallEnded,
    PartyJoined,
    PartyLeft,
    endpoint_of,
    is_party,
)
from bridge.calls.facts import call_facts
from bridge.calls.model import CallModel
from bridge.config import PbxConfig
from tests.unit.calls.pbx import Pbx
from tests.unit.calls.recordings import feed
from tests.unit.calls.stories import story


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
    monkeypatch.setattr("bridge.calls.model.MAX_GONE", 10)
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
