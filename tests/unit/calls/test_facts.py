"""Facts of calls: of recorded ones over time, of events as FreePBX's dialplan makes them, and single rules."""

from __future__ import annotations

import pytest

from bridge.calls.call import MAX_FORMER, Call, Party, PartyChanged
from bridge.calls.facts import call_facts, party_facts, real_parties, role_of
from bridge.calls.model import CallModel
from bridge.config import PbxConfig
from bridge.patterns import Patterns
from tests.fakes.work import calls_in
from tests.unit.calls.pbx import NAMING, Pbx
from tests.unit.calls.recorded_facts import FACTS
from tests.unit.calls.recordings import RECORDINGS, feed, promptly, recorded


def facts_line(call: Call, naming: PbxConfig = NAMING) -> str:
    """``inbound 5550100>1002 did=5551003 queue | trunk-a=5550100/queue (1002/queue)``: brackets mean being rung."""
    facts = call_facts(call, naming)
    parts = [facts.direction, f"{facts.caller}>{facts.callee}", f"did={facts.did}" if facts.did else "", facts.callflow]
    parts.append("|")
    for party in real_parties(call):
        one = party_facts(call, party, naming)
        text = one.endpoint if one.number == one.endpoint else f"{one.endpoint}={one.number}"
        text += f"/{one.callflow}" if one.callflow else ""
        parts.append(f"({text})" if party.dialed and party.state != "Up" else text)
    return " ".join(part for part in parts if part)


def facts_over_time(name: str) -> list[str]:
    model = CallModel("bridge")
    last: dict[str, str] = {}
    lines = []
    for step in promptly(name):
        list(feed(model, [step]))
        for call in model.calls.values():
            if last.get(call.id) != (line := facts_line(call)):
                last[call.id] = line
                lines.append(line)
    return lines


@pytest.mark.parametrize("name", FACTS)
def test_facts_of_a_recorded_call(name: str) -> None:
    assert facts_over_time(name) == FACTS[name]


