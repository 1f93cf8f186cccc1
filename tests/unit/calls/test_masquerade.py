"""A channel takes the place of another in its bridge, which Asterisk reports only by the creation times.

The events are those of Asterisk 22.10 when a desk phone (``d1`` talks with Alice, ``d2`` with Carol) transfers Alice to
Carol within milliseconds of Carol's answer, before its own second channel has entered the bridge.
"""

from __future__ import annotations

import pytest

from tests.unit.calls.pbx import Pbx

ALICE, CAROL = "PJSIP/1001-1", "PJSIP/1003-3"


@pytest.fixture
def pbx() -> Pbx:
    """Alice talks with the desk phone, which has another call with Carol."""
    pbx = Pbx()
    for one, number, peer, name in (("d1", "1001", "alice", ALICE), ("d2", "1003", "carol", CAROL)):
        pbx.comes(one, f"PJSIP/1004-{one}", "from-internal", number, "1004", **{"CHANNEL(linkedid)": one})
        pbx.new(peer, name, **{"CHANNEL(linkedid)": one})
        pbx.dial(one, peer, number)
        pbx.up(peer, one)
    for second, channel in enumerate(pbx.channels.values()):
        channel["creationtime"] = f"2026-01-31T12:00:0{second}.000+0000"
        pbx.event("ChannelDialplan", channel=channel)
    pbx.joins("first", "d1", "alice")
    pbx.bridges["first"]["channels"] = ["d1"]
    pbx.event("ChannelLeftBridge", channel=pbx.channels["alice"], bridge=pbx.bridges["first"])
    pbx.joins("second", "carol", "d2")
    return pbx


def exchange(pbx: Pbx) -> None:
    """Report that Alice's channel has taken the place of the desk phone's."""
    alice, desk = pbx.channels["alice"], pbx.channels["d2"]
    alice["creationtime"], desk["creationtime"] = desk["creationtime"], alice["creationtime"]
    pbx.at("alice", "from-internal,1003,1", "Dial", "PJSIP/1003,30")
    pbx.at("d2", "from-internal,1001,1", "AppDial", "(Outgoing Line)")


def test_the_party_is_in_the_bridge_and_in_one_call_with_the_other_party(pbx: Pbx) -> None:
    pbx.gone("d1")
    exchange(pbx)
    call, alice = pbx.model.find("alice") or pytest.fail("no call")
    assert (call.id, list(call.parties)) == ("d1", ["alice", "carol"]), "the older of the two calls continues"
    assert {party.bridge_id for party in call.parties.values()} == {"second"}
    assert sorted(pbx.model.bridges["second"].channels) == ["alice", "carol"]
    assert pbx.model.find("d2") == (call, alice), "the id of the other channel leads to the one in its place"


def test_the_other_channel_leaves_nothing_when_it_ends(pbx: Pbx) -> None:
    pbx.gone("d1")
    exchange(pbx)
    pbx.gone("d2")
    assert list(pbx.model.calls) == ["d1"]
    pbx.event("ChannelConnectedLine", channel=pbx.channels["carol"])  # still with the former linkedid
    assert list(pbx.model.calls) == ["d1"]
    pbx.gone("carol", "alice")
    assert not pbx.model.calls


def test_a_channel_that_was_in_no_bridge_only_gets_another_application(pbx: Pbx) -> None:
    """A caller who is transferred to an application, as in most attended transfers."""
    pbx.bridges["second"]["channels"] = ["carol"]
    pbx.event("ChannelLeftBridge", channel=pbx.channels["d2"], bridge=pbx.bridges["second"])
    before = {call.id: list(call.parties) for call in pbx.model.calls.values()}
    exchange(pbx)
    assert {call.id: list(call.parties) for call in pbx.model.calls.values()} == before
