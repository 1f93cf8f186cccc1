"""Whose numbers applications get: of calls that we originate, and of callers who withhold theirs."""

from __future__ import annotations

import pytest

from bridge.testing.lab_engine import TRUNK, Lab
from tests.lab.conftest import Phones, pushing
from tests.lab.driving import client_of
from tests.lab.sink import open_sink
from tests.lab.sip_phone import sip_phone
from tests.lab.waiting import sends

SECRET = "5557777"


@pytest.mark.parametrize(("kind", "number"), [("extension", "1001"), ("tel", "5550100")])
async def test_an_originated_call_is_told_as_the_api_has_it(lab: Lab, phones: Phones, kind: str, number: str) -> None:
    (phone,) = await phones("1001" if kind == "extension" else "trunk")
    async with open_sink() as sink:
        which = {"extensions": ["1001"]} if kind == "extension" else {"trunks": ["trunk-a"]}
        subscription = {"id": "s", "url": sink.url, "dialect": "twilio", **which}
        async with pushing(lab, subscriptions=[subscription]) as target, client_of(target) as client:
            source = {"type": "tel", "target": "5551236"}
            call_id = await client.call(
                number, {"type": "sleep", "option": {"duration": 60_000}}, kind=kind, source=source
            )
            (received,) = await sink.connected(1)
            await sends(phone, 0.5)
            parameters = received.messages[1]["start"]["customParameters"]
            record = await client.record(call_id)
            await client.done("POST", f"/v1.0/calls/{call_id}/hangup")
    assert (parameters["from_number"], parameters["to_number"], parameters["direction"]) == (
        "5551236", number, "outbound"
    )  # fmt: skip
    assert (record["source"]["target"], record["destination"]["target"], record["direction"]) == (
        "5551236", number, "outgoing"
    )  # fmt: skip


@pytest.mark.parametrize("shown", [False, True])
async def test_a_withheld_number_stays_withheld(lab: Lab, phones: Phones, shown: bool) -> None:
    (alice,) = await phones("1001")
    async with open_sink() as sink:
        subscription = {"id": "s", "url": sink.url, "dialect": "twilio", "dids": ["5551001"]}
        privacy = {"show_withheld_numbers": shown}
        async with (
            pushing(lab, subscriptions=[subscription], privacy=privacy) as target,
            client_of(target) as client,
            sip_phone(lab, TRUNK) as caller,
        ):
            await caller.call(
                "5551001", headers=f'P-Asserted-Identity: "Mallory" <sip:{SECRET}@127.0.0.1>\r\nPrivacy: id\r\n'
            )
            (received,) = await sink.connected(1)
            await sends(alice, 0.5)
            call = await target.call_from("trunk-a")
            caller.hang_up()
            await client.until("call_hangup", call["id"])
            everything = [str(call), str(client.events), str(received.messages)]
            assert received.messages[1]["start"]["customParameters"]["to_number"] == "1001"
    for told in everything:
        assert (SECRET in told) == shown
        assert shown or "Mallory" not in told
