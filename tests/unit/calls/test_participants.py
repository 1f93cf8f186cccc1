"""Who takes part in a call, now and once it has ended; along recorded events of an Asterisk."""

from __future__ import annotations

import pytest

from bridge.access import PartyNames
from bridge.calls.addresses import Address
from bridge.calls.call import Call, CallEnded, Party
from bridge.calls.call_record import CallRecord
from bridge.calls.model import CallModel
from bridge.calls.participants import MAX_REMEMBERED, Participants
from bridge.config import PbxConfig
from tests.unit.calls.recordings import RECORDINGS, feed, promptly


def names(*extensions: str, trunks: tuple[str, ...] = ()) -> PartyNames:
    return PartyNames(frozenset(extensions), frozenset(trunks))


@pytest.mark.parametrize("name", RECORDINGS)
def test_everyone_who_took_part_is_remembered_and_now_only_who_does(name: str) -> None:
    model = CallModel("bridge")
    participants = Participants(model, lambda _: None, PbxConfig())
    ever: dict[str, PartyNames] = {}
    for step in promptly(name):
        for change in feed(model, [step]):
            participants.on_change(change)
            for call in model.calls.values():
                now = participants.of(call.id)
                # A channel's id may be that of another call, from which it has come.
                assert all(participants.of(party_id) == now for party_id in set(call.parties) - set(model.calls))
                ever[call.id] = ever.get(call.id, PartyNames()) | now
    for call_id, everybody in ever.items():
        if model.find(call_id) is None:
            assert participants.of(call_id) == everybody


def a_call(*endpoints: str) -> Call:
    parties = {
        f"ch-{endpoint}": Party(f"ch-{endpoint}", number, f"PJSIP/{endpoint}-1", endpoint, "Up")
        for number, endpoint in enumerate(endpoints, 1)
    }
    call = Call("c1", "", answered=True)
    for party in parties.values():
        call.add(party)
    return call


def test_a_call_that_has_merged_into_another_takes_its_participants_along() -> None:
    model = CallModel("bridge")
    participants = Participants(model, lambda _: None, PbxConfig())
    participants.on_change(CallEnded(a_call("1001", "provider"), merged_into="c2"))
    assert participants.of("c1") == names("1001", trunks=("provider",))
    assert participants.of("c2") == names("1001", trunks=("provider",))


def test_a_placed_call_is_its_destinations_before_it_has_a_channel() -> None:
    record = CallRecord("c1", "outgoing", destination=Address("extension", "1001"), originated=True)
    participants = Participants(CallModel("bridge"), {"c1": record}.get, PbxConfig())
    assert participants.of("c1") == names("1001")
    record.originated = False  # a caller's number is a claim of the caller
    assert participants.of("c1") == PartyNames()


def test_what_another_worker_tells_is_known() -> None:
    participants = Participants(CallModel("bridge"), lambda _: None, PbxConfig())
    assert participants.of("c1") == PartyNames()
    participants.learn("c1", names("1001"))
    assert participants.of("c1") == names("1001")


def test_calls_with_the_same_participants_share_their_memory() -> None:
    participants = Participants(CallModel("bridge"), lambda _: None, PbxConfig())
    for call_id in ("c1", "c2"):
        participants.learn(call_id, names("1001", trunks=("provider",)))
    participants.learn("c3", names("1001"))
    participants.learn("c3", names(trunks=("provider",)))
    assert participants.of("c1") is participants.of("c2")
    assert participants.of("c1") is participants.of("c3")


def test_memory_is_bounded() -> None:
    participants = Participants(CallModel("bridge"), lambda _: None, PbxConfig())
    for number in range(MAX_REMEMBERED + 10):
        participants.learn(f"c{number}", names("1"))
    assert participants.of("c9") == PartyNames()
    assert participants.of("c10") == names("1")
