"""Calls that the bridge places to real phones: how they go, why they end, and that nothing is left of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bridge.calls.addresses import Address
from bridge.config.calling import CallingConfig
from bridge.control.call_control import NotControlled
from bridge.control.legs import Leg, LegEnded
from bridge.control.originate import NotAnswered
from bridge.errors import Overloaded
from bridge.testing.lab_engine import Lab
from bridge.testing.phone import PhoneError
from tests.lab.calling import CALLING, Calling, calling_on
from tests.lab.conftest import Phones
from tests.lab.driving import by_hand
from tests.lab.waiting import PATIENCE_S, sends, until


@pytest.mark.quick
async def test_answered_and_hung_up_by_us(calling: Calling, phones: Phones) -> None:
    (alice,) = await phones("1001")
    call = await calling.ring("1001", source=Address("tel", "+4930123", "Somebody"))
    leg = await call.answered()
    assert leg.answered
    assert leg.id == call.id
    async with asyncio.timeout(PATIENCE_S):
        while not any("+4930123" in event.peer for event in alice.events):  # the phone's news may be late
            await asyncio.sleep(0.02)
    found = calling.tracker.find(call.id)
    assert found is not None
    assert found[0].id == call.id
    await leg.hang_up()
    record = calling.record(call.id)
    assert (record.hangup_reason, record.hangup_by, record.direction) == ("normal", "local", "outgoing")
    assert calling.told(call.id) == ["dialing", "ringing", "progressing", "terminating", "hangup"]
    times = [moment or 0.0 for moment in (record.tm_create, record.tm_ringing, record.tm_progressing, record.tm_hangup)]
    assert None not in times
    assert times == sorted(times)
    with pytest.raises(LegEnded):
        await leg.send_digits("1")


async def test_answered_and_hung_up_by_the_phone(calling: Calling, phones: Phones) -> None:
    (alice,) = await phones("1001")
    leg = await calling.call("1001")
    await sends(alice, 0.3)
    await alice.hangup()
    await asyncio.wait_for(leg.ended.wait(), PATIENCE_S)
    record = calling.record(leg.id)
    assert (record.hangup_reason, record.hangup_by, leg.cause) == ("normal", "remote", 16)


async def test_busy(calling: Calling, phones: Phones) -> None:
    (bob,) = await phones("1002")
    async with by_hand(bob):
        call = await calling.ring("1002")
        await bob.called()
        assert not call.leg.answered
        with pytest.raises(NotControlled, match="answered"):
            await calling.call_control.transfer(call.id, Address("extension", "1001"))
        await bob.command("hangup")  # 486
        with pytest.raises(NotAnswered) as refused:
            await asyncio.wait_for(call.answered(), PATIENCE_S)
    assert (refused.value.reason, refused.value.cause) == ("busy", 17)
    record = calling.record(call.id)
    assert (record.status, record.hangup_reason, record.hangup_by) == ("hangup", "busy", "remote")
    assert calling.told(call.id) == ["dialing", "ringing", "hangup"]


async def test_nobody_answers_in_time(calling: Calling, phones: Phones) -> None:
    (bob,) = await phones("1002")
    async with by_hand(bob):
        call = await calling.ring("1002", timeout_s=2)
        with pytest.raises(NotAnswered) as refused:
            await asyncio.wait_for(call.answered(), PATIENCE_S)
        await bob.ended()
    assert (refused.value.reason, refused.value.cause) == ("noanswer", 19)
    assert calling.record(call.id).hangup_by == "local"


async def test_given_up_while_it_rings(calling: Calling, phones: Phones) -> None:
    (bob,) = await phones("1002")
    async with by_hand(bob):
        call = await calling.ring("1002")
        await bob.called()
        waiting = asyncio.ensure_future(call.answered())
        await asyncio.sleep(0)
        await call.cancel()
        with pytest.raises(NotAnswered) as refused:
            await waiting
        await bob.ended()
    assert refused.value.reason == "cancel"
    assert calling.record(call.id).hangup_by == "local"
    assert calling.told(call.id) == ["dialing", "ringing", "canceling", "hangup"]
    await call.cancel()  # again: does nothing


async def test_given_up_before_its_channel_is_there(calling: Calling, phones: Phones) -> None:
    (bob,) = await phones("1002")
    create = calling.client.channels.create
    hung_up = asyncio.Event()

    async def slowly(**how: Any) -> Any:
        await hung_up.wait()
        return await create(**how)

    calling.client.channels.create = slowly  # type: ignore[method-assign]
    async with by_hand(bob):
        placing = asyncio.ensure_future(calling.ring("1002"))
        (record,) = await until(calling.records.live)
        async with asyncio.timeout(PATIENCE_S):
            await calling.call_control.hangup(record.id)
            hung_up.set()
            call = await placing
            with pytest.raises(NotAnswered, match="cancel"):
                await call.answered()
        with pytest.raises(PhoneError):
            await bob.called(1)
    assert calling.told(record.id) == ["dialing", "canceling", "hangup"]


async def test_not_registered_not_there_and_a_trunk_that_is_silent(calling: Calling) -> None:
    for extension in ("1004", "1999"):
        call = await calling.ring(extension)
        with pytest.raises(NotAnswered) as refused:
            await asyncio.wait_for(call.answered(), PATIENCE_S)
        assert refused.value.reason == "failed"
        assert calling.told(call.id) == ["dialing", "hangup"]
    # Nobody listens where the trunk's far end would be.
    await calling.lab.phone("trunk").stop()
    call = await calling.originator.originate(Address("tel", "555 9999"), timeout_s=2)
    with pytest.raises(NotAnswered) as refused:
        await asyncio.wait_for(call.answered(), PATIENCE_S)
    assert refused.value.reason == "dialout"


async def test_out_by_the_trunk(calling: Calling, phones: Phones) -> None:
    (far,) = await phones("trunk")
    for to in (Address("tel", "+49 (30) 555-99"), Address("sip", f"sip:alice@{far._place.domain}")):
        far.forget()
        call = await calling.originator.originate(to, anonymous=True)
        if to.type == "sip":
            # The lab's own address: that this comes back to it and is refused shows where it went.
            with pytest.raises(NotAnswered):
                await asyncio.wait_for(call.answered(), PATIENCE_S)
            continue
        leg = await asyncio.wait_for(call.answered(), PATIENCE_S)
        assert any("anonymous" in event.peer for event in far.events)
        assert calling.record(leg.id).destination == to
        await leg.hang_up()


async def test_what_cannot_be_dialed(calling: Calling) -> None:
    for to, word in (
        (Address("tel", "12&PJSIP/1001"), "digits"),
        (Address("extension", "1001,30"), "extension"),
        (Address("extension", "trunk-a"), "not an extension"),
        (Address("sip", "sip:a/b@c"), "user@host"),
        (Address("", "1001"), "type"),
    ):
        with pytest.raises(ValueError, match=word):
            await calling.originator.originate(to)
    assert calling.records.live() == []


async def test_a_configuration_that_allows_nothing(lab: Lab) -> None:
    async with calling_on(lab, CallingConfig(max_calls=0)) as calling:
        with pytest.raises(ValueError, match="tel_endpoint"):
            await calling.originator.originate(Address("tel", "123"))
        with pytest.raises(Overloaded):
            await calling.originator.originate(Address("extension", "1001"))


async def test_the_longest_call(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    async with calling_on(lab, CALLING.model_copy(update={"max_call_s": 1.5})) as calling:
        leg = await calling.call("1001")
        await asyncio.wait_for(leg.ended.wait(), PATIENCE_S)
        record = calling.record(leg.id)
        assert (record.hangup_reason, record.hangup_by) == ("timeout", "local")
        await alice.ended()


async def test_what_comes_before_the_answer_is_heard(calling: Calling, phones: Phones) -> None:
    _, bob = await phones("1001", "1002")
    leg = await calling.call("1001")
    bridge_id = await leg.hold_in_bridge()
    async with by_hand(bob, mode="early"):
        call = await calling.ring("1002", early_media_bridge=bridge_id, originator=leg.id)
        await bob.called()
        await until(lambda: call.leg.bridge_id == bridge_id)
        assert not call.leg.answered
        assert calling.stasis.bridge_of(call.id) == bridge_id
        assert calling.record(call.id).master_call_id == leg.id
        found = calling.tracker.find(call.id)
        assert found is not None
        assert found[0].id == leg.id
        await bob.command("accept")
        assert (await asyncio.wait_for(call.answered(), PATIENCE_S)).bridge_id == bridge_id
    await leg.hang_up()
    await call.cancel()


async def test_what_an_earlier_life_left_is_swept(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    earlier = Calling(lab)
    try:
        await earlier.start()
        await earlier.call("1001")
        await earlier.client.stop()  # for Asterisk, it dies here
        async with calling_on(lab):
            await alice.ended()
    finally:
        await earlier.stop()


async def test_when_the_bridge_stops_placed_calls_end_and_claimed_ones_go_on(lab: Lab, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    calling = Calling(lab)
    claimed: list[Leg] = []
    calling.legs.claim = lambda _, args: list(args) == ["750"]
    calling.legs.on_claimed = lambda leg, _: claimed.append(leg)
    try:
        await calling.start()
        await calling.call("1002")
        await alice.call("750")
        while not claimed:
            await asyncio.sleep(0.02)
        assert not claimed[0].answered
        await claimed[0].hold_in_bridge()
        await alice.answered()
    finally:
        await calling.stop()
    await bob.ended()
    await alice.ended()  # the dialplan's next line hangs up


async def test_asterisk_dies_and_comes_back(lab: Lab, phones: Phones) -> None:
    await phones("1001", "1002")
    async with calling_on(lab) as calling:
        leg = await calling.call("1001")
        bob = lab.phone("1002")
        async with by_hand(bob):
            call = await calling.ring("1002")
            await bob.called()
            waiting = asyncio.ensure_future(call.answered())
            back = asyncio.Event()
            calling.client.on_connected(back.set)
            await lab.restart_asterisk()
            await asyncio.wait_for(back.wait(), PATIENCE_S)
            await calling.tracker.resync()
            await calling.stasis.adopt()
            with pytest.raises(NotAnswered):
                await asyncio.wait_for(waiting, 1)
        assert leg.ended.is_set()
        assert calling.records.live() == []
        # Asterisk has lost the phones' registrations, and a phone that nobody calls does not notice.
        for phone in (lab.phone("1001"), bob):
            phone.forget()
            await phone.stop()
