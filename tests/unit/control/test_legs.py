"""Legs: what they do on the PBX, and what happens to them when their parties or their bridges go."""

from __future__ import annotations

import asyncio

import pytest

from bridge.calls.addresses import Address
from bridge.control.leg import LegEnded
from bridge.errors import AriError
from tests.fakes.virtual_time import pass_time, settle
from tests.unit.control.house import CONTEXT, House


async def test_a_claimed_call_is_answered_into_a_bridge_that_ends_with_it() -> None:
    house = House()
    leg = await house.caller()
    assert (house.claimed, leg.answered, leg.bridge_id) == ([leg], False, None)
    bridge_id = await leg.hold_in_bridge()
    assert leg.answered
    assert await leg.hold_in_bridge() == bridge_id == house.pbx.bridge_of(leg.id)
    assert house.legs.object_ids == {bridge_id}
    left: list[str] = []
    house.legs.on_left = left.append
    await leg.hang_up()
    await settle()
    assert leg.ended.is_set()
    assert (left, house.legs.get(leg.id), house.pbx.bridges, house.pbx.channels) == ([leg.id], None, {}, {})


async def test_a_party_that_hangs_up_ends_what_is_done_with_it() -> None:
    house = House()
    leg = await house.caller()
    await leg.hold_in_bridge()
    sending = asyncio.create_task(leg.send_digits("1234567890"))
    await settle()
    house.pbx.hang_up(leg.id)
    with pytest.raises(LegEnded):
        await sending
    assert (leg.cause, leg.bridge_id) == (16, None)
    for act in (leg.hold_in_bridge(), leg.mute(), leg.set_variable("A", "1"), leg.get_variable("A")):
        with pytest.raises(LegEnded):
            await act
    await leg.hang_up()  # one that has ended already is fine
    await settle()
    assert house.pbx.bridges == {}


async def test_a_request_that_finds_the_channel_gone_says_so_before_the_event_does() -> None:
    house = House()
    leg = await house.caller()
    house.client.disconnect()
    house.pbx.hang_up(leg.id)
    with pytest.raises(LegEnded):
        await leg.ring()


async def test_other_errors_are_asterisks() -> None:
    house = House()
    leg = await house.caller()
    house.pbx.failures["/ring$"] = AriError(500, "POST", "/ring", "Internal Server Error")
    with pytest.raises(AriError, match="Internal Server Error"):
        await leg.ring()


async def test_digits_wait_until_they_are_taken() -> None:
    house = House()
    leg = await house.caller()
    house.pbx.press(leg.id, "12")
    await settle()
    assert [await leg.digits.get(), await leg.digits.get(), await leg.digits.get(0.5)] == ["1", "2", None]
    house.pbx.press(leg.id, "3")
    await settle()
    house.legs.forget_digits([leg.id, "unknown"])
    assert await leg.digits.get(0.5) is None


async def test_two_legs_in_one_bridge_and_one_of_them_leaves() -> None:
    house = House()
    caller, callee = await house.caller("1001"), await house.caller("1002")
    await callee.hold_in_bridge()
    assert len(house.pbx.bridges) == 1
    partners = await house.legs.bridge_together(caller, callee)
    await settle()
    assert (callee.bridge_id, list(house.pbx.bridges)) == (caller.bridge_id, [caller.bridge_id])
    assert not house.legs.is_alone(caller)
    parting = asyncio.create_task(partners.peer_left())
    await settle()
    house.pbx.hang_up(callee.id)
    assert await parting is callee
    assert house.legs.is_alone(caller)
    assert house.pbx.bridge_of(caller.id) == caller.bridge_id


async def test_a_leg_comes_back_from_the_dialplan() -> None:
    house = House()
    leg = await house.caller()
    await leg.hold_in_bridge()
    house.pbx.dialplan[CONTEXT, "menu"] = (("Read", "digit"),)
    away = asyncio.create_task(leg.visit_dialplan("menu"))
    await settle()
    assert not away.done()
    assert (leg.bridge_id, house.pbx.bridges) == (None, {})
    house.pbx.run(leg.id, "Stasis", "bridge,resume")
    await away
    assert (house.claimed, leg.gone.is_set()) == ([leg], False)
    assert await leg.hold_in_bridge() == house.pbx.bridge_of(leg.id)


async def test_a_leg_that_ends_in_the_dialplan_is_gone() -> None:
    house = House()
    leg = await house.caller()
    with pytest.raises(LegEnded):  # no such extension
        await leg.visit_dialplan("nowhere")
    assert house.legs.get(leg.id) is None


async def test_a_leg_that_goes_on_in_the_dialplan_is_gone_and_ends_later() -> None:
    house = House()
    leg = await house.caller()
    await leg.continue_in_dialplan("from-internal", "600", 1)
    assert (leg.gone.is_set(), leg.ended.is_set(), len(house.legs)) == (True, False, 0)
    ending = asyncio.create_task(leg.hang_up())
    await ending
    assert leg.ended.is_set()


async def test_what_a_record_tells_of_mute_and_hold() -> None:
    house = House()
    leg = await house.caller()
    record = house.records.originated(leg.id, source=Address(), destination=Address("extension", "1001"))
    for act, direction in (
        (leg.mute("in"), "in"), (leg.mute("out"), "both"), (leg.unmute("in"), "out"), (leg.unmute(), ""),
    ):  # fmt: skip
        await act
        assert record.mute_direction == direction
    await leg.hold()
    assert record.on_hold
    await leg.unhold()
    assert not record.on_hold


async def test_a_variable_that_is_not_set_is_empty() -> None:
    house = House()
    leg = await house.caller()
    await leg.set_variable("NAME", "value")
    assert (await leg.get_variable("NAME"), await leg.get_variable("UNSET")) == ("value", "")


async def test_digits_sound_for_as_long_as_they_take() -> None:
    house = House()
    leg = await house.caller()
    sending = asyncio.create_task(leg.send_digits("12345", duration_ms=100, between_ms=100))
    await pass_time(0.9)
    assert not sending.done()
    await pass_time(0.2)
    assert sending.done()


async def test_what_ended_while_events_were_lost_is_found_by_reconciling() -> None:
    house = House()
    stays, ended, left = [await house.caller(phone) for phone in ("1001", "1002", "1003")]
    house.client.disconnect()
    house.pbx.hang_up(ended.id)
    house.pbx.handle("POST", f"/channels/{left.id}/continue", {"context": "from-internal", "extension": "600"})
    house.client.connect()
    await house.stasis.adopt()
    assert (stays.gone.is_set(), ended.ended.is_set()) == (False, True)
    assert (left.gone.is_set(), left.ended.is_set()) == (True, False)


async def test_stopping_lets_calls_go_on_and_deletes_bridges() -> None:
    house = House()
    house.pbx.dialplan["from-internal", "750"] += (("Echo", ""),)
    leg = await house.caller()
    await leg.hold_in_bridge()
    await house.legs.stop()
    await settle()
    assert (leg.gone.is_set(), house.pbx.bridges) == (True, {})
