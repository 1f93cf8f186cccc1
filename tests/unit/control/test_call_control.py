"""Actions on calls: controlled ones, what is possible with ordinary ones, and transfers with their races."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from bridge.access import CONFIGURATION
from bridge.calls.addresses import Address
from bridge.control.call_control import NotControlled
from bridge.control.legs import Leg
from bridge.errors import AriError
from tests.fakes.virtual_time import now, pass_time, settle, until
from tests.unit.control.house import CallingHouse

RATE = 16000
TONE = b"\1\0" * RATE
"""One second."""
OTHER, THIRD = Address("extension", "1002"), Address("extension", "1003")


@pytest.fixture
async def house() -> AsyncIterator[CallingHouse]:
    house = CallingHouse()
    house.pbx.codec = "g722"  # as wide as what is played
    yield house
    await house.close()


async def observed(house: CallingHouse) -> tuple[str, str]:
    """Have 1001 talk with 1002 in an ordinary call; return the ids of their channels."""
    house.pbx.come("alice", "1001", state="Up")
    house.pbx.come("bob", "1002", state="Up", linkedid="alice")
    for channel_id in ("alice", "bob"):
        house.pbx.enter_bridge("talk", channel_id)
    await settle()
    await house.tracker.resync()
    assert list(house.tracker.calls) == ["alice"]
    return "alice", "bob"


async def answered(house: CallingHouse, call_id: str) -> Leg:
    """Have the phone of a call answer; return its leg."""
    house.pbx.pick_up(call_id)
    await settle()
    leg = house.legs.get(call_id)
    assert leg is not None
    return leg


async def test_a_call_that_is_unknown_is_a_key_error(house: CallingHouse) -> None:
    control = house.control
    for act in (control.hangup("none"), control.hold("none"), control.play("none", TONE, RATE)):
        with pytest.raises(KeyError):
            await act
    with pytest.raises(KeyError):
        await control.transfer("none", OTHER)
    with pytest.raises(KeyError):
        await control.recording_stop("none")


async def test_only_calls_that_we_control_can_be_held_muted_or_transferred(house: CallingHouse) -> None:
    control = house.control
    call_id, _ = await observed(house)
    refused: list[Callable[[], Awaitable[object]]] = [
        lambda: control.hold(call_id), lambda: control.unhold(call_id), lambda: control.mute(call_id),
        lambda: control.unmute(call_id), lambda: control.silence(call_id, True), lambda: control.moh(call_id, True),
        lambda: control.send_digits(call_id, "1"), lambda: control.transfer(call_id, THIRD),
    ]  # fmt: skip
    before = list(house.pbx.requests)
    for act in refused:
        with pytest.raises(NotControlled, match="requires a call that asterisk-bridge controls"):
            await act()
    assert house.pbx.requests == before, "nothing was tried"


async def test_an_ordinary_call_is_hung_up(house: CallingHouse) -> None:
    call_id, _ = await observed(house)
    await house.control.hangup(call_id)
    assert call_id not in house.pbx.channels
    house.pbx.hang_up("bob")
    await settle()
    record = house.record(call_id)
    assert (record.hangup_by, record.hangup_reason) == ("local", "normal")


async def test_a_hangup_whose_event_is_lost_is_not_waited_for_indefinitely(
    house: CallingHouse, caplog: pytest.LogCaptureFixture
) -> None:
    call_id, _ = await observed(house)
    house.client.disconnect()
    began = now()
    await house.control.hangup(call_id)
    assert now() - began <= 5
    assert "no ChannelDestroyed after hangup channel=alice" in caplog.text
    house.client.connect()


async def test_what_is_done_to_a_call_is_in_its_record_and_on_the_pbx(house: CallingHouse) -> None:
    leg, control = await house.call("1002"), house.control
    await control.hold(leg.id)
    await control.mute(leg.id, "in")
    assert (house.record(leg.id).on_hold, house.record(leg.id).mute_direction) == (True, "in")
    assert house.pbx.channels[leg.id].muted == {"in"}
    await control.mute(leg.id, "out")
    await control.unmute(leg.id, "in")
    await control.unhold(leg.id)
    assert (house.record(leg.id).on_hold, house.record(leg.id).mute_direction) == (False, "out")
    began = now()
    await control.send_digits(leg.id, "123", duration_ms=200, between_ms=300)
    assert now() - began == pytest.approx(1.5)


async def test_a_call_that_is_in_the_dialplan_is_not_acted_on(house: CallingHouse) -> None:
    house.pbx.dialplan["ways-in", "queue-sales"] = (("Answer", ""), ("Queue", "sales"))
    leg = await house.call("1002")
    visiting = asyncio.create_task(leg.visit_dialplan("queue-sales"))
    await settle()
    with pytest.raises(NotControlled, match="in the dialplan"):
        await house.control.hold(leg.id)
    house.pbx.run(leg.id, "Stasis", "bridge,resume")
    await visiting
    await house.control.hold(leg.id)


# Play


async def test_whom_a_sound_is_played_to(house: CallingHouse) -> None:
    call_id, _ = await observed(house)
    house.pbx.dialplan["ways-in", "audiosocket"] = ()  # no entry: external media
    for direction, ways in (("out", ["out"]), ("in", ["in"]), ("both", ["out", "in"])):
        before = len(house.pbx.requests)
        await house.control.play(call_id, TONE, RATE, direction=direction)  # type: ignore[arg-type]
        made = house.pbx.requests[before:]
        assert made.count(f"POST /channels/{call_id}/snoop") == len(ways)
    assert house.pbx.heard == TONE * 4
    assert not house.taps.object_ids


async def test_a_sound_for_a_leg_that_is_alone_needs_no_whisper(house: CallingHouse) -> None:
    leg = await house.call("1002")
    await house.control.play(leg.id, TONE, RATE)
    assert not [each for each in house.pbx.requests if each.endswith("/snoop")]
    other = await house.call("1003")
    await house.legs.bridge_together(leg, other)
    await house.control.play(leg.id, TONE, RATE)
    assert house.pbx.requests.count(f"POST /channels/{leg.id}/snoop") == 1, "its partner shall not receive it"


async def test_one_direction_that_fails_ends_the_other(house: CallingHouse) -> None:
    call_id, _ = await observed(house)
    playing = asyncio.create_task(house.control.play(call_id, TONE * 60, RATE, direction="both"))
    await until(lambda: len(house.pbx.wires) == 2)
    house.pbx.failures["externalMedia"] = AriError(500, "POST", "/channels/externalMedia", "refused by the test")
    house.pbx.break_media(next(iter(house.pbx.wires)))
    began = now()
    with pytest.raises(AriError, match="refused by the test"):
        await playing
    assert now() - began < 2
    assert not house.taps.object_ids


# Transfer


async def test_a_call_is_transferred_and_both_end_together(house: CallingHouse) -> None:
    leg = await house.call("1001")
    other_id = await house.control.transfer(leg.id, OTHER)
    assert house.record(other_id).master_call_id == leg.id
    await pass_time(2)
    assert house.pbx.heard, "it rings"
    other = await answered(house, other_id)
    assert leg.bridge_id == other.bridge_id is not None
    house.pbx.hang_up(other_id)
    await settle()
    assert house.pbx.channels == {}
    assert leg.ended.is_set()


async def test_the_flow_of_a_call_stops_when_the_destination_can_be_called_and_not_before(house: CallingHouse) -> None:
    stopped: list[str] = []

    async def stop(channel_id: str) -> None:
        stopped.append(channel_id)

    house.control.before_transfer.append(stop)
    leg = await house.call("1001")
    with pytest.raises(ValueError, match="unknown or missing type"):
        await house.control.transfer(leg.id, Address())
    assert stopped == []
    await house.control.transfer(leg.id, OTHER)
    assert stopped == [leg.id]


async def test_a_flow_that_cannot_be_stopped_keeps_its_call_and_nothing_rings(house: CallingHouse) -> None:
    async def fail(_: str) -> None:
        raise RuntimeError("the flow does not stop")

    house.control.before_transfer.append(fail)
    leg = await house.call("1001")
    with pytest.raises(RuntimeError):
        await house.control.transfer(leg.id, OTHER)
    assert list(house.pbx.channels) == [leg.id]


async def test_a_destination_that_cannot_be_called_leaves_the_call_as_it_was(house: CallingHouse) -> None:
    stopped: list[str] = []

    async def stop(channel_id: str) -> None:
        stopped.append(channel_id)

    house.control.before_transfer.append(stop)
    house.pbx.unknown.add("1002")
    leg = await house.call("1001")
    other_id = await house.control.transfer(leg.id, OTHER)
    await pass_time(2)
    assert house.record(other_id).status == "hangup"
    assert stopped == []
    assert list(house.pbx.channels) == [leg.id]
    assert not house.pbx.heard


async def test_a_call_that_nobody_has_answered_is_not_transferred(house: CallingHouse) -> None:
    call = await house.ring("1001")
    with pytest.raises(NotControlled, match="has not been answered"):
        await house.control.transfer(call.id, OTHER)
    assert list(house.pbx.channels) == [call.id]


async def test_a_destination_that_does_not_answer_ends_the_call(house: CallingHouse) -> None:
    leg = await house.call("1001")
    other_id = await house.control.transfer(leg.id, OTHER)
    house.pbx.hang_up(other_id, 17, "User busy")
    await settle()
    await until(leg.ended.is_set)
    assert house.record(other_id).hangup_reason == "busy"


async def test_a_caller_that_was_not_answered_is_rung_and_gets_the_reason(house: CallingHouse) -> None:
    leg = await house.caller()
    other_id = await house.control.transfer(leg.id, OTHER)
    await settle()
    assert f"POST /channels/{leg.id}/ring" in house.pbx.requests
    assert not leg.answered
    house.pbx.hang_up(other_id, 17, "User busy")
    await settle()
    assert leg.ended.is_set()


async def test_a_caller_that_hangs_up_during_a_transfer_ends_the_ringing(house: CallingHouse) -> None:
    leg = await house.call("1001")
    await house.control.transfer(leg.id, OTHER)
    await settle()
    house.pbx.hang_up(leg.id)
    await settle()
    assert house.pbx.channels == {}


async def test_a_second_transfer_replaces_the_first(house: CallingHouse) -> None:
    leg = await house.call("1001")
    first_id = await house.control.transfer(leg.id, OTHER)
    await settle()
    second_id = await house.control.transfer(leg.id, THIRD)
    await settle()
    assert first_id not in house.pbx.channels, "it rings no longer"
    second = await answered(house, second_id)
    assert not leg.gone.is_set()
    assert leg.bridge_id == second.bridge_id is not None


async def test_who_was_connected_by_the_first_transfer_is_let_go_by_the_second(house: CallingHouse) -> None:
    leg = await house.call("1001")
    first = await answered(house, await house.control.transfer(leg.id, OTHER))
    await settle()
    second = await answered(house, await house.control.transfer(leg.id, THIRD))
    await settle()
    assert first.ended.is_set()
    assert sorted(house.pbx.channels) == sorted([leg.id, second.id])
    assert leg.bridge_id == second.bridge_id is not None


async def test_a_call_in_a_conference_leaves_it_when_it_is_transferred(house: CallingHouse) -> None:
    leg, member = await house.call("1001"), await house.call("1003")
    await house.legs.bridge_together(member, leg)
    other = await answered(house, await house.control.transfer(leg.id, OTHER))
    await settle()
    assert leg.bridge_id == other.bridge_id != member.bridge_id
    assert not member.gone.is_set()


async def test_one_request_at_a_time_continues_with_a_call(house: CallingHouse) -> None:
    ends, begun = asyncio.Event(), list[str]()

    async def stop(_: str) -> None:
        await ends.wait()

    house.control.before_transfer.append(stop)
    leg = await house.call("1001")
    first = asyncio.ensure_future(house.control.redirect(leg.id, lambda each: begun.append(each.id)))
    await settle()
    with pytest.raises(NotControlled, match="another request"):
        await house.control.redirect(leg.id, lambda _: begun.append("second"))
    with pytest.raises(NotControlled, match="another request"):
        await house.control.transfer(leg.id, OTHER)
    ends.set()
    await first
    assert begun == [leg.id]
    await house.control.redirect(leg.id, lambda _: begun.append("later"))
    assert begun == [leg.id, "later"]
    assert list(house.pbx.channels) == [leg.id], "nothing rings"


async def test_a_transferred_call_is_not_redirected(house: CallingHouse) -> None:
    leg = await house.call("1001")
    other = await answered(house, await house.control.transfer(leg.id, OTHER))
    with pytest.raises(NotControlled, match="is being transferred"):
        await house.control.redirect(leg.id, lambda _: None)
    assert leg.bridge_id == other.bridge_id is not None


async def test_stopping_gives_up_transfers(house: CallingHouse) -> None:
    leg = await house.call("1001")
    await house.control.transfer(leg.id, OTHER)
    await settle()
    await house.control.stop()
    await settle()
    assert house.pbx.channels == {}


# Record


async def test_the_recording_that_began_last_is_stopped_first(house: CallingHouse) -> None:
    leg, control = await house.call("1001"), house.control
    first = await control.recording_start(leg.id, principal=CONFIGURATION)
    second = await control.recording_start(leg.id, principal=CONFIGURATION)
    assert (await control.recording_stop(leg.id)).id == second.id
    assert (await control.recording_stop(leg.id)).id == first.id
    with pytest.raises(KeyError):
        await control.recording_stop(leg.id)
