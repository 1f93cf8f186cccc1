"""Recordings of previous runs, their length, their age and their total size, with real files."""

from __future__ import annotations

import asyncio
from datetime import datetime

from bridge.testing import judge
from bridge.testing.lab_engine import Lab
from tests.lab.conftest import Phones, pushing
from tests.lab.driving import RATE, Client, action, client_of, samples_of_wav, seconds_of
from tests.lab.moving import HZ, desk, tone
from tests.lab.waiting import PATIENCE_S, sends

GAP_S = 2.0
"""Between two files, on a busy machine; they overlap on an idle one, unless the phone ends its call first."""
ALICE_HZ = 480.0
BOB_HZ = 700.0


async def listed(client: Client, count: int) -> list[dict[str, object]]:
    """Wait for ``count`` recordings and return them."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found: list[dict[str, object]] = (await client.done("GET", "/v1.0/recordings"))["result"]
            if len(found) == count:
                return found
            await asyncio.sleep(0.05)


async def record(client: Client, **option: int) -> str:
    flow = [action("recording_start", **option), action("sleep", duration=1500), action("recording_stop")]
    call_id = await client.call("1001", *flow)
    await client.until("recording_finished", call_id)
    await client.until("flow_ended", call_id)
    return call_id


async def test_those_of_a_previous_run_are_found_served_and_deleted(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    alice.play_next(judge.tone(ALICE_HZ, 60, RATE))
    async with pushing(lab) as target, client_of(target) as client:
        call_id = await record(client)
        (before,) = await listed(client, 1)
    async with pushing(lab) as target, client_of(target) as client:
        (found,) = await listed(client, 1)
        assert [found[key] for key in ("id", "call_id", "principal", "status", "format")] == [
            before["id"], call_id, before["principal"], "ended", "wav"
        ]  # fmt: skip
        assert str(found["tm_start"])[:16] == str(before["tm_start"])[:16]
        assert 0.5 < float(str(found["duration"])) < 4
        recorded, _ = samples_of_wav(await client.done("GET", f"/v1.0/recordings/{found['id']}/file"))
        assert seconds_of(recorded, ALICE_HZ) > 0.5
        assert (await client.done("DELETE", f"/v1.0/recordings/{found['id']}"))["id"] == found["id"]
        assert await listed(client, 0) == []
    async with pushing(lab) as target, client_of(target) as client:
        assert await listed(client, 0) == []


async def test_each_party_of_a_call_in_a_file_of_its_own(lab: Lab, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    bob.play_next(judge.tone(BOB_HZ, 60, RATE))
    async with pushing(lab) as target, client_of(target) as client:
        await alice.call("1002", play=judge.tone(ALICE_HZ, 60, RATE))
        await alice.answered()
        parties = {party["endpoint"]: party["id"] for party in (await target.call_from("1001"))["parties"]}
        asked = [("1001", "in"), ("1002", "in"), ("1002", "out"), ("1001", "both")]
        for extension, direction in asked:
            path = f"/v1.0/calls/{parties[extension]}/recording_start"
            await client.done("POST", path, {"direction": direction} if direction != "both" else {})
        await sends(alice, 2)
        await alice.hangup()
        await client.until("recording_finished", count=len(asked))
        files = {}
        for recording in await listed(client, len(asked)):
            content = await client.done("GET", f"/v1.0/recordings/{recording['id']}/file")
            files[recording["channel_id"], recording["direction"]] = samples_of_wav(content)[0]
    for extension, direction in asked:
        recorded = files[parties[extension], direction]
        heard = [hz for hz in (ALICE_HZ, BOB_HZ) if seconds_of(recorded, hz) > 1]
        silent = [hz for hz in (ALICE_HZ, BOB_HZ) if seconds_of(recorded, hz, level=200) == 0]
        wanted = {"both": [ALICE_HZ, BOB_HZ]}.get(direction) or [
            ALICE_HZ if (extension, direction) != asked[1] else BOB_HZ
        ]
        assert heard == wanted, (extension, direction)
        assert silent == [hz for hz in (ALICE_HZ, BOB_HZ) if hz not in wanted], (extension, direction)


async def test_length_room_and_age_are_limited(lab: Lab, phones: Phones) -> None:
    await phones("1001")
    async with pushing(lab, recording={"max_s": 1, "max_total_mb": 0.015}) as target, client_of(target) as client:
        call_id = await client.call("1001", action("recording_start", duration=3600), action("sleep", duration=20_000))
        finished = await client.until("recording_finished", call_id)
        assert finished["duration"] <= 2  # although nobody has stopped it
        status, answer = await client.ask("POST", f"/v1.0/calls/{call_id}/recording_start")
        assert (status, answer["error"]["reason"]) == (503, "OVERLOADED")
        assert "max_total_mb" in answer["error"]["message"]
        await client.done("POST", f"/v1.0/calls/{call_id}/hangup")
        await client.until("call_hangup", call_id)
        assert len(await listed(client, 1)) == 1  # none is deleted to make room
    await asyncio.sleep(1)  # until the file is older than what is kept
    async with pushing(lab, recording={"retention_days": 0.00001}) as target, client_of(target) as client:
        await listed(client, 0)
        stored = await target.ari("GET", "/recordings/stored")
        assert not [each for each in stored if each["name"].startswith("ab-")]


async def test_a_recording_continues_with_the_party_that_a_phone_transfers(lab: Lab, phones: Phones) -> None:
    """A second file follows the first: each holds its own party."""
    (alice,) = await phones("1001")
    alice.play_next(tone("1001"))
    actions = [action("recording_start", direction="in"), action("sleep", duration=60000), action("recording_stop")]
    async with (
        pushing(lab, flows=[{"id": "f", "match": ["750"], "actions": actions}]) as target,
        client_of(target) as client,
        desk(lab) as phone,
    ):
        first, second = await phone.call("1001", HZ["desk"]), await phone.call("750", HZ["desk"])
        call_id = (await client.until("recording_started"))["call_id"]
        await sends(alice, 2)
        await phone.transfer(first, second)
        following = await client.until("recording_started", count=2)
        await client.until("recording_finished", id=following["continues"])
        await sends(alice, 2)
        record = await client.record(call_id)
        assert record["recording_ids"] == [following["continues"], following["id"]]
        assert record["recording_id"] == following["id"]
        await client.done("POST", f"/v1.0/calls/{call_id}/recording_stop")
        await client.until("recording_finished", id=following["id"])
        await alice.hangup()
        new, old = await listed(client, 2)
        assert (new["continues"], old["continued_by"]) == (old["id"], new["id"])
        gap = datetime.fromisoformat(str(new["tm_start"])) - datetime.fromisoformat(str(old["tm_end"]))
        assert gap.total_seconds() < GAP_S
        heard = [
            samples_of_wav(await client.done("GET", f"/v1.0/recordings/{each['id']}/file"))[0] for each in (old, new)
        ]
    for samples, own, other in ((heard[0], "desk", "1001"), (heard[1], "1001", "desk")):
        assert seconds_of(samples, HZ[own]) > 1
        assert seconds_of(samples, HZ[other]) < 0.1
