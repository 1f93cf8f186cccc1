"""Originated calls on the fake PBX: forwarded, given up meanwhile, not dialed at all."""

from __future__ import annotations

import asyncio
import time

import pytest

from bridge.calls.addresses import Address, AddressType
from bridge.config import PbxConfig
from bridge.config.calling import CallingConfig
from bridge.control.dial_policy import DialPolicy
from bridge.control.forwarding import MAX_FORWARDS, destinations_of, endpoint_name
from bridge.control.originate import NotAnswered, Originator, OutboundCall
from bridge.media.call_admission import CallAdmission
from bridge.patterns import Patterns
from tests.fakes.virtual_time import pass_time, run_virtually, settle
from tests.unit.control.house import House

CONFIG = CallingConfig(tel_endpoint="PJSIP/{number}@trunk-a", denied_numbers=("0900",))
WITH_SIP = CONFIG.model_copy(update={"sip_endpoint": "PJSIP/sip-out/{uri}", "sip_hosts": Patterns(("host",))})
NAMING = PbxConfig(extensions=Patterns(("1*",)), trunks=Patterns(("trunk-a",)))


class Dialer(House):
    """A house that originates calls."""

    def __init__(self, config: CallingConfig = CONFIG) -> None:
        super().__init__()
        self.client.on_event("*", self.records.on_event)
        self.policy = DialPolicy(config, NAMING, time.monotonic)
        self.originator = Originator(
            *(self.client, self.ids, self.legs, self.records, config, self.policy), admission=CallAdmission(1000)
        )

    async def ring(self, target: str = "1001", kind: AddressType = "extension") -> OutboundCall:
        call = await self.originator.originate(Address(kind, target))
        await settle()
        return call

    def dialed(self, call: OutboundCall) -> str:
        return self.pbx.channels[call.id].dialstring

    async def forwarded(self, call: OutboundCall, to: str) -> None:
        self.pbx.forward(call.id, to)
        await settle()

    async def end(self, call: OutboundCall) -> tuple[str, str]:
        with pytest.raises(NotAnswered) as problem:
            await call.answered()
        record = self.records.get(call.id)
        assert record is not None
        assert problem.value.reason == record.hangup_reason
        return record.hangup_reason, record.hangup_detail


def test_a_forwarded_call_keeps_its_id_and_its_record() -> None:
    async def act() -> None:
        dialer = Dialer()
        call = await dialer.ring()
        answered = asyncio.ensure_future(call.answered())
        dialer.pbx.rings(call.id)
        await dialer.forwarded(call, "1002")
        assert dialer.dialed(call) == "1002"
        assert dialer.legs.originated == 1
        record = dialer.records.get(call.id)
        assert record is not None
        assert (record.status, record.forwarded_to) == ("dialing", "1002")
        dialer.pbx.rings(call.id)
        dialer.pbx.pick_up(call.id)
        leg = await answered
        assert leg is call.leg
        assert (leg.id, record.status) == (call.id, "progressing")
        statuses = [each.data["status"] for each in dialer.published if each.type.startswith("call_")]
        assert statuses == ["dialing", "ringing", "ringing", "dialing", "ringing", "progressing"]
        dialer.pbx.hang_up(call.id)
        await settle()
        assert (record.hangup_reason, record.hangup_by) == ("normal", "remote")

    run_virtually(act())


def test_a_phone_may_forward_before_asterisk_has_answered_the_request_to_dial_it() -> None:
    async def act() -> None:
        dialer = Dialer()
        gate = dialer.pbx.late["POST /channels/.*/dial"] = asyncio.Event()
        originating = asyncio.ensure_future(dialer.ring())
        await settle()
        (channel_id,) = dialer.pbx.channels
        dialer.pbx.forward(channel_id, "1002")
        await settle()
        gate.set()
        call = await originating
        await settle()
        assert dialer.dialed(call) == "1002"
        await call.cancel()

    run_virtually(act())


def test_a_number_outside_goes_out_by_the_trunk_with_the_number_that_forwarded_it() -> None:
    async def act() -> None:
        dialer = Dialer()
        call = await dialer.ring()
        await dialer.forwarded(call, "030123")
        assert dialer.dialed(call) == "030123@trunk-a"
        variables = dialer.pbx.channels[call.id].variables
        assert variables["REDIRECTING(from-num,i)"] == "1001"
        await call.cancel()

    run_virtually(act())


@pytest.mark.parametrize(
    ("config", "to"),
    [
        (CONFIG.model_copy(update={"follow_forwards": False}), "1002"),
        (CONFIG, "0900123"),
        (CONFIG, "1001"),
        (CONFIG.model_copy(update={"max_calls_per_minute": 1}), "1002"),
    ],
)
def test_a_forward_that_is_not_followed_is_reported(config: CallingConfig, to: str) -> None:
    async def act() -> None:
        dialer = Dialer(config)
        call = await dialer.ring()
        await dialer.forwarded(call, to)
        assert (await dialer.end(call))[0] == "forwarded"
        record = dialer.records.get(call.id)
        assert record is not None
        assert (record.forwarded_to, record.sip_code) == (to, 302)
        assert dialer.legs.originated == 0

    run_virtually(act())


