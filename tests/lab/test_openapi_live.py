"""The HTTP interface against its own document, with a real Asterisk behind it, a call, a conference and a recording."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from urllib.parse import quote

import pytest

from bridge.testing import judge
from bridge.testing.lab_engine import Lab
from tests.lab.conftest import Phones, pushing
from tests.lab.driving import RATE, client_of
from tests.loopback.openapi import examine

CALLING = {
    "tel_endpoint": "Local/602@from-internal/{number}",
    "sip_endpoint": "",
    "extension_endpoint": "Local/602@from-internal/{extension}",
    "conference_endpoint": "Local/602@from-internal/{conference}",
    "context": "media-tap",
    "ring_timeout_s": 1,
    "max_calls": 20,
}
"""Every destination leads to an extension that only rings: no generated value leads out of the lab's dialplan."""
FLOW = {
    "id": "meeting",
    "match": ["750"],
    "actions": [{"type": "conference_join", "option": {"conference_id": "sales"}}],
}
ENDS = ("deleteCall", "hangupCall", "transferCall", "kickParticipant", "deleteConference", "deleteRecording")
"""What takes away what is looked at: these come last."""

PLACE = "createCalls"
TAGS = ("Calls", "Recordings", "Conferences")
"""What touches the PBX; everything else, and all that goes wrong before, is examined without one."""


async def test_schemathesis_finds_nothing_where_calls_go_on(
    lab: Lab, phones: Phones, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, logger="bridge")
    alice, bob, carol = await phones("1001", "1002", "1003")
    for phone in (alice, bob, carol):
        phone.play_next(judge.tone(500, 60, RATE))
    async with pushing(lab, calling=CALLING, flows=[FLOW]) as target, client_of(target) as client:
        await client.done("POST", "/v1.0/conferences", {"id": "sales"})
        await alice.call("1002")  # an ordinary call, which the bridge does not control
        await carol.call("750")  # one that runs a flow, and is in a conference
        await asyncio.gather(alice.answered(), carol.answered())
        ordinary = (await target.call_from("1001"))["id"]
        member = await client.until("conference_joined")
        recording = (await client.done("POST", f"/v1.0/calls/{ordinary}/recording_start", {}))["recording_id"]
        ids = {
            "/v1.0/calls": {"id": [ordinary, member["call_id"]]},
            "/v1.0/recordings": {"id": [recording]},
            "/v1.0/conferences": {"id": ["sales"], "channel": [member["channel_id"]]},
            "/v1.0/flows": {"id": ["meeting"]},
        }
        ends = [word for name in ENDS for word in ("--include-operation-id", name)]
        others = [word for name in (*ENDS, PLACE) for word in ("--exclude-operation-id", name)]
        others += [word for tag in TAGS for word in ("--include-tag", tag)]
        for selected, phase in (["--include-operation-id", PLACE], "coverage"), (others, "fuzzing"), (ends, "fuzzing"):
            assert alice.in_call
            assert carol.in_call
            options = [*selected, "--phases", phase]
            code, output = await examine(target.url, tmp_path, auth={}, ids=ids, examples=12, options=options)
            assert code == 0, output
        assert not [record for record in caplog.records if "internal error" in record.getMessage()]
        assert len(client.told("call_ringing")) > 2  # calls were originated
        assert client.told("conference_left")
        for phone in (alice, bob, carol):
            await phone.hangup()
        for conference in (await client.done("GET", "/v1.0/conferences?page_size=1000"))["result"]:
            await client.ask("DELETE", f"/v1.0/conferences/{quote(conference['id'], safe='')}")
        for call in (await client.done("GET", "/v1.0/calls?page_size=1000"))["result"]:
            await client.ask("POST", f"/v1.0/calls/{call['id']}/hangup")
