"""Calls that enter our application and are for no flow: held in bridges that streams join."""

from __future__ import annotations

import pytest

from bridge.control.stasis import HOLD_TIMEOUT_S, REPLACED_S
from bridge.errors import AriError
from tests.fakes.log_output import log_output
from tests.fakes.virtual_time import pass_time, settle
from tests.unit.control.house import House

BROKEN = AriError(500, "POST", "/bridges", "Internal Server Error")


async def test_a_call_is_answered_held_and_released() -> None:
    house = House(claims=False)
    told: list[str] = []
    house.stasis.on_held = lambda channel, bridge_id: told.append(f"held {channel.id} {bridge_id}")
    house.stasis.on_released = lambda channel_id: told.append(f"released {channel_id}")
    channel_id = house.pbx.call("1001", "750")
    await settle()
    bridge_id = house.stasis.bridge_of(channel_id)
    assert bridge_id == house.pbx.bridge_of(channel_id)
    assert house.pbx.channels[channel_id].up
    await house.stasis.settled(channel_id)
    house.pbx.hang_up(channel_id)
    await settle()
    assert house.stasis.bridge_of(channel_id) is None
    assert house.pbx.bridges == {}
    assert told == [f"held {channel_id} {bridge_id}", f"released {channel_id}"]


async def test_a_hold_that_fails_is_tried_again_while_the_caller_is_there() -> None:
    house = House(claims=False)
    house.pbx.failures["POST /bridges"] = BROKEN
    first, second = house.pbx.call("1001", "750"), house.pbx.call("1002", "750")
    await settle()
    with pytest.raises(AriError, match="could not be answered"):
        await house.stasis.settled(first)
    house.pbx.hang_up(second)
    await settle()
    asked = len(house.pbx.requests)
    house.pbx.failures.clear()
    await pass_time(HOLD_TIMEOUT_S)
    assert house.stasis.bridge_of(first) == house.pbx.bridge_of(first) is not None
    assert len(house.pbx.bridges) == 1
    assert not [each for each in house.pbx.requests[asked:] if each.endswith(f"/channels/{second}/answer")]


async def test_a_caller_that_leaves_while_it_is_being_held_leaves_no_bridge() -> None:
    house = House(claims=False)
    house.pbx.answering.clear()
    channel_id = house.pbx.call("1001", "750")
    await settle()
    house.pbx.hang_up(channel_id)
    await settle()
    house.pbx.answering.set()
    await pass_time(5)
    assert (house.pbx.bridges, house.stasis.object_ids) == ({}, set())


async def test_other_channels_are_not_held() -> None:
    house = House(claims=False)
    party = house.pbx.call("1001", "600")
    snoop_id = house.ids.new("snoop")
    house.pbx.handle("POST", f"/channels/{party}/snoop", {"app": "bridge", "snoopId": snoop_id})
    await settle()
    assert house.pbx.channels[snoop_id].app == "bridge"
    assert house.stasis.object_ids == set()


async def test_calls_from_before_we_were_there_are_adopted_and_those_that_are_over_released() -> None:
    house = House(claims=False)
    gone = house.pbx.call("1001", "750")
    await settle()
    house.client.disconnect()
    house.pbx.hang_up(gone)
    waiting = house.pbx.call("1002", "750")
    house.client.connect()
    await house.stasis.adopt()
    await settle()
    assert house.stasis.bridge_of(gone) is None
    assert house.stasis.bridge_of(waiting) == house.pbx.bridge_of(waiting) is not None
    assert len(house.pbx.bridges) == 1


async def test_a_held_call_is_taken_over_as_a_leg_in_its_bridge() -> None:
    house = House(claims=False)
    channel_id = house.pbx.call("1001", "750")
    await settle()
    bridge_id = house.stasis.bridge_of(channel_id)
    leg = house.legs.take(channel_id)
    assert leg is not None
    assert (leg.bridge_id, leg.answered, house.legs.take(channel_id)) == (bridge_id, True, leg)
    assert house.stasis.bridge_of(channel_id) == bridge_id
    house.pbx.hang_up(channel_id)
    await settle()
    assert house.pbx.bridges == {}
    assert house.legs.take("unknown") is None


async def test_stopping_holds_no_further_call_and_leaves_calls_alone() -> None:
    house = House(claims=False)
    channel_id = house.pbx.call("1001", "750")
    await settle()
    await house.stasis.stop()
    late = house.pbx.call("1002", "750")
    await settle()
    assert house.pbx.bridges == {}
    assert set(house.pbx.channels) == {channel_id, late}
    assert not house.pbx.channels[late].up


async def test_a_phone_that_does_not_end_the_call_that_it_has_transferred_is_hung_up() -> None:
    house = House(claims=False)
    old = house.pbx.call("1002", "750")
    await settle()
    new = house.pbx.come("new", "1003", state="Up").id
    house.pbx.emit(
        "StasisStart", house.pbx.channels[new], args=[], replace_channel=house.pbx.show(house.pbx.channels[old])
    )
    await pass_time(REPLACED_S - 0.5)
    assert old in house.pbx.channels
    await pass_time(1)
    assert old not in house.pbx.channels
    assert house.stasis.bridge_of(new) is not None


async def test_a_crowd_that_is_refused_for_one_reason_leaves_one_line_in_the_log() -> None:
    house = House(claims=False)
    house.stasis.refusal = lambda *_: ("hangup", f"{len(house.pbx.requests)} calls are up, no more are allowed")
    with log_output() as log:
        callers = [house.pbx.call("1001", "750") for _ in range(50)]
        await settle()
    assert log.getvalue().count("refused channel=") == 1
    assert not set(callers) & set(house.pbx.channels)
