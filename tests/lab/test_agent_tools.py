"""What a model does with its tools, as real phones receive it, and what the model gets."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from bridge.testing import judge, modem
from bridge.testing.lab_engine import Lab
from bridge.testing.phone import RATE, Phone, Samples
from tests.lab.calling import CALLING
from tests.lab.conftest import Phones
from tests.lab.driving import by_hand
from tests.lab.moving import HZ, hears, so_far, tone, voices
from tests.lab.restarting import restarting
from tests.lab.scripted_model import Models, ScriptedModel, models, served
from tests.lab.waiting import sends, stays, until

TRANSFER: dict[str, Any] = {"tools": ["transfer"], "transfer_to": ["100*"]}
NEWS = "Ms. Meier asks about the order."


async def answered(models: Models, phone: Phone, number: int = 0) -> ScriptedModel:
    """Have a phone call the model, with its tone; return the model once each hears the other."""
    await phone.call("750", play=tone(phone.name))
    model = await models.answering(number)
    await hears(lambda: model.heard, phone.name)
    return model


def rings_with_music(phone: Phone) -> bool:
    """Return whether a phone hears something that is nobody's tone: music."""
    last = so_far(phone)[-RATE:]
    return len(last) == RATE and judge.rms(last) > 100 and not voices(last)


async def talk(one: Phone, other: Phone) -> None:
    """Wait until two phones hear each other, and nothing else."""
    await hears(lambda: so_far(one), other.name)
    await hears(lambda: so_far(other), one.name)


async def back(model: ScriptedModel, phone: Phone) -> None:
    """Check that audio flows between the caller and the model again, both ways."""
    await model.say_tone(2)
    await hears(lambda: so_far(phone), "agent")
    await hears(lambda: model.heard, phone.name)


