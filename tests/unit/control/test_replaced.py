"""A channel that takes the place of another inherits everything: leg, hold, route, stream, record."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from bridge.access import CONFIGURATION
from bridge.calls.addresses import Address
from bridge.config import Config, PbxConfig
from bridge.config.calling import CallingConfig
from bridge.control.dial_policy import DialPolicy
from bridge.control.legs import LegEnded
from bridge.control.originate import NotAnswered, Originator
from bridge.errors import AriError
from bridge.media.call_admission import CallAdmission
from bridge.media.counters import Counters
from bridge.streams.subscription import routes_of
from bridge.taps.renewal import Renewal
from bridge.taps.taps import Join, Snoop
from tests.fakes.virtual_time import now, pass_time, settle
from tests.fakes.wire import Wire
from tests.unit.control.replacing import Replacing


@pytest.fixture
async def house(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Replacing]:
    house = Replacing(monkeypatch)
    yield house
    await house.streams.stop()
    await house.tracker.close()


async def test_an_agents_stream_continues_with_the_party_that_its_phone_transfers(house: Replacing) -> None:
    phone, stream = await house.agent_call()
    bridge_id = house.stasis.bridge_of(phone)
    new = house.pbx.transfer(phone, house.other_party())
    await pass_time(0.1)
    assert not stream.ended
    assert house.fake_taps.opened == [Join(str(bridge_id))]  # the same audio, without a gap
    assert [(track.info.channel_id, track.info.number) for track in stream.tracks] == [(new, "1001")]
    assert house.stasis.bridge_of(new) == bridge_id == house.pbx.bridge_of(new)
    found = house.tracker.find(phone)
    assert found is not None
    assert (found[0].id, found[1].id) == ("other", new)
    record = house.records.get(phone)
    assert record is not None
    assert (record.id, record.status) == (phone, "progressing")
    stream.end("the application closed the stream")
    await settle()
    assert new not in house.pbx.channels  # then = "hangup"
    assert record.status == "hangup"
    assert (house.records.live()[0].id, len(house.stasis)) == ("other", 0)


async def test_the_dialplan_continues_where_the_first_channel_left_it(monkeypatch: pytest.MonkeyPatch) -> None:
    house = Replacing(monkeypatch, then="continue")
    phone, stream = await house.agent_call()
    new = house.pbx.transfer(phone, house.other_party())
    await settle()
    stream.end("the application closed the stream")
    await settle()
    plan = house.pbx.channels[new].resource["dialplan"]
    assert (plan["context"], plan["exten"], plan["priority"]) == ("from-internal", "750", 2)
    await house.streams.stop()
    await house.tracker.close()


async def test_a_clients_stream_follows_too(house: Replacing) -> None:
    phone, _ = await house.agent_call()
    found = house.tracker.find(phone)
    assert found is not None
    dialect = routes_of(Config.model_validate({"dialplan": [
        {"id": "c", "match": "1", "url": "ws://app.example.org/", "dialect": "twilio"}]}))[0]  # fmt: skip
    stream = house.client_streams.open(
        *found, dialect.new_dialect(), Wire(), listen="in", speak="none", principal=CONFIGURATION
    )
    await settle()
    new = house.pbx.transfer(phone, house.other_party())
    await settle()
    assert not stream.ended
    assert (stream.origin.party_id, stream.call.call_id) == (new, "other")
    assert Snoop(new, "in", "none") in [track.tap_point for track in stream.tracks]


async def test_a_transfer_by_request_ends_the_agents_stream_and_not_the_call(house: Replacing) -> None:
    phone, stream = await house.agent_call()
    assert house.legs.take(phone) is not None
    await house.inbound.before_transfer(phone)
    await settle()
    assert stream.ended
    assert phone in house.pbx.channels
    await house.inbound.before_transfer(phone)  # again: does nothing


async def test_a_channel_that_replaces_a_leg_is_that_leg(monkeypatch: pytest.MonkeyPatch) -> None:
    house = Replacing(monkeypatch, claims=True)
    leg = await house.caller("1002")
    bridge_id = await leg.hold_in_bridge()
    first = leg.id
    await leg.mute("in")
    partner = await house.caller("1003")
    partners = await house.legs.bridge_together(leg, partner)
    leaving = asyncio.create_task(partners.peer_left())
    new = house.pbx.transfer(first, house.other_party())
    await settle()
    assert (leg.id, house.legs.get(new), house.legs.get(first)) == (new, leg, None)
    assert (leg.gone.is_set(), leg.bridge_id, leaving.done()) == (False, bridge_id, False)
    assert house.pbx.channels[new].muted == {"in"}
    house.pbx.press(new, "5")
    await settle()
    assert await leg.digits.get() == "5"
    await leg.continue_in_dialplan()
    assert house.pbx.channels[new].resource["dialplan"]["exten"] == "750"
    assert await leaving is leg
    assert house.legs.object_ids == {bridge_id}
    await house.tracker.close()


async def test_a_pickup_answers_the_call_that_rings(house: Replacing) -> None:
    config = CallingConfig(extension_endpoint="PJSIP/{extension}")
    originator = Originator(
        house.client,
        house.ids,
        house.legs,
        house.records,
        config,
        DialPolicy(config, PbxConfig(), now),
        admission=CallAdmission(10),
    )
    outbound = await originator.originate(Address("extension", "1002"))
    house.pbx.rings(outbound.id)
    picker = house.pbx.come("picker", "1003", "*8", state="Up").id
    await settle()
    assert not house.tracker.calls[picker].answered  # it is about to be in another call
    house.pbx.replace(outbound.id, picker)
    await settle()
    leg = await outbound.answered()
    assert (leg.id, leg.answered, leg.gone.is_set()) == (picker, True, False)
    found = house.tracker.find(outbound.id)
    assert found is not None
    assert (found[0].id, found[0].answered, list(found[0].parties)) == (outbound.id, True, [picker])
    assert list(house.tracker.calls) == [outbound.id]
    record = house.records.get(picker)
    assert record is not None
    assert (record.id, record.status, record.hangup_reason) == (outbound.id, "progressing", "")
    await outbound.cancel()
    await settle()
    assert (record.status, record.hangup_reason, house.pbx.channels) == ("hangup", "normal", {})
    with pytest.raises(NotAnswered):
        await outbound.answered()
    await originator.stop()


async def test_what_is_asked_of_a_leg_while_it_is_replaced_is_done_with_the_new_channel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    house = Replacing(monkeypatch, claims=True)
    leg, partner = await house.caller("1002"), await house.caller("1003")
    await leg.hold_in_bridge()
    joined = await partner.hold_in_bridge()
    house.pbx.answering.clear()
    moving = asyncio.create_task(leg.move_to(joined))
    muting = asyncio.create_task(leg.mute("in"))
    await settle()
    new = house.pbx.transfer(leg.id, house.other_party())
    house.pbx.answering.set()
    await asyncio.gather(moving, muting)
    assert (leg.id, leg.bridge_id, house.pbx.bridge_of(new)) == (new, joined, joined)
    assert house.pbx.channels[new].muted == {"in"}
    await partner.hang_up()
    await leg.hang_up()
    await settle()
    assert (list(filter(house.ids.ours, house.pbx.bridges)), house.legs.object_ids) == ([], set())
    await house.tracker.close()


async def test_a_leg_that_is_replaced_while_it_is_hung_up_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    house = Replacing(monkeypatch, claims=True)
    leg = await house.caller("1002")
    house.pbx.answering.clear()
    ending = asyncio.create_task(leg.hang_up())
    await settle()
    new = house.pbx.transfer(leg.id, house.other_party())
    house.pbx.answering.set()
    await ending
    assert new not in house.pbx.channels
    await house.tracker.close()


@pytest.mark.parametrize("then", ["hangup", "continue"])
async def test_a_call_that_is_replaced_as_its_stream_ends_does_not_stay_in_silence(
    monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    house = Replacing(monkeypatch, then=then)
    phone, stream = await house.agent_call()
    house.pbx.answering.clear()
    stream.end("the application closed the stream")
    await settle()
    new = house.pbx.transfer(phone, house.other_party())
    house.pbx.answering.set()
    await pass_time(0.1)
    assert len(house.stasis) == 0
    assert (new in house.pbx.channels) == (then == "continue")
    await house.streams.stop()
    await house.tracker.close()


@pytest.mark.parametrize("act", ["answer", "mute", "hold_in_bridge", "get_variable"])
async def test_a_request_that_overtakes_the_report_of_a_replacement_is_sent_to_the_new_channel(
    monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    """Asterisk rejects the old channel's id, and the event that names the new one is still on its way."""
    house = Replacing(monkeypatch, claims=True)
    leg = await house.caller("1002")
    house.client.delay_events()
    new = house.pbx.transfer(leg.id, house.other_party())
    house.pbx.channels[new].variables["LANE"] = "left"
    doing = asyncio.create_task(leg.get_variable("LANE") if act == "get_variable" else getattr(leg, act)())
    await settle()
    assert not doing.done()
    house.client.deliver_events()
    result = await doing
    assert (leg.id, leg.gone.is_set()) == (new, False)
    if act == "hold_in_bridge":
        assert house.pbx.bridge_of(new) == leg.bridge_id == result
    assert act != "get_variable" or result == "left"
    assert act != "mute" or house.pbx.channels[new].muted == {"in"}
    await leg.hang_up()
    await house.tracker.close()


