"""A flow that needs what is not configured is rejected before it runs, wherever it comes from."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from bridge.cli.main import main
from bridge.config import Config
from bridge.errors import ConfigError
from bridge.flows.action_settings import ActionSettings
from bridge.flows.checking import check_possible
from bridge.flows.flow_config import flows_of
from bridge.flows.program import InvalidFlow
from bridge.flows.syntax import parse
from bridge.flows.web import ServerResponse
from tests.fakes.virtual_time import run_virtually
from tests.unit.flows.world import EVERYTHING, World, step

NOTHING = ActionSettings.of(Config.model_validate({"speech": {"command": []}}))
CONNECT = {"type": "sip", "target": "sip:bob@example.org"}

IMPOSSIBLE = [
    (step("amd"), "actions[0]: requires calling.context"),
    (step("queue_join", queue_id="sales"), "actions[0]: requires calling.context"),
    (step("talk", text="hello"), "actions[0]: speech.command is empty"),
    (
        step("play", stream_urls=["https://example.org/a.wav", "a.wav"]),
        "actions[0].option.stream_urls[1]: not an http(s) URL, and speech.sounds_dir is empty",
    ),
    (step("fetch_flow", flow_id="menu"), "actions[0].option.flow_id: unknown flow 'menu'"),
    (
        step("connect", destinations=[{"type": "extension", "target": "1001"}, CONNECT]),
        "actions[0].option.destinations[1]: sip destinations cannot be dialed here: calling.sip_endpoint",
    ),
    (
        step("connect", destinations=[{"type": "tel", "target": "${number}"}]),
        "actions[0].option.destinations[0]: tel destinations cannot be dialed here: calling.tel_endpoint",
    ),
    (
        step("connect", destinations=[{"type": "conference", "target": "sales"}]),
        "actions[0].option.destinations[0]: conference destinations cannot be dialed here: calling.context",
    ),
    ({"type": "SAY", "params": {"text": "hello"}}, "actions[0]: speech.command is empty"),
    ({"type": "TRANSFER", "params": {"no": "+4930123"}}, "actions[0]: tel destinations cannot be dialed here"),
    ({"type": "DIAL", "params": {"no": "${callerNo}"}}, "actions[0]: requires voxology.flow"),
]


@pytest.mark.parametrize(("action", "message"), IMPOSSIBLE, ids=lambda value: str(value)[:40])
def test_what_an_action_needs_is_missing(action: Any, message: str) -> None:
    with pytest.raises(InvalidFlow) as refused:
        check_possible(parse([action]), NOTHING)
    assert str(refused.value).startswith(message)
    check_possible(parse([action]), replace(EVERYTHING, flows={"menu"}))


def test_everything_is_reported_at_once_and_each_fault_once() -> None:
    collect = {"type": "COLLECT", "actions": [{"type": "SAY", "params": {"text": text}} for text in ("a", "b")]}
    with pytest.raises(InvalidFlow) as refused:
        check_possible(parse([collect, {"type": "DIAL", "params": {"no": "123"}}]), NOTHING)
    assert [error.index for error in refused.value.errors] == [0, 1, 1]


def test_variables_decide_when_the_flow_runs() -> None:
    check_possible(parse([step("connect", destinations=[{"type": "${kind}", "target": "1"}])]), NOTHING)
    check_possible(parse([step("fetch_flow", flow_id="${which}")]), NOTHING)


def test_a_request_and_a_fetched_flow_are_rejected_alike() -> None:
    async def act() -> None:
        world = World()
        world.services.settings = NOTHING
        manager = world.flow_manager()
        with pytest.raises(InvalidFlow, match=r"calling\.context"):
            await manager.parse_request(lambda: [step("amd")])
        world.web.answers["https://flows.example.org/"] = ServerResponse(200, json.dumps([step("amd")]).encode())
        await world.done([step("fetch", event_url="https://flows.example.org/"), step("answer")])
        ((index, reason),) = world.failures()
        assert index == 0
        assert "calling.context" in reason

    run_virtually(act())


def test_a_flow_of_the_configuration_is_rejected_when_it_is_read() -> None:
    tables: dict[str, Any] = {
        "flows": [
            {"id": "menu", "actions": [step("amd"), step("fetch_flow", flow_id="other")]},
            {"id": "other", "actions": [step("queue_join", queue_id="sales")]},
        ]
    }
    with pytest.raises(ConfigError) as refused:
        flows_of(Config.model_validate(tables))
    assert str(refused.value).count("requires calling.context") == 2
    flows_of(Config.model_validate({**tables, "calling": {"context": "media-tap"}}))


def test_check_reports_it(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bridge.toml"
    text = '[ari]\nuser = "u"\npassword = "p"\n[[flows]]\nid = "f"\nmatch = ["7"]\nactions = [{type = "amd"}]\n'
    file.write_text(text)
    assert main(["check", "--config", str(file)], {}) != 0
    assert "flows.0: actions[0]: requires calling.context" in capsys.readouterr().err