async def test_a_blind_transfer(lab: Lab, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    bob.play_next(tone("1002"))
    async with models(lab, TRANSFER) as (_, server):
        model = await answered(server, alice)
        assert model.tools == ["transfer"]
        before = len(so_far(alice))
        await model.say_tone(2)
        await model.begin("transfer", extension="1002")
        await talk(alice, bob)
        heard = judge.block_levels(so_far(alice)[before:], RATE, HZ["agent"], block_s=0.1)
        assert float(np.sum(heard > 4000)) / 10 >= 1.8, "the model's last words were heard"
        await asyncio.wait_for(model.connection.ended.wait(), 10)
        await bob.hangup()
        await alice.ended()


@contextlib.asynccontextmanager
async def asked(lab: Lab, phones: Phones) -> AsyncIterator[tuple[Phone, Phone, ScriptedModel, str]]:
    """Have the model ask Bob whether to connect Alice: Bob receives the announcement, Alice music."""
    alice, bob = await phones("1001", "1002")
    bob.play_next(tone("1002"))
    async with models(lab, TRANSFER | {"transfer_mode": "attended"}) as (_, server):
        model = await answered(server, alice)
        transfer = await model.begin("transfer", extension="1002", announcement=NEWS)
        await bob.answered()
        await until(lambda: judge.rms(so_far(bob)[-RATE:]) > 300)
        await until(lambda: rings_with_music(alice))
        assert judge.rms(model.heard[-RATE // 2 :]) < 100, "the model receives neither music nor caller"
        assert voices(so_far(bob)) == set()
        yield alice, bob, model, transfer
        await alice.hangup()
        await alice.ended()


async def test_a_colleague_accepts(lab: Lab, phones: Phones) -> None:
    async with asked(lab, phones) as (alice, bob, model, _):
        await bob.dtmf("1")
        await talk(alice, bob)
        await asyncio.wait_for(model.connection.ended.wait(), 10)


async def test_a_colleague_declines(lab: Lab, phones: Phones) -> None:
    async with asked(lab, phones) as (alice, bob, model, transfer):
        await bob.dtmf("2")
        assert "declined" in await model.result(transfer)
        await bob.ended()
        await back(model, alice)


async def test_a_colleague_hangs_up_without_a_decision(lab: Lab, phones: Phones) -> None:
    async with asked(lab, phones) as (alice, bob, model, transfer):
        await bob.hangup()
        assert "hung up" in await model.result(transfer)
        await back(model, alice)


async def test_a_caller_hangs_up_while_the_colleague_decides(lab: Lab, phones: Phones) -> None:
    async with asked(lab, phones) as (alice, bob, _, _):
        await alice.hangup()
        await bob.ended()


@pytest.mark.parametrize(
    ("reaction", "why"), [("busy", "is busy"), ("absent", "cannot be reached"), ("silent", "does not answer")]
)
async def test_nobody_answers(lab: Lab, phones: Phones, reaction: str, why: str) -> None:
    alice, bob = await phones("1001", "1002")
    calling = CALLING.model_dump() | ({"ring_timeout_s": 2} if reaction == "silent" else {})
    async with models(lab, TRANSFER, calling=calling) as (_, server), by_hand(bob):
        model = await answered(server, alice)
        extension = "1009" if reaction == "absent" else "1002"
        transfer = await model.begin("transfer", extension=extension, announcement=NEWS)
        if reaction != "absent":
            await bob.called()
            await until(lambda: rings_with_music(alice))
        if reaction == "busy":
            await bob.command("hangup")
        assert why in await model.result(transfer)
        await back(model, alice)
        await alice.hangup()
        await alice.ended()


async def test_the_call_ends_after_the_last_word(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    async with models(lab, {"tools": ["hang_up"]}) as (_, server):
        model = await answered(server, alice)
        goodbye = "Thank you for your call, and good bye"
        await model.say(modem.modulate(goodbye, RATE))
        await model.begin("hang_up")
        await alice.ended()
        assert goodbye in modem.decode(alice.recording(), RATE).text


async def test_digits_arrive_at_the_phone(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    async with models(lab, {"tools": ["send_dtmf"]}) as (_, server):
        model = await answered(server, alice)
        assert await model.use("send_dtmf", digits="479*") == "sent"
        await sends(alice, 0.5)
        await alice.hangup()
        keys = [event.param for event in alice.events if "DTMF" in event.type and event.param not in ("", "\x00")]
        assert "".join(keys) == "479*" or judge.dtmf(await alice.heard(), RATE) == "479*"


async def test_the_caller_is_on_hold_with_music(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    async with models(lab, {"tools": ["hold"]}) as (_, server):
        model = await answered(server, alice)
        await model.use("hold", on=True)
        await until(lambda: rings_with_music(alice))
        await until(lambda: judge.rms(model.heard[-RATE // 2 :]) < 100)
        await model.say_tone(1)
        await stays(lambda: not voices(so_far(alice)), 1.0)
        assert await model.use("hold", on=False) == "resumed"
        await back(model, alice)
        await alice.hangup()
        await alice.ended()


@pytest.mark.parametrize("how", ["crash", "stop"])
async def test_the_next_run_resumes_a_caller_on_hold(lab: Lab, phones: Phones, tmp_path: Path, how: str) -> None:
    (alice,) = await phones("1001")
    async with served({"tools": ["hold"]}) as (route, server), restarting(lab, tmp_path, dialplan=[route]) as service:
        model = await answered(server, alice)
        await model.use("hold", on=True)
        await until(lambda: rings_with_music(alice))
        await (service.die() if how == "crash" else service.end())
        await service.start()
        await back(await server.answering(1), alice)
        await alice.hangup()
        await alice.ended()


async def test_two_callers_meet_in_a_conference(lab: Lab, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    async with models(lab, {"tools": ["conference"], "conferences": ["team"]}) as (_, server):
        for number, phone in enumerate((alice, bob)):
            model = await answered(server, phone, number)
            await model.begin("conference", conference="team")
            await asyncio.wait_for(model.connection.ended.wait(), 15)
        await talk(alice, bob)
        for phone in (alice, bob):
            await phone.hangup()
            await phone.ended()


async def test_a_variable_and_the_state_of_extensions(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    agent = {
        "tools": ["set_variable", "extension_state"],
        "set_variables": ["ORDER_*"],
        "transfer_to": ["1001", "1004"],
    }
    async with models(lab, agent) as (target, server):
        model = await answered(server, alice)
        assert await model.use("set_variable", name="ORDER_ID", value="17") == "set"
        call = await target.call_from("1001")
        shown = await target.ari("GET", f"/channels/{call['parties'][0]['id']}/variable", variable="ORDER_ID")
        assert shown["value"] == "17"
        assert json.loads(await model.use("extension_state", extension="1001"))["state"] == "in a call"
        assert json.loads(await model.use("extension_state", extension="1004"))["state"] == "not registered"
        assert "not allowed" in await model.use("extension_state", extension="1002")
        assert [use["name"] for use in (await target.call_from("1001"))["tools"]][:1] == ["set_variable"]
        await alice.hangup()
        await alice.ended()


async def test_tools_that_are_not_allowed_are_rejected_and_audited(lab: Lab, phones: Phones, tmp_path: Path) -> None:
    """A caller who talks the model into anything reaches no other phone, variable or conference."""
    alice, _ = await phones("1001", "1002")
    agent = {"tools": ["transfer", "set_variable"], "transfer_to": ["1003"], "set_variables": ["ORDER_*"]}
    log = tmp_path / "audit.jsonl"
    wanted: dict[str, dict[str, str]] = {
        "transfer": {"extension": "1002"},
        "set_variable": {"name": "SECRET", "value": "17"},
        "conference": {"conference": "team"},
    }

    def rejected() -> list[str]:
        lines = map(json.loads, log.read_text().splitlines())
        return [line["tool"] for line in lines if (line["action"], line["outcome"]) == ("tool.call", "rejected")]

    async with models(lab, agent, audit={"output": str(log)}) as (target, server):
        model = await answered(server, alice)
        for tool, arguments in wanted.items():
            assert "error" in json.loads(await model.use(tool, **arguments))
        await until(lambda: rejected() == list(wanted))
        await back(model, alice)
        call = await target.call_from("1001")
        (party,) = call["parties"]
        with pytest.raises(AssertionError, match=": 404 "):
            await target.ari("GET", f"/channels/{party['id']}/variable", variable="SECRET")
        await alice.hangup()
        await alice.ended()


async def test_the_caller_hears_a_filler_and_the_model_does_not(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    go = asyncio.Event()

    async def handle(_: web.Request) -> web.Response:
        await go.wait()
        return web.json_response({"state": "sent"})

    app = web.Application()
    app.router.add_post("/order", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    tool = {
        "id": "order_status", "description": "Return the state of an order.", "secret": "for-the-tests-only",
        "url": f"http://127.0.0.1:{runner.addresses[0][1]}/order", "filler": "tone", "filler_after_s": 0.5,
    }  # fmt: skip
    async with models(lab, {"tools": ["order_status"]}, tools=[tool]) as (_, server):
        model = await answered(server, alice)

        def filler(samples: Samples) -> bool:
            return judge.rms(samples[-RATE:]) > 300

        transfer = await model.begin("order_status")
        await until(lambda: filler(so_far(alice)))
        assert voices(model.heard) == {"1001"}
        go.set()
        assert json.loads(await model.result(transfer)) == {"state": "sent"}
        await back(model, alice)
        await alice.hangup()
        await alice.ended()
    await runner.cleanup()