async def test_a_leg_of_which_nothing_is_reported_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    house = Replacing(monkeypatch, claims=True)
    leg = await house.caller("1002")
    assert await leg.get_variable("LANE") == ""
    house.client.delay_events()
    house.pbx.hang_up(leg.id)
    for act in (leg.mute, lambda: leg.get_variable("LANE"), leg.hold_in_bridge):
        with pytest.raises(LegEnded):
            await act()
    await house.tracker.close()


@pytest.mark.parametrize("meanwhile", ["replaced", "entered", "ended"])
async def test_a_list_of_channels_that_is_older_than_events_ends_and_holds_nothing(
    monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    """After a reconnect the list is on its way while calls come, are transferred, and end."""
    house = Replacing(monkeypatch, claims=meanwhile != "ended")
    known = await house.caller("1002") if meanwhile == "replaced" else None
    phone = house.pbx.call("1004", "750") if meanwhile == "ended" else ""
    other = house.other_party()
    await settle()
    record = house.records.get(known.id) if known is not None else None
    late = house.pbx.late["GET /channels$"] = asyncio.Event()
    adopting = asyncio.create_task(house.stasis.adopt())
    await settle()
    if known is not None:
        house.pbx.transfer(known.id, other)
    elif meanwhile == "entered":
        house.pbx.call("1004", "750")
    elif meanwhile == "ended":
        house.pbx.hang_up(phone)
    await settle()
    late.set()
    await adopting
    await settle()
    legs = list(house.legs.present)
    assert [leg.gone.is_set() for leg in legs] == ([] if meanwhile == "ended" else [False])
    assert record is None or not record.ended
    assert len(house.stasis) == 0
    await house.streams.stop()
    await house.tracker.close()


async def test_a_list_of_channels_that_is_older_than_a_visit_to_the_dialplan_does_not_end_the_visit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    house = Replacing(monkeypatch, claims=True)
    leg = await house.caller("1002")
    house.pbx.dialplan["ways-in", "queue"] = (("Queue", "sales"),)
    house.client.delay_events()  # that of its leaving comes after the list
    house.pbx.late["GET /channels$"] = late = asyncio.Event()
    adopting = asyncio.create_task(house.stasis.adopt())
    await settle()
    visiting = asyncio.create_task(leg.visit_dialplan("queue"))
    await settle()
    late.set()
    await adopting
    house.client.deliver_events()
    await settle()
    assert leg.away is not None
    assert not visiting.done()
    house.pbx.hang_up(leg.id)
    with pytest.raises(LegEnded):
        await visiting
    await house.tracker.close()


@pytest.mark.parametrize("kind", ["leg", "held"])
async def test_a_channel_that_joins_its_bridge_again_keeps_it(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    house = Replacing(monkeypatch, claims=kind == "leg")
    if kind == "leg":
        leg = await house.caller("1002")
        await leg.hold_in_bridge()
        channel_id = leg.id
    else:
        channel_id, _ = await house.agent_call()
    bridge_id = house.pbx.bridge_of(channel_id)
    assert bridge_id is not None
    house.pbx.requests.clear()
    await asyncio.gather(house.stasis.rejoin(channel_id), house.stasis.rejoin(channel_id))
    await settle()
    left, joined = f"POST /bridges/{bridge_id}/removeChannel", f"POST /bridges/{bridge_id}/addChannel"
    assert house.pbx.requests == [left, joined] * 2
    assert house.pbx.bridge_of(channel_id) == house.stasis.bridge_of(channel_id) == bridge_id
    await house.stasis.rejoin("unknown")
    house.pbx.hang_up(channel_id)
    await pass_time(1)
    assert house.pbx.bridges == {}
    await house.streams.stop()
    await house.tracker.close()


async def test_a_channel_that_cannot_join_its_bridge_again_yet_is_held_later(monkeypatch: pytest.MonkeyPatch) -> None:
    house = Replacing(monkeypatch)
    phone, _ = await house.agent_call()
    bridge_id = house.stasis.bridge_of(phone)
    house.pbx.failures["addChannel"] = AriError(0, "POST", "/bridges", "no answer in time")
    joining = asyncio.create_task(house.stasis.rejoin(phone))
    await settle()
    assert house.pbx.bridge_of(phone) is None
    house.pbx.failures.clear()
    await joining
    assert house.pbx.bridge_of(phone) == bridge_id
    await house.streams.stop()
    await house.tracker.close()


async def test_a_call_that_joins_its_bridge_again_is_not_taken_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """A leg would be in a bridge that its channel has left, and be moved back there later."""
    house = Replacing(monkeypatch)
    phone, _ = await house.agent_call()
    house.pbx.failures["addChannel"] = AriError(0, "POST", "/bridges", "no answer in time")
    joining = asyncio.create_task(house.stasis.rejoin(phone))
    await settle()
    assert house.legs.take(phone) is None
    house.pbx.failures.clear()
    await joining
    leg = house.legs.take(phone)
    assert leg is not None
    assert leg.bridge_id == house.pbx.bridge_of(phone) is not None
    await house.streams.stop()
    await house.tracker.close()


async def test_a_leg_that_cannot_join_its_bridge_again_is_in_none(monkeypatch: pytest.MonkeyPatch) -> None:
    house = Replacing(monkeypatch, claims=True)
    leg = await house.caller("1002")
    await leg.hold_in_bridge()
    house.pbx.failures["addChannel"] = AriError(500, "POST", "/bridges", "refused")
    with pytest.raises(AriError):
        await house.stasis.rejoin(leg.id)
    assert leg.bridge_id is house.pbx.bridge_of(leg.id) is None
    house.pbx.failures.clear()
    assert await leg.hold_in_bridge() == house.pbx.bridge_of(leg.id)
    await leg.hang_up()
    await pass_time(1)
    assert house.pbx.bridges == {}
    await house.tracker.close()


@pytest.mark.parametrize("behind", ["nobody", "a consultation"])
async def test_the_other_half_of_a_local_channel_joins_again_when_the_partner_changes(
    monkeypatch: pytest.MonkeyPatch, behind: str
) -> None:
    """A feature code transfers: the party that consulted leaves the Local channel's bridge to the other one."""
    house = Replacing(monkeypatch)
    rejoined: list[str] = []

    async def rejoin(channel_id: str) -> None:
        rejoined.append(channel_id)

    Renewal(house.taps, house.tracker, Counters(), rejoin=rejoin)
    phone, _ = await house.agent_call()
    new = house.pbx.transfer(phone, house.other_party())
    await settle()
    assert rejoined == []
    near = next(each for each in house.pbx.channels.values() if each.resource["name"].endswith(";1"))
    bridge_id = house.pbx.bridge_of(near.id)
    assert bridge_id is not None
    if behind == "a consultation":
        (before,) = {*house.pbx.bridges[bridge_id]["channels"]} - {near.id}
        house.pbx.hang_up(before)
        third = house.pbx.come("third", "1003", "1002", state="Up").id
        await settle()
        house.pbx.enter_bridge(bridge_id, third)
        await settle()
    assert rejoined == ([new] if behind == "a consultation" else [])
    await house.streams.stop()
    await house.tracker.close()


@pytest.mark.parametrize(("members", "parked"), [(2, True), (3, False)])
async def test_a_call_whose_phone_parks_ends_with_that_reason(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, members: int, parked: bool
) -> None:
    """With more channels in the bridge Asterisk parks nothing."""
    caplog.set_level(logging.INFO)
    reasons: list[str] = []
    for claims in (False, True):
        house = Replacing(monkeypatch, claims=claims)
        leg = None
        if claims:
            leg = await house.caller("1002")
            await leg.hold_in_bridge()
            phone = leg.id
        else:
            phone, _ = await house.agent_call()
        bridge = house.pbx.bridges[str(house.pbx.bridge_of(phone))]
        shown = bridge | {"channels": [phone, "media", "other"][:members]}
        house.pbx.emit("BridgeBlindTransfer", house.pbx.channels[phone], bridge=shown, result="Success", exten="800")
        house.pbx.hang_up(phone)
        await pass_time(1)
        if leg is not None:
            reasons.append(leg.departure)
        else:
            (line,) = (each.getMessage() for each in caplog.records if each.getMessage().startswith("stream ended"))
            reasons.append(line.partition("reason=")[2])
        await house.streams.stop()
        await house.tracker.close()
    assert reasons == (["the call was parked"] * 2 if parked else ["the call left the application", "the call ended"])
