"""Dialing by documents: whom ``<Dial>`` calls, what it reports, and the digits that the called party receives."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from msgspec.structs import replace

from bridge.calls.addresses import Address
from bridge.config import Config
from bridge.dialects.twilio import call_sid
from bridge.flows.action_settings import ActionSettings
from bridge.flows.syntax import parse
from tests.fakes.virtual_time import pass_time, run_virtually
from tests.unit.flows.twiml_documents import answers, document, done, form, inline, run_of
from tests.unit.flows.world import ACCOUNT, World


@pytest.mark.parametrize(
    ("after_s", "reason", "expected"),
    [
        (1.0, "", {"DialCallStatus": "completed", "DialBridged": "true", "DialCallSid": call_sid("placed-1")}),
        (1.0, "busy", {"DialCallStatus": "busy", "DialBridged": "false"}),
        (9.0, "noanswer", {"DialCallStatus": "no-answer", "DialBridged": "false"}),
        (0.0, "failed", {"DialCallStatus": "failed", "DialBridged": "false"}),
    ],
)
def test_dial_reports_the_outcome(after_s: float, reason: str, expected: Mapping[str, str]) -> None:
    async def act() -> None:
        world = World()
        world.originator.outcomes["+4930222"] = (after_s, reason)
        answers(world, dialed=document("<Say>Over</Say>"))

        async def hang_up() -> None:
            await pass_time(after_s + 3)
            world.originator.rung[0].leg.leave()

        leaving = asyncio.ensure_future(hang_up())
        await done(world, '<Dial action="/dialed" timeout="20" callerId="+4930111">+49 30 222</Dial>')
        await leaving
        _, destination, how = world.originator.asked[0]
        assert (destination, how["timeout_s"], how["source"].target) == (Address("tel", "+4930222"), 20, "+4930111")
        assert form(world).items() >= expected.items()
        assert [said.text for said in world.speech.said] == ["Over"]

    run_virtually(act())


@pytest.mark.parametrize(("after_s", "status"), [(0.5, "canceled"), (3.0, "completed")])
def test_a_caller_who_hangs_up_ends_the_dial_and_its_server_is_notified(after_s: float, status: str) -> None:
    async def act() -> None:
        world = World()
        leg = world.leg()

        async def hang_up() -> None:
            await pass_time(after_s)
            leg.leave()

        leaving = asyncio.ensure_future(hang_up())
        await done(world, '<Dial action="/dialed"><Client>1002</Client></Dial>', leg=leg)
        await leaving
        await pass_time(1)
        found = form(world)
        assert (found["DialCallStatus"], found["CallStatus"]) == (status, "completed")
        assert world.originator.rung[0].leg.gone.is_set()
        await world.status_callbacks.close()

    run_virtually(act())


def test_dial_without_an_action_continues_the_document_and_rings_all_nouns() -> None:
    async def act() -> None:
        world = World()
        for target in ("1002", "1003", "+4930"):
            world.originator.outcomes[target] = (1, "noanswer")
        await done(
            world,
            "<Dial><Client>1002</Client><Sip>sip:1003@pbx.example;user=phone</Sip><Number>+4930</Number></Dial>",
            "<Say>Nobody</Say>",
        )
        assert [(to.type, to.target) for _, to, _ in world.originator.asked] == [
            ("extension", "1002"), ("extension", "1003"), ("tel", "+4930")
        ]  # fmt: skip
        assert world.web.asked == []
        assert [said.text for said in world.speech.said] == ["Nobody"]

    run_virtually(act())


def test_the_called_party_receives_digits_before_the_two_are_connected() -> None:
    async def act() -> None:
        world = World()
        world.originator.outcomes["1002"] = (5, "")
        leg = world.leg()

        async def hang_up() -> None:
            await pass_time(8)
            leg.leave()

        leaving = asyncio.ensure_future(hang_up())
        nouns = '<Client>1002</Client><Number sendDigits="ww1W#">+4930</Number><Number sendDigits="1x">+4931</Number>'
        world.originator.outcomes["+4931"] = (1, "busy")
        await done(world, f"<Dial>{nouns}</Dial>", leg=leg)
        await leaving
        called = next(each.leg for each in world.originator.rung if each.leg.answered)
        sent = [(when, does[1]) for when, *does in called.did if does[0] == "send_digits"]
        assert sent == [(2, "1"), (3, "#")]  # answered after a second
        assert "sendDigits='1x'" in world.failures()[0][1]
        assert called.gone.is_set()

    run_virtually(act())


def test_numbers_are_extensions_without_a_trunk_and_documents_over_http_may_not_dial() -> None:
    async def act() -> None:
        world = World()
        world.services.account = replace(ACCOUNT, originate=False)
        await done(world, "<Dial>1002</Dial>")
        assert world.originator.asked == []
        assert "twilio.originate" in world.failures()[0][1]
        without_trunk = ActionSettings.of(Config.model_validate({}))
        world.services.settings = without_trunk
        world.originator.outcomes["1002"] = (1, "busy")
        await run_of(world, parse(inline("<Dial>1002</Dial>")), flow_id="agent").run()
        assert world.originator.asked[0][1] == Address("extension", "1002")

    run_virtually(act())