@pytest.mark.parametrize("name", RECORDINGS)
def test_facts_can_be_asked_for_at_any_time_however_events_come(name: str) -> None:
    steps = recorded(name)
    for at in range(0, len(steps) - 1, 2):
        model = CallModel("bridge")
        for step in [*steps[at // 2 : at], steps[at + 1], steps[at], *steps[at + 2 :]]:
            list(feed(model, [step]))
            for call in model.calls.values():
                facts = call_facts(call, NAMING)
                assert facts.direction in ("inbound", "outbound", "internal")
                assert not facts.extensions & facts.trunks


@pytest.mark.parametrize("name", RECORDINGS)
def test_whenever_facts_change_a_change_is_told(name: str) -> None:
    model = CallModel("bridge")
    before: dict[str, str] = {}
    for step in promptly(name):
        changes = list(feed(model, [step]))
        now = {call.id: facts_line(call) for call in model.calls.values()}
        told = {change.call.id for change in changes}
        assert {call_id for call_id in now if before.get(call_id) != now[call_id]} <= told
        before = now


def test_who_is_rung_takes_part_when_he_has_answered() -> None:
    model = CallModel("bridge")
    rung, talking = set(), set()
    for step in promptly("ring_group"):
        list(feed(model, [step]))
        for call in model.calls.values():
            rung.add(call_facts(call, NAMING).ringing_extensions)
            talking.add(call_facts(call, NAMING).extensions)
    assert frozenset({"1002", "1003"}) in rung
    assert frozenset({"1001", "1002"}) in talking
    assert not any("1003" in extensions for extensions in talking)


def test_outside_numbers_and_endpoints_of_a_call_by_trunk() -> None:
    model = CallModel("bridge")
    steps = promptly("queue_agent_transfers")
    for step in steps[:16]:
        list(feed(model, [step]))
    (call,) = model.calls.values()
    facts = call_facts(call, NAMING)
    assert facts.did == "5551003"
    assert facts.dids == {"5551003"}
    assert facts.trunks == {"trunk-a"}
    agent = next(party for party in call.parties.values() if party.endpoint == "1002")
    assert party_facts(call, agent, NAMING).role == "extension"
    assert party_facts(call, agent, NAMING).did == ""


@pytest.fixture
def pbx() -> Pbx:
    return Pbx()


def incoming(pbx: Pbx, **variables: str) -> None:
    """Let a call arrive by a trunk whose name looks like an extension, and enter FreePBX's first contexts."""
    pbx.comes("in", "PJSIP/4930123-0001", "from-pstn", "4930123456", "491701234", **variables)
    pbx.at("in", "from-pstn,4930123456,1", "Set", "__DIRECTION=INBOUND")
    pbx.at("in", "sub-record-check,s,1", "Return")


def test_freepbx_ring_group_of_one(pbx: Pbx) -> None:
    incoming(pbx)
    assert facts_line(pbx.call) == "inbound 491701234>4930123456 did=4930123456 | 4930123=491701234"
    pbx.at("in", "ext-group,600,1", "Gosub", "macro-user-callerid,s,1()")
    assert pbx.flow("in") == "ringgroup"
    pbx.at("in", "macro-dial,s,7", "Dial", "Local/1002@from-internal/n,20,Ttr")
    phone = pbx.agent(1002, "from-internal", "AppDial")
    assert pbx.flow(phone) == "ringgroup"
    pbx.up(phone, "l1002.2", "l1002.1", "in")
    pbx.joins("inner", phone, "l1002.2")
    pbx.joins("outer", "l1002.1", "in")
    expected = "inbound 491701234>1002 did=4930123456 ringgroup | 4930123=491701234/ringgroup 1002/ringgroup"
    assert facts_line(pbx.call) == expected
    pbx.joins("outer", phone)
    pbx.gone("l1002.2", "l1002.1")  # taken out of the way
    assert facts_line(pbx.call) == expected


def test_freepbx_queue_then_menu_when_nobody_answers(pbx: Pbx) -> None:
    incoming(pbx)
    pbx.up("in")
    pbx.at("in", "ext-queues,700,1", "Answer")
    assert pbx.flow("in") == "queue"
    pbx.at("in", "sub-record-check,s,3", "Return")
    assert pbx.flow("in") == "queue"
    pbx.at("in", "ext-queues,700,22", "Queue", "700,t,,,,,,,,")
    phone = pbx.agent(1002)
    assert facts_line(pbx.call).endswith("queue | 4930123=491701234/queue (1002/queue)")
    pbx.gone(phone, "l1002.2", "l1002.1")
    pbx.at("in", "ivr-3,s,1", "Answer")
    assert pbx.flow("in") == "ivr"


def test_freepbx_menu_to_extension_and_to_voicemail(pbx: Pbx) -> None:
    incoming(pbx)
    pbx.up("in")
    flows = []
    for place, app, data in (
        ("ivr-3,s,1", "Answer", ""),
        ("ivr-3,s,9", "BackGround", "custom/hello"),
        ("sub-ivr-log,s,1", "Return", ""),
        ("ivr-3,s,10", "WaitExten", "10"),
        ("ext-local,1002,1", "Set", "__RINGTIMER=15"),
        ("macro-exten-vm,s,1", "Gosub", "macro-dial-one,s,1()"),
        ("macro-dial-one,s,56", "Dial", "PJSIP/1002,,tTri"),
        ("ivr-3,*,1", "VoiceMailMain", ""),
    ):
        pbx.at("in", place, app, data)
        flows.append(pbx.flow("in"))
    assert flows == ["ivr"] * 4 + [""] * 4


def test_freepbx_outbound_call_shows_its_extension_and_the_number_that_was_called(pbx: Pbx) -> None:
    pbx.comes("in", "PJSIP/1001-0001", "from-internal", "900491701234", "1001")
    pbx.at("in", "macro-dialout-trunk,s,20", "Set", "x=y", caller={"number": "4930123456"})
    pbx.at("in", "macro-dialout-trunk,s,28", "Dial", "PJSIP/00491701234@provider,300,T")
    pbx.new("out", "PJSIP/provider-0002", "from-trunk-pjsip-provider", number="")
    pbx.dial("in", "out", "00491701234@provider")
    facts = call_facts(pbx.call, NAMING)
    assert (facts.direction, facts.caller, facts.callee) == ("outbound", "1001", "00491701234")
    assert facts.extensions == {"1001"}
    assert not facts.trunks
    assert facts.ringing_trunks == {"provider"}
    pbx.up("out")
    assert call_facts(pbx.call, NAMING).trunks == {"provider"}
    pbx.gone("out")
    assert call_facts(pbx.call, NAMING).direction == "outbound"
    assert call_facts(pbx.call, NAMING).callee == "00491701234"


@pytest.mark.parametrize(
    ("place", "data", "flow"),
    [
        ("from-internal,730,1", "PJSIP/1002&PJSIP/1003,30", "ringgroup"),
        ("from-internal,1002,1", "PJSIP/1002/sip:a@h:5060&PJSIP/1002/sip:b@h:5061,30", ""),
        ("macro-dial-one,s,56", "PJSIP/1002&PJSIP/991002,,tTri", ""),  # a phone and a browser of one person
        ("ext-findmefollow,FM1002,9", "Local/1002@from-internal&Local/5550100@from-internal,20", ""),
        ("from-internal,1002,1", "PJSIP/1002,30,L(60000&)", ""),
        ("from-internal,750,1", "MulticastRTP/basic/239.0.0.1:5000", "multicast_paging"),
        ("app-pagegroups,750,1", "PJSIP/1002&PJSIP/1003,30", "multicast_paging"),
    ],
)
def test_who_is_dialed_makes_a_ring_group_or_not(pbx: Pbx, place: str, data: str, flow: str) -> None:
    pbx.comes("in", "PJSIP/1001-0001", "from-internal", "1002", "1001")
    pbx.at("in", "ext-local,1002,1" if place.startswith("macro-") else "from-internal,1002,1", "Set", "a=b")
    pbx.at("in", place, "Dial", data)
    assert pbx.flow("in") == flow


def test_a_mobile_that_rings_along_makes_no_outbound_call_until_it_answers(pbx: Pbx) -> None:
    pbx.comes("in", "PJSIP/1001-0001", "from-internal", "1002", "1001")
    pbx.at("in", "ext-findmefollow,FM1002,9", "Dial", "Local/1002@from-internal&Local/5550100@from-internal,20")
    pbx.agent(1002, "from-internal", "AppDial")
    pbx.new("out", "PJSIP/provider-0002", "from-trunk")
    pbx.dial("in", "out", "5550100@provider")
    assert call_facts(pbx.call, NAMING).direction == "internal"
    assert call_facts(pbx.call, NAMING).callee == "1002"
    pbx.up("out")
    assert call_facts(pbx.call, NAMING).direction == "outbound"
    assert call_facts(pbx.call, NAMING).callee == "5550100"


def test_a_queue_caller_who_is_parked_and_taken_up_is_in_no_queue(pbx: Pbx) -> None:
    pbx.comes("in", "PJSIP/trunk-a-0001", "from-trunk", "5551003", "5550100")
    pbx.at("in", "from-trunk,5551003,2", "Queue", "support")
    pbx.new("agent", "PJSIP/1002-0002", number="1002")
    pbx.dial("in", "agent", "PJSIP/1002", "AppQueue")
    pbx.up("in", "agent")
    pbx.joins("talk", "in", "agent")
    assert (pbx.flow("in"), pbx.flow("agent")) == ("queue", "queue")
    pbx.joins("lot", "in", creator="Parking", kind="parking")
    pbx.gone("agent")
    assert pbx.flow("in") == ""
    pbx.comes("other", "PJSIP/1003-0003", "parkedcalls", "801", "1003")
    pbx.up("other")
    pbx.joins("taken-up", "in", "other")
    assert (pbx.flow("in"), pbx.flow("other")) == ("", "")
    assert call_facts(pbx.call, NAMING).callee == "1003"


def test_who_is_transferred_into_a_conference_is_in_it(pbx: Pbx) -> None:
    pbx.comes("in", "PJSIP/1001-0001", "from-internal", "1002", "1001")
    pbx.at("in", "from-internal,1002,1", "Dial", "PJSIP/1002,30")
    pbx.joins("room", "in", creator="ConfBridge", kind="base")
    assert pbx.flow("in") == "conference"


def test_a_caller_beyond_a_local_channel_is_in_what_the_local_channel_is_in(pbx: Pbx) -> None:
    pbx.comes("in", "PJSIP/1001-0001", "from-internal", "8", "1001")
    pbx.at("in", "from-internal,8,1", "Dial", "Local/s@ivr-3/n")
    pbx.new("l.1", "Local/s@ivr-3-01;1")
    pbx.new("l.2", "Local/s@ivr-3-01;2", "ivr-3", "s", "Ring")
    pbx.dial("in", "l.1", "s@ivr-3/n")
    pbx.at("l.2", "ivr-3,s,2", "BackGround", "hello")
    pbx.up("in", "l.1", "l.2")
    pbx.joins("b", "in", "l.1")
    assert facts_line(pbx.call) == "internal 1001>8 ivr | 1001/ivr"


def test_a_call_flow_designer_is_known_by_its_contexts_only(pbx: Pbx) -> None:
    pbx.comes("in", "PJSIP/1001-0001", "from-internal", "8", "1001")
    pbx.at("in", "flow-7,s,1", "Playback", "hello")
    assert pbx.flow("in") == ""
    assert pbx.flow("in", PbxConfig(cfd_contexts=Patterns(("flow-*",)))) == "cfd"


def test_who_is_called_by_a_click_is_the_callee(pbx: Pbx) -> None:
    pbx.new("in", "PJSIP/1001-0001", number="1001")
    pbx.at("in", "from-internal,s,1", "AppDial2", "(Outgoing Line)")
    pbx.up("in")
    pbx.at("in", "from-internal,1002,1", "Dial", "PJSIP/1002,30")
    assert facts_line(pbx.call) == "internal 1001>1002 | 1001"
    placed = Pbx()
    placed.new("out", "PJSIP/trunk-a-0001", "from-trunk")
    placed.event("Dial", peer=placed.channels["out"], dialstring="trunk-a/sip:5550100@provider.example;user=phone")
    placed.new("1001", "PJSIP/1001-0002", number="1001")
    assert facts_line(placed.call).startswith("outbound 1001>5550100 |")


@pytest.mark.parametrize(
    ("context", "exten", "variables", "did"),
    [
        ("from-trunk", "5551001", {}, "5551001"),
        ("from-trunk", "5551001", {"CALLERID(dnid)": "account7"}, "5551001"),
        ("from-trunk", "s", {"CALLERID(dnid)": "5551001"}, "5551001"),
        ("from-trunk", "account7", {"FROM_DID": "5551001"}, "5551001"),
        ("from-trunk", "s", {"CALLERID(dnid)": "s"}, ""),
    ],
)
def test_did_of_a_call(pbx: Pbx, context: str, exten: str, variables: dict[str, str], did: str) -> None:
    pbx.comes("in", "PJSIP/trunk-a-0001", context, exten, "5550100", **variables)
    pbx.at("in", "ivr-main,s,1", "Answer")
    assert party_facts(pbx.call, pbx.call.parties["in"], NAMING).did == did
    assert call_facts(pbx.call, NAMING).dids == ({did} if did else set())


def test_a_call_that_was_there_before_us_has_no_did_that_it_may_have_left() -> None:
    def seen_late(context: str, exten: str, **variables: str) -> str:
        late = Pbx()
        late.channels["in"] = {"id": "in", "name": "PJSIP/trunk-a-0001", "state": "Up"}
        late.channels["in"]["channelvars"] = {"CHANNEL(linkedid)": "in", **variables}
        late.at("in", f"{context},{exten},1", "Dial", "PJSIP/1001")
        return call_facts(late.call, NAMING).did

    assert seen_late("from-internal", "1001") == ""
    assert seen_late("from-trunk", "5551001") == "5551001"
    assert seen_late("from-internal", "1001", **{"CALLERID(dnid)": "5551001"}) == "5551001"


@pytest.mark.parametrize(
    ("naming", "endpoint", "context", "role"),
    [
        (NAMING, "1001", "from-internal", "extension"),
        (NAMING, "trunk-a", "from-internal", "trunk"),
        (NAMING, "4930123", "from-pstn", "trunk"),
        (NAMING, "4930123", "from-trunk-sip-4930123", "trunk"),
        (NAMING, "i1/5551001", "from-dahdi", "trunk"),
        (PbxConfig(trunks=Patterns(("provider*",))), "provider-1", "x", "trunk"),
        (PbxConfig(trunks=Patterns(("provider*",))), "alice", "x", "extension"),
        (PbxConfig(extensions=Patterns(("[a-z]*",))), "alice", "x", "extension"),
        (PbxConfig(extensions=Patterns(("[a-z]*",))), "77", "x", "trunk"),
        (PbxConfig(trunks=Patterns(("t*",)), extensions=Patterns(("1*",))), "door", "x", "other"),
        (PbxConfig(trunks=Patterns(("10*",)), extensions=Patterns(("1*",))), "1001", "x", "trunk"),
        (PbxConfig(extensions=Patterns(("1001",))), "1001", "from-trunk", "extension"),
    ],
)
def test_roles(naming: PbxConfig, endpoint: str, context: str, role: str) -> None:
    assert role_of(naming, endpoint, context) == role


def test_an_old_linkedid_in_a_snapshot_is_no_news(pbx: Pbx) -> None:
    pbx.comes("b", "PJSIP/1003-0003", "from-internal", "801", "1003")
    pbx.model.learn_linkedid("b", "a", 0.0)
    pbx.at("b", "from-internal,801,1", "ParkedCall", "801")
    assert pbx.call.id == "a"
    pbx.channels["b"]["channelvars"]["CHANNEL(linkedid)"] = "older"
    pbx.up("b")
    assert pbx.call.id == "older"


def test_what_a_party_has_become_is_told_as_a_change(pbx: Pbx) -> None:
    pbx.comes("in", "PJSIP/1001-0001", "from-internal", "8", "1001")
    pbx.at("in", "from-internal,740,1", "Page", "PJSIP/1002")
    pbx.at("in", "from-internal,740,1", "ConfBridge", "123")
    assert isinstance(pbx.changes[0], PartyChanged)
    assert {"app_name", "outer_app"} <= pbx.changes[0].fields
    assert pbx.flow("in") == "multicast_paging"
    pbx.at("in", "from-internal,740,2", "ConfBridge", "123")
    assert pbx.flow("in") == "conference"


def test_parties_that_left_are_remembered_in_bounded_number_the_ones_who_talked_longest() -> None:
    call = Call("a", "")
    for order in range(3 * MAX_FORMER):
        party = Party(str(order), order, state="Up" if order % MAX_FORMER == 0 else "Ringing")
        call.add(party)
        call.remove(party)
    assert len(call.former) == MAX_FORMER
    assert {party.id for party in call.former if party.state == "Up"} == {"0", str(MAX_FORMER), str(2 * MAX_FORMER)}
    assert call.first is not None
    assert call.first.id == "0"


def test_facts_of_a_page_to_many_phones_cost_little(pbx: Pbx) -> None:
    pbx.comes("in", "PJSIP/1000-0001", "from-internal", "740", "1000")
    pbx.at("in", "from-internal,740,1", "Page", "many")
    for number in range(1001, 1101):
        pbx.new(str(number), f"PJSIP/{number}-01", number=str(number))
        pbx.joins("room", str(number), creator="ConfBridge", kind="base")
    assert len(call_facts(pbx.call, NAMING).extensions | call_facts(pbx.call, NAMING).ringing_extensions) == 101
    assert calls_in(lambda: call_facts(pbx.call, NAMING)) < 150_000
