"""What can be done with any call, placed by the bridge or not: each act with real phones, and what it refuses."""

from __future__ import annotations

import asyncio

import pytest

from bridge.calls.addresses import Address
from bridge.control.call_control import NotControlled
from bridge.control.legs import Leg, LegEnded
from bridge.testing import judge
from tests.lab.calling import Calling, pcm
from tests.lab.conftest import Phones
from tests.lab.driving import HALF, RATE, by_hand, seconds_of
from tests.lab.waiting import PATIENCE_S, sends, stays, until


async def test_acts_on_an_ordinary_call(calling: Calling, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    bob.play_next(judge.silence(1, RATE))
    await alice.call("1002", play=judge.silence(1, RATE))
    await alice.answered()
    await sends(alice, 0.3)
    call_id = next(iter(calling.tracker.calls))
    record = calling.record(call_id)
    assert (record.source.target, record.destination.target, record.status) == ("1001", "1002", "progressing")
    for act in (calling.call_control.hold, calling.call_control.mute, calling.call_control.unmute):
        with pytest.raises(NotControlled, match="controls"):
            await act(call_id)
    await calling.call_control.play(call_id, *pcm(700, 1.5))
    await calling.call_control.play(call_id, *pcm(1100, 1.5), direction="both")
    await calling.call_control.hangup(call_id)
    await asyncio.gather(alice.ended(), bob.ended())
    assert 1.2 < seconds_of(alice.recording(), 700, HALF) < 1.8
    assert seconds_of(bob.recording(), 700, HALF) == 0
    assert 1.2 < seconds_of(alice.recording(), 1100, HALF) < 1.8
    assert 1.2 < seconds_of(bob.recording(), 1100, HALF) < 1.8
    record = calling.record(call_id)
    assert (record.direction, record.status, record.hangup_reason) == ("incoming", "hangup", "normal")
    assert record.hangup_by == "local"
    with pytest.raises(KeyError):
        await calling.call_control.hangup(call_id)


async def test_acts_on_a_call_that_is_held(calling: Calling, phones: Phones) -> None:
    """A call in our application that no flow has claimed is taken when something is to be done with it."""
    (alice,) = await phones("1001")
    await alice.call("750", play=judge.silence(1, RATE))
    await alice.answered()
    await sends(alice, 0.5)
    call_id = next(iter(calling.tracker.calls))
    held_in = calling.stasis.bridge_of(call_id)
    await calling.call_control.play(call_id, *pcm(700, 1))
    assert held_in is not None
    assert calling.stasis.bridge_of(call_id) == held_in
    await calling.call_control.send_digits(call_id, "9")
    await alice.hangup()
    assert 0.8 < seconds_of(alice.recording(), 700, HALF) < 1.3
    await calling.nothing_left()
    assert calling.record(call_id).hangup_by == "remote"


async def test_transfer(calling: Calling, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    alice.play_next(judge.tone(1000, 20, RATE))
    bob.play_next(judge.tone(700, 20, RATE))
    leg = await calling.call("1001")
    stopped: list[str] = []

    async def stop_flow(channel_id: str) -> None:
        stopped.append(channel_id)

    calling.call_control.before_transfer.append(stop_flow)
    async with by_hand(bob):
        other_id = await calling.call_control.transfer(leg.id, Address("extension", "1002"))
        assert stopped == [leg.id]
        await bob.called()
        await sends(alice, 2.5)
        await bob.command("accept")
    await sends(alice, 2.5)
    assert calling.record(other_id).status == "progressing"
    await bob.hangup()
    await alice.ended()
    heard = alice.recording()
    assert seconds_of(heard, 440, level=3000) > 1  # it rang
    assert seconds_of(heard, 700, HALF) > 1.5
    assert seconds_of(bob.recording(), 1000, HALF) > 1.5
    with pytest.raises(ValueError, match="digits"):
        await calling.call_control.transfer((await calling.call("1001")).id, Address("tel", "x"))
    for live in calling.records.live():
        await calling.call_control.hangup(live.id)


async def test_who_is_transferred_is_no_longer_connected_with_the_one_before(calling: Calling, phones: Phones) -> None:
    alice, bob, carol = await phones("1001", "1002", "1003")
    leg, partner = await calling.call("1001"), await calling.call("1002")
    await calling.legs.bridge_together(leg, partner)
    third = calling.legs.get(await calling.call_control.transfer(partner.id, Address("extension", "1003")))
    assert third is not None
    async with asyncio.timeout(PATIENCE_S):
        while partner.bridge_id is None or third.bridge_id != partner.bridge_id:
            await asyncio.sleep(0.05)
    assert leg.bridge_id not in (None, third.bridge_id)
    # Once more, to the first: who was rung or connected by the transfer before is let go.
    async with by_hand(alice):
        await leg.hang_up()
        await calling.call_control.transfer(partner.id, Address("extension", "1001"))
        await alice.called()
        await carol.ended(15)
        assert not partner.gone.is_set()
        await calling.call_control.transfer(partner.id, Address("extension", "1003"))
        await alice.ended(15)
    await until(lambda: len(calling.records.live()) == 2)
    await stays(lambda: len(calling.records.live()) == 2 and not partner.gone.is_set(), 2)
    await bob.hangup()
    await carol.ended(15)


async def test_who_is_in_the_dialplan_can_be_hung_up_and_spoken_to_and_no_more(
    calling: Calling, phones: Phones
) -> None:
    (alice,) = await phones("1001")
    leg = await calling.call("1001")
    await leg.hold_in_bridge()
    gone = asyncio.ensure_future(leg.visit_dialplan("room-9"))
    await sends(alice, 1)
    for act in (calling.call_control.transfer(leg.id, Address("extension", "1002")), calling.call_control.hold(leg.id)):
        with pytest.raises(NotControlled, match="dialplan"):
            await act
    await asyncio.wait_for(calling.call_control.play(leg.id, *pcm(700, 1)), PATIENCE_S)
    assert not leg.gone.is_set()
    await calling.call_control.hangup(leg.id)
    with pytest.raises(LegEnded):
        await gone
    await alice.ended()
    assert seconds_of(alice.recording(), 700, level=2000) > 0.7


async def test_calls_that_meet_go_on_each_for_itself(calling: Calling, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    legs: list[Leg] = []
    for phone in (alice, bob):
        await phone.call("750", play=judge.silence(1, RATE))
        await phone.answered()
        await sends(phone, 0.5)
        (call_id,) = set(calling.tracker.calls) - {leg.id for leg in legs}
        legs.append(calling.call_control.leg(call_id, "test"))
    await calling.legs.bridge_together(*legs)
    async with asyncio.timeout(PATIENCE_S):
        while len(calling.tracker.calls) > 1:
            await asyncio.sleep(0.05)
    assert [record.id for record in calling.records.live()] == [leg.id for leg in legs]
    assert calling.record(legs[1].id).status == "progressing"
    await bob.hangup()
    await asyncio.wait_for(legs[1].ended.wait(), PATIENCE_S)
    ended = calling.record(legs[1].id)
    assert (ended.status, ended.hangup_reason, ended.hangup_by) == ("hangup", "normal", "remote")
    assert calling.told(ended.id).count("hangup") == 1
    assert [record.id for record in calling.records.live()] == [legs[0].id]
    await alice.hangup()
    await asyncio.wait_for(legs[0].ended.wait(), PATIENCE_S)
    assert calling.records.live() == []


async def test_a_visit_to_the_dialplan_comes_back(calling: Calling, phones: Phones) -> None:
    (alice,) = await phones("1001")
    leg = await calling.call("1001")
    await leg.hold_in_bridge()
    gone = asyncio.ensure_future(leg.visit_dialplan("room-9"))
    await sends(alice, 1)
    assert not gone.done()
    assert leg.bridge_id is None
    assert not leg.gone.is_set()
    await calling.lab.cli("confbridge kick 9 all")
    await asyncio.wait_for(gone, PATIENCE_S)
    await leg.hold_in_bridge()
    player = calling.players.of(leg)
    await player.play(*pcm(700, 1))
    await player.close()
    await asyncio.wait_for(leg.visit_dialplan("amd"), PATIENCE_S)
    assert await leg.get_variable("AMDSTATUS") in ("HUMAN", "MACHINE", "NOTSURE", "HANGUP")
    assert await leg.get_variable("NO_SUCH_VARIABLE") == ""
    gone = asyncio.ensure_future(leg.visit_dialplan("room-9"))
    await sends(alice, 0.5)
    await alice.hangup()
    with pytest.raises(LegEnded):
        await asyncio.wait_for(gone, PATIENCE_S)
    assert 0.8 < seconds_of(alice.recording(), 700, HALF) < 1.3
