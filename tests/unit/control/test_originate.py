"""Originated calls: what is dialed, how they end unanswered, what is refused, and that nothing stays on the PBX."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from bridge.calls.addresses import Address
from bridge.config.calling import CallingConfig
from bridge.control.originate import NotAnswered
from bridge.errors import AriError, Overloaded
from bridge.media.call_admission import LATE_OF_MEASURED
from tests.fakes.virtual_time import now, pass_time, settle
from tests.unit.control.house import CallingHouse

PHONE = Address("extension", "1002")
REFUSED = AriError(500, "POST", "/channels", "refused by the test")
CREATE, DIAL = "^POST /channels/create$", "^POST /channels/.*/dial$"


@pytest.fixture
async def house() -> AsyncIterator[CallingHouse]:
    house = CallingHouse()
    yield house
    await house.close()


async def test_a_call_is_dialed_rings_and_is_answered(house: CallingHouse) -> None:
    call = await house.originator.originate(PHONE, source=Address("tel", "+49", "Sales"), variables={"A": "1"})
    channel = house.pbx.channels[call.id]
    assert channel.dialstring == "1002"
    assert channel.variables == {"CONNECTEDLINE(num,i)": "+49", "CONNECTEDLINE(name,i)": "Sales", "A": "1"}
    waiting = asyncio.create_task(call.answered())
    house.pbx.rings(call.id)
    await settle()
    assert not waiting.done()
    house.pbx.pick_up(call.id)
    leg = await waiting
    assert (leg.id, leg.answered, house.legs.originated) == (call.id, True, 1)
    assert house.statuses(call.id) == ["dialing", "ringing", "progressing"]
    house.pbx.hang_up(call.id)
    await settle()
    assert house.legs.originated == 0
    assert (house.record(call.id).hangup_by, house.record(call.id).hangup_reason) == ("remote", "normal")


@pytest.mark.parametrize(("cause", "reason"), [(17, "busy"), (21, "noanswer"), (34, "failed"), (19, "noanswer")])
async def test_a_phone_that_does_not_answer_says_why(house: CallingHouse, cause: int, reason: str) -> None:
    call = await house.ring("1002")
    house.pbx.hang_up(call.id, cause, "")
    with pytest.raises(NotAnswered) as raised:
        await call.answered()
    assert (raised.value.reason, raised.value.cause) == (reason, cause)
    assert house.record(call.id).hangup_reason == reason
    assert house.statuses(call.id) == ["dialing", "ringing", "hangup"]


async def test_a_call_is_canceled_while_it_rings(house: CallingHouse) -> None:
    call = await house.ring("1002")
    waiting = asyncio.create_task(call.answered())
    await call.cancel()
    await call.cancel()  # one that is over is fine
    with pytest.raises(NotAnswered, match="cancel"):
        await waiting
    assert house.statuses(call.id) == ["dialing", "ringing", "canceling", "hangup"]
    assert call.id not in house.pbx.channels


async def test_who_waits_for_the_answer_may_give_up_and_the_call_rings_on(house: CallingHouse) -> None:
    call = await house.ring("1002")
    waiting = asyncio.create_task(call.answered())
    await settle()
    waiting.cancel()
    await settle()
    assert call.id in house.pbx.channels
    house.pbx.pick_up(call.id)
    assert await call.answered() is call.leg


@pytest.mark.parametrize("step", [CREATE, DIAL])
async def test_what_asterisk_refuses_is_a_call_that_failed(house: CallingHouse, step: str) -> None:
    house.pbx.failures[step] = REFUSED
    call = await house.originator.originate(PHONE)
    with pytest.raises(NotAnswered, match="failed"):
        await call.answered()
    assert house.statuses(call.id) == ["dialing", "hangup"]
    assert (house.pbx.channels, house.legs.originated) == ({}, 0)


async def test_an_endpoint_that_is_not_registered_is_a_call_that_failed(house: CallingHouse) -> None:
    house.pbx.unknown.add("1002")
    call = await house.originator.originate(PHONE)
    with pytest.raises(NotAnswered, match="failed"):
        await call.answered()


@pytest.mark.parametrize("step", [CREATE, DIAL])
async def test_one_that_is_given_up_while_asterisk_is_asked_leaves_no_channel(house: CallingHouse, step: str) -> None:
    house.pbx.gates[step] = gate = asyncio.Event()
    originating = asyncio.create_task(house.originator.originate(PHONE))
    await settle()
    originating.cancel()
    await settle()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await originating
    await settle()
    assert house.pbx.channels == {}
    assert house.legs.originated == 0


async def test_one_that_is_hung_up_before_its_channel_exists_is_not_dialed(house: CallingHouse) -> None:
    house.pbx.gates[CREATE] = gate = asyncio.Event()
    originating = asyncio.create_task(house.originator.originate(PHONE))
    await settle()
    (record,) = house.records.live()
    hanging_up = asyncio.create_task(house.control.hangup(record.id))
    await settle()
    gate.set()
    call = await originating
    with pytest.raises(NotAnswered, match="cancel"):
        await call.answered()
    await asyncio.gather(hanging_up, return_exceptions=True)
    assert not [each for each in house.pbx.requests if each.endswith("/dial")]
    assert house.pbx.channels == {}


async def test_early_media_is_heard_in_a_bridge_while_it_rings(house: CallingHouse) -> None:
    caller = await house.caller()
    bridge_id = await caller.hold_in_bridge()
    call = await house.ring("1002", early_media_bridge=bridge_id, originator=caller.id)
    assert house.pbx.bridge_of(call.id) == call.leg.bridge_id == bridge_id
    assert not call.leg.answered
    assert house.record(call.id).master_call_id == caller.id
    assert house.pbx.channels[call.id].linkedid == caller.id, "a party of the caller's call"
    await call.cancel()


async def test_a_call_that_lasts_too_long_is_hung_up_until_it_has_ended() -> None:
    house = CallingHouse(CallingConfig(max_call_s=60))
    leg = await house.call("1002")
    began = now()
    house.pbx.failures[f"^DELETE /channels/{leg.id}$"] = REFUSED
    await pass_time(61)
    assert leg.id in house.pbx.channels
    house.pbx.failures.clear()
    await leg.ended.wait()
    assert now() - began == pytest.approx(65, abs=1)
    assert house.record(leg.id).hangup_reason == "timeout"
    await house.close()


async def test_no_more_calls_are_up_than_allowed() -> None:
    house = CallingHouse(CallingConfig(max_calls=1))
    call = await house.ring("1002")
    with pytest.raises(Overloaded, match=r"calling\.max_calls"):
        await house.originator.originate(PHONE)
    await call.cancel()
    await house.ring("1002")
    await house.close()


async def test_nothing_is_originated_once_it_stops(house: CallingHouse) -> None:
    await house.originator.stop()
    with pytest.raises(Overloaded, match="shutting down"):
        await house.originator.originate(PHONE)
    assert house.pbx.channels == {}


async def test_an_overloaded_process_originates_nothing_new_but_serves_its_calls(house: CallingHouse) -> None:
    house.admission.load = lambda: 2000
    for turn in range(LATE_OF_MEASURED):
        house.admission.measured(0.1, 0.1, 0.1 * turn)
    caller = await house.caller()
    before = len(house.pbx.channels)
    with pytest.raises(Overloaded, match="overloaded"):
        await house.originator.originate(PHONE)
    assert len(house.pbx.channels) == before, "no phone rings"
    await house.originator.originate(PHONE, originator=caller.id)
    assert len(house.pbx.channels) == before + 1, "a call that is up is connected to others as ever"
