"""Callers who withhold their numbers, and whose number an originated call shows."""

from __future__ import annotations

import asyncio

import pytest

from bridge.calls.facts import call_facts
from bridge.calls.model import CallModel
from bridge.calls.tracker import CallTracker
from bridge.config import PbxConfig
from tests.fakes.ari_client import FakeAriClient
from tests.fakes.pbx import FakePbx
from tests.fakes.virtual_time import settle
from tests.unit.calls.pbx import Pbx

SECRET = "5557777"
PROHIBITED = "prohib_passed_screen"


class Private(Pbx):
    """A PBX of whose callers one withholds their number."""

    def __init__(self, presentation: str = "", *, withholds: bool = True) -> None:
        super().__init__()
        self.model = CallModel("bridge", withholds=withholds)
        variables = {"CALLERID(pres)": presentation} if presentation else {}
        # At its creation every number may be seen.
        allowed = dict.fromkeys(variables, "allowed_not_screened")
        self.comes("a", "PJSIP/trunk-a-1", "from-trunk", "5551001", SECRET, **allowed)
        assert self.model.calls == {} or not withholds
        self.channels["a"]["channelvars"] |= variables
        self.at("a", "from-trunk,5551001,1", "Dial", "PJSIP/1001")

    def calls_bob(self) -> None:
        self.new("b", "PJSIP/1001-2", number="1001")
        self.channels["b"]["connected"]["number"] = SECRET
        self.event("Dial", caller=self.channels["a"], peer=self.channels["b"], dialstring="1001")


@pytest.mark.parametrize("presentation", ["prohib", "prohib_not_screened", PROHIBITED, "prohib_failed_screen"])
def test_a_withheld_number_is_nowhere_in_the_call(presentation: str) -> None:
    pbx = Private(presentation)
    pbx.calls_bob()
    assert SECRET not in repr(pbx.call)
    assert call_facts(pbx.call, PbxConfig()).caller == ""


@pytest.mark.parametrize("presentation", ["allowed", "allowed_passed_screen", "unavailable"])
def test_a_number_that_is_not_withheld_is_shown(presentation: str) -> None:
    assert call_facts(Private(presentation).call, PbxConfig()).caller == SECRET


def test_a_withheld_number_is_shown_where_that_is_configured() -> None:
    assert call_facts(Private(PROHIBITED, withholds=False).call, PbxConfig()).caller == SECRET


def test_a_caller_is_in_no_call_before_it_is_known_whether_they_want_to_be_seen() -> None:
    pbx = Private()
    assert pbx.model.calls == {}
    assert pbx.model.take_unplaced() == ["a"]
    pbx.model.learn_linkedid("a", "a", 0.0, PROHIBITED)
    pbx.calls_bob()
    assert SECRET not in repr(pbx.call)


def test_who_was_quicker_to_be_called_forgets_the_number() -> None:
    pbx = Private()
    pbx.calls_bob()
    pbx.model.learn_linkedid("a", "a", 0.0, PROHIBITED)
    assert SECRET not in repr(pbx.call)


def test_who_was_called_does_not_show_the_number_when_the_caller_has_left() -> None:
    pbx = Private(PROHIBITED)
    pbx.calls_bob()
    pbx.event("ChannelDestroyed", channel=pbx.channels["a"], cause=16, cause_txt="Normal Clearing")
    pbx.event("ChannelHangupRequest", channel=pbx.channels["b"])
    assert SECRET not in repr(pbx.call)


def test_a_local_channel_that_calls_for_the_caller_does_not_show_the_number() -> None:
    pbx = Private(PROHIBITED)
    pbx.new("l1", "Local/600@queues-1;1", number="600")
    pbx.new("l2", "Local/600@queues-1;2", number=SECRET)
    assert SECRET not in repr(pbx.call)


@pytest.mark.parametrize("there_before", [False, True])
async def test_asterisk_is_asked_for_what_its_events_do_not_say(there_before: bool) -> None:
    pbx = FakePbx(with_variables=True)
    client = FakeAriClient(pbx)
    tracker = CallTracker(client)
    if not there_before:
        client.connect()
        await settle()
    channel = pbx.come("c", SECRET, "5551001", context="from-trunk", name="PJSIP/trunk-a-1")
    channel.variables["CALLERID(pres)"] = PROHIBITED
    if there_before:
        client.connect()
    async with asyncio.timeout(5):
        await tracker.wait_synced(5)
        while tracker.find("c") is None:
            await asyncio.sleep(0)
    found = tracker.find("c")
    assert found is not None
    assert SECRET not in repr(found[0]).replace("PJSIP", "")
    await tracker.close()


def test_an_originated_call_to_an_extension_says_as_whom_it_was_called() -> None:
    pbx = Pbx()
    pbx.new("ab-bridge-00000000-call-00000001", "PJSIP/1001-1", number="1001")
    (channel_id,) = pbx.channels
    pbx.channels[channel_id]["connected"]["number"] = "5551236"
    pbx.event("ChannelStateChange", channel=pbx.channels[channel_id])
    facts = call_facts(pbx.call, PbxConfig())
    assert (facts.direction, facts.caller, facts.callee) == ("outbound", "5551236", "1001")
    pbx.channels[channel_id]["connected"]["number"] = ""  # it is in a bridge with what has no number
    pbx.event("ChannelStateChange", channel=pbx.channels[channel_id])
    assert call_facts(pbx.call, PbxConfig()).caller == "5551236"
    pbx.new("b", "PJSIP/1002-2", number="1002")
    pbx.dial(channel_id, "b", "1002")
    pbx.channels["b"]["state"] = "Up"
    pbx.event("ChannelStateChange", channel=pbx.channels["b"])
    facts = call_facts(pbx.call, PbxConfig())
    assert (facts.direction, facts.caller, facts.callee) == ("internal", "1001", "1002"), "connected with somebody"
