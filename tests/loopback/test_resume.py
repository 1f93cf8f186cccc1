"""Calls that one run controls are taken up by the next one: two applications, one after the other, and one PBX."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.calls.addresses import Address
from bridge.flows import call_limits
from tests.waiting import until

from .runs import Runs

SLEEP = {"type": "sleep", "option": {"duration": 60_000}}
DIGITS = {"type": "digits_receive", "option": {"duration": 60_000, "length": 1}}


def connect(number: str = "1002") -> dict[str, Any]:
    return {"type": "connect", "option": {"destinations": [{"type": "extension", "target": number}]}}


def partner(runs: Runs, call_id: str) -> str:
    """Return the channel that a flow has called; empty if there is none yet."""
    return next((each for each in runs.pbx.channels if "-call-" in each and each != call_id), "")


async def connected(runs: Runs, *after: Any) -> tuple[str, str]:
    """Run a flow that connects two phones, and return their channels."""
    call = await runs.originate(connect(), *after)
    runs.pbx.pick_up(call)
    other = await until(lambda: partner(runs, call))
    await until(lambda: runs.record(other) is not None)
    await asyncio.sleep(0.05)
    runs.pbx.pick_up(other)
    await until(lambda: runs.pbx.bridge_of(other) is not None and runs.pbx.bridge_of(other) == runs.pbx.bridge_of(call))
    await asyncio.sleep(0.1)
    return call, other


@pytest.mark.parametrize("end", ["crash", "stop"])
async def test_partners_stay_together_and_the_flow_continues(runs: Runs, end: str) -> None:
    call, other = await connected(runs, DIGITS)
    bridge, before = runs.pbx.bridge_of(call), runs.record(call)
    await getattr(runs, end)()
    assert runs.pbx.bridge_of(call) == runs.pbx.bridge_of(other) == bridge
    await runs.start()
    await runs.at(call, "connect")
    assert runs.pbx.bridge_of(call) == runs.pbx.bridge_of(other) == bridge
    assert (runs.record(call).tm_create, runs.record(call).variables) == (before.tm_create, {"a": "b"})
    assert runs.record(other).master_call_id == call
    runs.pbx.hang_up(other)
    await runs.at(call, "digits_receive")
    runs.pbx.press(call, "5")
    await until(lambda: call not in runs.pbx.channels)
    await until(lambda: not [each for each in runs.pbx.bridges if each.startswith("ab-")])


async def test_a_flow_begins_its_action_again_and_leaves_out_what_must_not_come_twice(runs: Runs) -> None:
    call = await runs.originate({"type": "mute"}, DIGITS, SLEEP)
    runs.pbx.pick_up(call)
    await runs.at(call, "digits_receive")
    await runs.crash()
    await runs.start()
    await runs.at(call, "digits_receive")
    assert [each for each in runs.pbx.requests if "mute" in each] == [f"POST /channels/{call}/mute"]
    runs.pbx.press(call, "7")
    await runs.at(call, "sleep")
    await runs.crash()
    await runs.start()  # once more, from what the second run has kept
    await runs.at(call, "sleep")
    runs.pbx.hang_up(call)
    await until(lambda: runs.record(call).ended)
    await runs.crash()
    await runs.start()
    assert runs.app.journal.found == {}
    assert not runs.app.legs.present


async def test_a_call_that_has_ended_meanwhile_ends_in_its_record(runs: Runs) -> None:
    call, other = await connected(runs)
    await runs.crash()
    runs.pbx.hang_up(call)
    await runs.start()
    await until(lambda: runs.record(call).ended)
    await until(lambda: other not in runs.pbx.channels)  # nobody would look after it
    await until(lambda: not [each for each in runs.pbx.bridges if each.startswith("ab-")])


async def test_a_phone_that_rings_is_followed(runs: Runs) -> None:
    call = await runs.originate(SLEEP)
    await until(lambda: call in runs.pbx.channels)
    runs.pbx.rings(call)
    await asyncio.sleep(0.1)
    await runs.crash()
    await runs.start()
    assert runs.record(call).status == "ringing"
    runs.pbx.pick_up(call)
    await runs.at(call, "sleep")


async def test_a_partner_that_rings_is_called_again(runs: Runs) -> None:
    call = await runs.originate(connect())
    runs.pbx.pick_up(call)
    before = await until(lambda: partner(runs, call))
    runs.pbx.rings(before)
    await asyncio.sleep(0.1)
    await runs.crash()
    await runs.start()
    after = await until(lambda: partner(runs, call))
    assert after != before
    assert before not in runs.pbx.channels


async def test_a_call_that_requests_control_is_held_on(runs: Runs) -> None:
    call = await runs.originate(max_call_s=3600)
    runs.pbx.pick_up(call)
    await until(lambda: runs.pbx.bridge_of(call))
    await asyncio.sleep(0.1)
    bridge = runs.pbx.bridge_of(call)
    await runs.crash()
    await runs.start()
    assert runs.pbx.bridge_of(call) == bridge
    await runs.app.calling.call_control.hold(call)
    assert runs.record(call).on_hold


@pytest.mark.sections(flows=[{"id": "desk", "match": ["750"], "actions": [SLEEP], "then": "continue"}])
async def test_a_call_that_came_in_is_resumed_with_its_end(runs: Runs) -> None:
    call = runs.pbx.call("1001", "750")
    await runs.at(call, "sleep")
    await asyncio.sleep(0.1)
    await runs.crash()
    await runs.start()
    await runs.at(call, "sleep")
    assert runs.app.legs.get(call) is not None
    assert not runs.app.stasis.held_ids


@pytest.mark.sections(restart={"calls": "600@from-internal"})
@pytest.mark.parametrize("end", ["crash", "stop"])
async def test_calls_go_to_the_extension_that_is_configured(runs: Runs, end: str) -> None:
    call = await runs.originate(SLEEP)
    runs.pbx.pick_up(call)
    await runs.at(call, "sleep")
    await asyncio.sleep(0.1)
    await getattr(runs, end)()
    await runs.start()
    await until(lambda: runs.pbx.channels[call].app is None)
    assert runs.pbx.channels[call].resource["dialplan"]["exten"] == "600"
    assert not runs.app.legs.present


async def test_a_conference_and_its_name_stay(runs: Runs) -> None:
    await runs.app.calling.conferences.create("Every day", "daily")
    call = await runs.originate({"type": "conference_join", "option": {"conference_id": "daily"}}, SLEEP)
    runs.pbx.pick_up(call)
    await until(lambda: "-conf-" in (runs.pbx.bridge_of(call) or ""))
    await asyncio.sleep(0.1)
    bridge = runs.pbx.bridge_of(call)
    await runs.crash()
    await runs.start()
    await runs.at(call, "conference_join")
    again = runs.app.calling.conferences.get("daily")
    assert again is not None
    assert (again.name, [each.channel_id for each in again.participants]) == ("Every day", [call])
    assert runs.pbx.bridge_of(call) == bridge
    await runs.app.calling.conferences.delete("daily")
    await runs.at(call, "sleep")


@pytest.mark.parametrize("end", ["crash", "stop"])
@pytest.mark.parametrize("answered", ["before", "meanwhile", "afterwards"])
async def test_a_transfer_is_completed(runs: Runs, end: str, answered: str) -> None:
    call = await runs.originate(SLEEP)
    runs.pbx.pick_up(call)
    await runs.at(call, "sleep")
    other = await runs.app.calling.call_control.transfer(call, Address("extension", "1002"))
    await until(lambda: other in runs.pbx.channels)
    runs.pbx.rings(other)

    def talking() -> bool:
        return runs.pbx.bridge_of(call) is not None and runs.pbx.bridge_of(call) == runs.pbx.bridge_of(other)

    if answered == "before":
        runs.pbx.pick_up(other)
        await until(talking)
    await asyncio.sleep(0.1)
    await getattr(runs, end)()
    if answered == "meanwhile":
        runs.pbx.pick_up(other)
    await runs.start()
    if answered == "afterwards":
        runs.pbx.pick_up(other)
    await until(talking)
    runs.pbx.hang_up(other)
    await until(lambda: call not in runs.pbx.channels)
    await until(lambda: not [each for each in runs.pbx.bridges if each.startswith("ab-")])


@pytest.mark.parametrize("flow", ["ended", "not ended"])
async def test_a_transfer_that_is_just_beginning_is_completed(runs: Runs, flow: str) -> None:
    """The process crashes while the transfer ends the flow of the call."""
    call = await runs.originate(SLEEP)
    runs.pbx.pick_up(call)
    await runs.at(call, "sleep")
    control, reached = runs.app.calling.call_control, asyncio.Event()

    async def hang(_: str) -> None:
        reached.set()
        await asyncio.Event().wait()

    control.before_transfer.insert(0 if flow == "not ended" else len(control.before_transfer), hang)
    transferring = asyncio.create_task(control.transfer(call, Address("extension", "1002")))
    await until(reached.is_set)
    (other,) = set(runs.pbx.channels) - {call}
    runs.pbx.rings(other)
    await asyncio.sleep(0.2)  # the state file is written
    await runs.crash()
    transferring.cancel()
    await runs.start()
    runs.pbx.pick_up(other)
    await until(lambda: runs.pbx.bridge_of(call) is not None and runs.pbx.bridge_of(call) == runs.pbx.bridge_of(other))
    runs.pbx.hang_up(other)
    await until(lambda: call not in runs.pbx.channels)


@pytest.mark.parametrize("replaced", ["of", "to"])
async def test_a_transfer_is_completed_with_a_channel_that_took_the_place_of_one_side(
    runs: Runs, replaced: str
) -> None:
    """A phone transfers the call, or another one picks it up, before the restart."""
    call = await runs.originate(SLEEP)
    runs.pbx.pick_up(call)
    await runs.at(call, "sleep")
    other = await runs.app.calling.call_control.transfer(call, Address("extension", "1002"))
    await until(lambda: other in runs.pbx.channels)
    runs.pbx.rings(other)
    await asyncio.sleep(0.1)
    new = runs.pbx.come("successor", "1003", "*8", state="Up").id
    runs.pbx.replace(call if replaced == "of" else other, new)
    ends = {call, other, new} & set(runs.pbx.channels)
    await asyncio.sleep(0.3)
    await runs.crash()
    await runs.start()
    if replaced == "of":
        runs.pbx.pick_up(other)
    await until(lambda: len({runs.pbx.bridge_of(each) for each in ends}) == 1 and runs.pbx.bridge_of(new))
    runs.pbx.hang_up(new)
    await until(lambda: not ends & set(runs.pbx.channels))


async def test_the_limit_of_a_call_that_was_transferred_remains(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    call = await runs.originate(SLEEP, max_call_s=3600)
    runs.pbx.pick_up(call)
    await runs.at(call, "sleep")
    other = await runs.app.calling.call_control.transfer(call, Address("extension", "1002"))
    await until(lambda: other in runs.pbx.channels)
    runs.pbx.pick_up(other)
    await until(lambda: runs.pbx.bridge_of(call) and runs.pbx.bridge_of(call) == runs.pbx.bridge_of(other))
    await asyncio.sleep(0.2)  # the state file is written
    await runs.crash()
    monkeypatch.setattr(call_limits, "time", SimpleNamespace(time=lambda: time.time() + 3600))
    await runs.start()
    await until(lambda: not {call, other} & set(runs.pbx.channels))
    assert runs.record(call).hangup_reason == "timeout"


@pytest.mark.parametrize("gone", ["of", "to"])
async def test_a_transfer_whose_one_side_has_gone_ends(runs: Runs, gone: str) -> None:
    call = await runs.originate(SLEEP)
    runs.pbx.pick_up(call)
    await runs.at(call, "sleep")
    other = await runs.app.calling.call_control.transfer(call, Address("extension", "1002"))
    await until(lambda: other in runs.pbx.channels)
    runs.pbx.rings(other)
    await asyncio.sleep(0.1)
    await runs.crash()
    runs.pbx.hang_up(call if gone == "of" else other)
    await runs.start()
    await until(lambda: not {call, other} & set(runs.pbx.channels))