def test_a_chain_of_forwards_ends() -> None:
    async def act() -> None:
        dialer = Dialer()
        call = await dialer.ring()
        for number in range(MAX_FORWARDS):
            await dialer.forwarded(call, f"11{number:02}")
            assert call.id in dialer.pbx.channels
        await dialer.forwarded(call, "1888")
        assert (await dialer.end(call))[0] == "forwarded"

    run_virtually(act())


def test_a_call_given_up_between_two_phones_is_over() -> None:
    async def act() -> None:
        dialer = Dialer()
        call = await dialer.ring()
        gate = dialer.pbx.gates["POST /channels/create"] = asyncio.Event()
        await dialer.forwarded(call, "1002")
        giving_up = asyncio.ensure_future(call.cancel())
        await settle()
        gate.set()
        await giving_up
        assert (await dialer.end(call))[0] == "cancel"
        assert call.id not in dialer.pbx.channels
        assert len(dialer.legs) == 0

    run_virtually(act())


def test_phones_ring_no_longer_in_all_than_the_first_might() -> None:
    async def act() -> None:
        dialer = Dialer()
        call = await dialer.ring()
        await pass_time(20)
        await dialer.forwarded(call, "1002")
        assert dialer.pbx.timeouts == [30, 10]
        await call.cancel()

    run_virtually(act())


@pytest.mark.parametrize(
    ("to", "detail"),
    [
        (Address("extension", "1999"), "no such extension: 1999"),
        (Address("extension", "1004"), "not registered: 1004"),
        (Address("tel", "555"), "no route: not registered: trunk-a"),
    ],
)
def test_why_a_call_was_not_even_dialed(to: Address, detail: str) -> None:
    async def act() -> None:
        dialer = Dialer()
        dialer.pbx.unknown = {"1999"}
        dialer.pbx.offline = {"1004", "trunk-a"}
        call = await dialer.originator.originate(to)
        await settle()
        assert await dialer.end(call) == ("failed", detail)

    run_virtually(act())


@pytest.mark.parametrize(
    ("sip_code", "cause", "reason"),
    [(404, 1, "failed"), (488, 58, "failed"), (486, 17, "busy"), (603, 21, "noanswer")],
)
def test_with_what_a_phone_has_rejected_a_call(sip_code: int, cause: int, reason: str) -> None:
    async def act() -> None:
        dialer = Dialer()
        call = await dialer.ring()
        dialer.pbx.reject(call.id, sip_code, cause, "in words")
        await settle()
        assert await dialer.end(call) == (reason, f"SIP response {sip_code}")
        record = dialer.records.get(call.id)
        assert record is not None
        assert record.sip_code == sip_code

    run_virtually(act())


def test_a_phone_that_lost_is_told_that_another_has_answered() -> None:
    async def act() -> None:
        dialer = Dialer()
        call = await dialer.ring()
        await call.cancel(answered_elsewhere=True)
        assert dialer.pbx.hangup_reasons == {call.id: "answered_elsewhere"}
        assert await dialer.end(call) == ("cancel", "answered elsewhere")

    run_virtually(act())


def test_what_a_forward_may_mean() -> None:
    policy = DialPolicy(WITH_SIP, NAMING, time.monotonic)
    phone, trunk, stranger = Address("extension", "1001"), Address("tel", "555"), Address("sip", "sip:a@host")
    for by, forward, meant in (
        (phone, "1002", [("extension", "1002"), ("tel", "1002")]),
        (phone, "PJSIP/1001/sip:1002@host", [("sip", "sip:1002@host"), ("extension", "1002"), ("tel", "1002")]),
        (phone, "PJSIP/1001/sip:1002@elsewhere", [("extension", "1002"), ("tel", "1002")]),
        (phone, "1002&PJSIP/1003", []),
        (phone, "", []),
        (trunk, "030123", []),
        (trunk, "PJSIP/trunk-a/sip:030123@host", [("sip", "sip:030123@host")]),
        (stranger, "030123", []),
        (stranger, "PJSIP/sip-out/sip:030123@elsewhere", []),
    ):
        assert [(each.type, each.target) for each in destinations_of(forward, by, policy)] == meant


@pytest.mark.parametrize(("kind", "target"), [("tel", "555"), ("sip", "sip:a@host")])
def test_a_stranger_outside_forwards_to_no_number_at_our_cost(kind: AddressType, target: str) -> None:
    async def act() -> None:
        dialer = Dialer(WITH_SIP)
        call = await dialer.ring(target, kind)
        await dialer.forwarded(call, "PJSIP/sip-out/sip:030123@elsewhere")
        assert (await dialer.end(call))[0] == "forwarded"

    run_virtually(act())


def test_a_phone_that_forwards_to_a_stranger_does_not_make_it_one_of_ours() -> None:
    async def act() -> None:
        dialer = Dialer(WITH_SIP)
        call = await dialer.ring()
        await dialer.forwarded(call, "PJSIP/1001/sip:a@host")
        assert dialer.dialed(call) == "sip-out/sip:a@host"
        await dialer.forwarded(call, "030123")
        assert (await dialer.end(call))[0] == "forwarded"

    run_virtually(act())


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [
        ("PJSIP/1001", "1001"),
        ("PJSIP/555@trunk-a", "trunk-a"),
        ("PJSIP/sip-out/sip:a@b", "sip-out"),
        ("Local/1@internal", ""),
    ],
)
def test_the_endpoint_of_a_dial_string(endpoint: str, name: str) -> None:
    assert endpoint_name(endpoint) == name
