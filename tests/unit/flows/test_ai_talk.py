"""The action ai_talk: which model talks, and what is rejected."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bridge.config import Config
from bridge.flows.program import InvalidFlow
from bridge.flows.voipbin import parse
from bridge.streams.subscription import routes_of
from tests.fakes.virtual_time import run_virtually
from tests.unit.flows.world import World, step

URL = "wss://model.example.org/"


def test_the_model_of_a_route_talks_until_the_conversation_ends() -> None:
    async def act() -> None:
        world = World()
        flow = [step("ai_talk", ai_id="reception", language="de"), step("talk", text="Bye", language="en")]
        asyncio.get_running_loop().call_later(7, lambda: world.streams.started[0].ended.set())
        await world.done(flow)
        target = world.streams.did[0][2].target
        assert (target.url, target.dialect, target.configured, target.two_way) == (URL, "openai_realtime", False, True)
        assert (target.agent.key_file, target.agent.language) == ("/etc/key", "de")
        assert target.counted_as == "dialplan:reception"
        assert target.host_configured
        assert world.players.heard[0][1] == 7

    run_virtually(act())


def test_a_reload_replaces_the_models() -> None:
    async def act() -> None:
        world = World()
        routes = [{"id": "night", "match": "801", "url": f"{URL}night", "dialect": "openai_realtime", "agent": {}}]
        running = world.run([step("ai_talk", ai_id="reception"), step("ai_talk", ai_id="night")])
        world.services.use_models(routes_of(Config.model_validate({"dialplan": routes})))
        asyncio.get_running_loop().call_later(1, lambda: world.streams.started[0].ended.set())
        await running.run()
        assert len(world.streams.started) == 1, "the one that was removed is skipped"
        assert world.streams.did[0][2].target.url == f"{URL}night"
        await world.flow_manager().parse(lambda: [step("ai_talk", ai_id="night")])
        with pytest.raises(InvalidFlow, match="is not the id"):
            await world.flow_manager().parse(lambda: [step("ai_talk", ai_id="reception")])

    run_virtually(act())


def test_a_flow_may_bring_its_own_model() -> None:
    async def act() -> None:
        world = World()
        option: dict[str, Any] = {
            "url": f"{URL}${{id}}",
            "dialect": "openai_realtime",
            "auth_key": "Authorization",
            "auth_value": "Bearer x",
            "agent": {"instructions": "Be brief"},
        }
        asyncio.get_running_loop().call_later(1, lambda: world.streams.started[0].ended.set())
        await world.done([step("ai_talk", **option)], id="x1")
        target = world.streams.did[0][2].target
        assert (target.url, target.agent.instructions) == (f"{URL}x1", "Be brief")
        assert target.counted_as == "token:crm"
        assert not target.host_configured

    run_virtually(act())


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ({}, "ai_id: give either ai_id or url"),
        ({"ai_id": "reception", "url": URL}, "not both"),
        ({"url": URL, "dialect": "twilio"}, "dialect: twilio is not a dialect of models"),
        ({"url": URL, "dialect": "openai_realtime", "agent": {"key_file": "/etc/shadow"}}, "only in the configuration"),
        ({"url": URL, "dialect": "openai_realtime", "agent": {"key_env": "HOME"}}, "only in the configuration"),
        ({"url": URL, "dialect": "openai_realtime", "agent": {"voize": "x"}}, "voize"),
    ],
)
def test_wrong_options_are_rejected(option: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidFlow) as caught:
        parse([step("ai_talk", **option)] if option else [{"type": "ai_talk", "option": {}}])
    assert why in str(caught.value)
