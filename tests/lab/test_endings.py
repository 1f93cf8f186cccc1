"""How calls that are not answered end, as SIP shows it: forwarded, answered elsewhere, rejected, not registered."""

from __future__ import annotations

import asyncio

import pytest

from bridge.access import CONFIGURATION
from bridge.calls.addresses import Address
from bridge.control.originate import NotAnswered
from bridge.control.outbound_calls import OriginateRequest, OutboundCalls
from bridge.testing import judge
from bridge.testing.lab_engine import TRUNK, Lab
from tests.lab.calling import CALLING, Calling, calling_on, end_of, pcm
from tests.lab.conftest import Phones, pushing
from tests.lab.driving import action, client_of, seconds_of
from tests.lab.sip_phone import sip_phone
from tests.lab.waiting import PATIENCE_S, sends, until

MOVED = "302 Moved Temporarily"


def contact(user: str) -> dict[str, str]:
    return {"Contact": f"<sip:{user}@127.0.0.1>"}


async def not_answered(calling: Calling, extension: str) -> NotAnswered:
    call = await calling.ring(extension)
    with pytest.raises(NotAnswered) as problem:
        await asyncio.wait_for(call.answered(), PATIENCE_S)
    return problem.value


async def test_a_forwarded_call_rings_where_the_phone_forwards_it_to(calling: Calling, phones: Phones) -> None:
    (bob,) = await phones("1002")
    async with sip_phone(calling.lab, "1004") as phone:
        phone.response, phone.response_headers = MOVED, contact("1002")
        call = await calling.ring("1004")
        leg = await asyncio.wait_for(call.answered(), PATIENCE_S)
        record = calling.record(call.id)
        assert (leg.id, record.status, record.forwarded_to, record.destination.target) == (
            call.id, "progressing", "1002", "1004"
        )  # fmt: skip
        await leg.hold_in_bridge()
        player = calling.players.of(leg)
        await player.play(*pcm(700, 1))
        await player.close()
        assert seconds_of(await end_of(leg, bob), 700) > 0.5
        assert len(await phone.requests("INVITE")) == 1
    assert (record.hangup_reason, calling.told(call.id)) == (
        "normal", ["dialing", "ringing", "progressing", "terminating", "hangup"]
    )  # fmt: skip


async def test_a_forward_out_by_the_trunk_says_who_has_forwarded(calling: Calling) -> None:
    async with sip_phone(calling.lab, "1004") as phone, sip_phone(calling.lab, TRUNK) as far:
        phone.response, phone.response_headers = MOVED, contact("+4930123")
        call = await calling.ring("1004")
        (invite,) = await far.requests("INVITE")
        assert invite.start.startswith("INVITE sip:+4930123@")
        assert "sip:1004@" in invite.headers["diversion"]
        await call.cancel()
        await far.requests("CANCEL")
    assert calling.record(call.id).hangup_reason == "cancel"


async def test_a_forward_is_reported_where_it_is_not_followed(lab: Lab) -> None:
    async with (
        calling_on(lab, CALLING.model_copy(update={"follow_forwards": False})) as calling,
        sip_phone(lab, "1004") as phone,
    ):
        phone.response, phone.response_headers = MOVED, contact("1002")
        problem = await not_answered(calling, "1004")
        (record,) = calling.records.ended()
        assert (problem.reason, record.hangup_reason, record.hangup_by) == ("forwarded", "forwarded", "remote")
        assert (record.forwarded_to, record.sip_code) == ("1002", 302)


async def test_a_loop_of_forwards_ends(calling: Calling) -> None:
    async with sip_phone(calling.lab, "1004") as phone:
        phone.response, phone.response_headers = MOVED, contact("1004")
        assert (await not_answered(calling, "1004")).reason == "forwarded"
        assert len(await phone.requests("INVITE")) == 1


async def test_a_call_given_up_while_its_forward_rings_is_over(calling: Calling) -> None:
    async with sip_phone(calling.lab, "1004") as phone, sip_phone(calling.lab, TRUNK) as far:
        phone.response, phone.response_headers = MOVED, contact("555123")
        call = await calling.ring("1004")
        await far.requests("INVITE")
        await calling.call_control.hangup(call.id)
        await far.requests("CANCEL")
        with pytest.raises(NotAnswered, match="cancel"):
            await asyncio.wait_for(call.answered(), PATIENCE_S)


async def test_phones_that_lose_show_no_missed_call(calling: Calling, phones: Phones) -> None:
    await phones("1002")
    outbound = OutboundCalls(calling.originator, calling.records)
    async with sip_phone(calling.lab, "1004") as phone:
        request = OriginateRequest(
            [Address("extension", "1004"), Address("extension", "1002")], CONFIGURATION, answer_method="hangup_others"
        )
        originated = await outbound.originate(request)
        (cancel,) = await phone.requests("CANCEL")
        assert "cause=26" in cancel.headers["reason"]
        assert "SIP;cause=200" in cancel.headers["reason"].replace(" ", "")
        lost = originated.calls[0]
        await until(lambda: lost.ended)
        assert (lost.hangup_reason, lost.hangup_detail) == ("cancel", "answered elsewhere")
        won = calling.legs.get(originated.groupcalls[0].answer_call_id)
        assert won is not None
        await won.hang_up()
    await outbound.close()


async def test_a_call_given_up_is_a_missed_call(calling: Calling) -> None:
    async with sip_phone(calling.lab, "1004") as phone:
        call = await calling.ring("1004")
        await phone.requests("INVITE")
        await call.cancel()
        (cancel,) = await phone.requests("CANCEL")
        assert "cause=26" not in cancel.headers.get("reason", "")


async def test_a_connect_to_two_phones_shows_no_missed_call(lab: Lab, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    bob.play_next(judge.tone(700, 60, 8000))
    async with pushing(lab) as target, client_of(target) as client, sip_phone(lab, "1004") as phone:
        both = [{"type": "extension", "target": each} for each in ("1004", "1002")]
        call_id = await client.call("1001", action("connect", destinations=both))
        (cancel,) = await phone.requests("CANCEL")
        assert "cause=26" in cancel.headers["reason"]
        await sends(alice, 1)
        await client.done("POST", f"/v1.0/calls/{call_id}/hangup")
        await client.until("call_hangup", call_id)
    assert seconds_of(await alice.heard(), 700) > 0.5


async def test_why_a_call_failed(calling: Calling) -> None:
    for extension, detail in (("1004", "not registered: 1004"), ("1999", "no such extension: 1999")):
        problem = await not_answered(calling, extension)
        record = calling.records.ended()[-1]
        assert (problem.reason, record.hangup_reason, record.hangup_detail) == ("failed", "failed", detail)
    async with sip_phone(calling.lab, "1004") as phone:
        for code, reason in ((404, "failed"), (488, "failed"), (503, "failed"), (486, "busy"), (603, "noanswer")):
            phone.response = f"{code} No"
            assert (await not_answered(calling, "1004")).reason == reason
            record = calling.records.ended()[-1]
            assert (record.sip_code, record.hangup_detail) == (code, f"SIP response {code}")


async def test_a_number_to_which_no_route_leads(lab: Lab) -> None:
    config = CALLING.model_copy(update={"tel_endpoint": "PJSIP/{number}@no-trunk"})
    async with calling_on(lab, config) as calling:
        call = await calling.originator.originate(Address("tel", "555"))
        with pytest.raises(NotAnswered, match="no route: no such endpoint: no-trunk"):
            await asyncio.wait_for(call.answered(), PATIENCE_S)
