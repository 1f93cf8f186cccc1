"""How tools run: arguments that are checked, limits, and what others see of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from bridge.agent_tools.running import MAX_PER_MINUTE, MAX_RUNNING
from tests.fakes.garbage import uncollected
from tests.fakes.virtual_time import pass_time, settle, until
from tests.unit.agent_tools.house import AgentHouse


@pytest.fixture
async def house() -> AsyncIterator[AgentHouse]:
    house = AgentHouse()
    await house.answer()
    yield house
    await house.close()


async def raw(house: AgentHouse, name: str, arguments: str) -> str:
    """Have the model call a tool with arguments as it wrote them; return the error."""
    house.tools.start("x", name, arguments)
    await until(lambda: "x" in house.results)
    return str(json.loads(house.results.pop("x"))["error"])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("{", "not valid JSON"),
        ("[1]", "expected a JSON object"),
        ('"1002"', "expected a JSON object"),
        ('{"extension": 1002}', "extension: expected a string, got 1002"),
        ('{"extension": "1002", "mode": "blind"}', "mode: unknown argument"),
        ("", "extension: is missing; expected: The extension. Allowed: 10*"),
        ('{"a":' * 50 + "1" + "}" * 50, "nested deeper than 20"),
        ('{"extension": "' + "1" * 40_000 + '"}', "expected at most 32768"),
        ('{"x": [' + "1," * 2000 + "1]}", "more than 1000 values"),
        ('{"extension": ' + "1" * 400 + "}", "more than 100 digits"),
        ('{"extension": NaN}', "NaN is not a JSON number"),
        ('{"extension": 1e999}', "1e999 is too large"),
        ('{"extension": "\\ud800"}', "surrogates not allowed"),
    ],
)
async def test_wrong_arguments_are_explained_to_the_model(house: AgentHouse, arguments: str, error: str) -> None:
    assert error in await raw(house, "transfer", arguments)


async def test_an_unknown_tool_is_refused_and_audited(house: AgentHouse) -> None:
    assert "unknown tool 'reboot'; available: transfer, hang_up" in await raw(house, "reboot", '{"password": "x"}')
    assert house.audit.lines[-1]["outcome"] == "rejected"
    assert house.ended()[-1]["arguments"] == {}, "what an unknown tool's arguments mean is unknown"


async def test_a_use_is_an_event_and_in_the_record(house: AgentHouse) -> None:
    await house.use("set_variable", name="ORDER_ID", value="17")
    await house.failure("set_variable", name="PIN", value="17")
    types = [event.type for event in house.published if event.type.startswith("tool_")]
    assert types == ["tool_called", "tool_ended"] * 2
    first, second = house.ended()
    assert first | {"duration_ms": 0} == {
        "id": "set_variable", "call_id": house.voice.channel_id, "stream_id": "p1", "tool": "set_variable",
        "outcome": "ok", "duration_ms": 0, "arguments": {"name": "ORDER_ID", "value": "17"}, "result": "set",
    }  # fmt: skip
    assert second["outcome"] == "refused"
    record = house.record(house.voice.channel_id)
    assert [(use.name, use.outcome) for use in record.tools] == [("set_variable", "ok"), ("set_variable", "refused")]


async def test_a_secret_under_a_wrong_name_is_hidden(house: AgentHouse) -> None:
    assert "digit: unknown argument" in await house.failure("send_dtmf", digit="4711", digits="1")
    (ended,) = house.ended()
    assert ended["arguments"] == {"digit": "********", "digits": "********"}
    assert "4711" not in ended["result"]


async def test_sensitive_mode_hides_arguments_and_results(house: AgentHouse) -> None:
    house.sensitive = True
    await house.use("set_variable", name="ORDER_ID", value="4111")
    (ended,) = house.ended()
    assert (ended["arguments"], ended["result"], ended["outcome"]) == ("********", "********", "ok")


async def test_a_model_in_a_loop_is_limited(house: AgentHouse) -> None:
    for number in range(MAX_RUNNING + 2):
        house.tools.start(f"h{number}", "hang_up", "{}")
    await settle()
    assert len(house.tools) == MAX_RUNNING
    assert [use for use, result in house.results.items() if "too many" in result] == ["h8", "h9"]


async def test_the_number_of_tools_within_a_minute_is_limited(house: AgentHouse) -> None:
    for _ in range(MAX_PER_MINUTE):
        await house.use("extension_state", extension="1002")
    assert "too many" in await house.use("extension_state", extension="1002")
    await pass_time(61)
    assert "free" in await house.use("extension_state", extension="1002")


async def test_after_the_end_of_the_stream_nothing_runs(house: AgentHouse) -> None:
    await house.tools.close()
    house.begin("set_variable", name="ORDER_ID", value="17")
    await settle()
    assert "ORDER_ID" not in house.pbx.channels[house.voice.channel_id].variables
    assert house.results == {}
    assert house.ended() == []


async def test_a_secret_of_the_wrong_type_is_shown_nowhere(house: AgentHouse) -> None:
    assert "digits: expected a string" in await house.failure("send_dtmf", digits=4711)
    seen = json.dumps([house.audit.lines, *house.ended()])
    assert "4711" not in seen


async def test_an_internal_error_is_not_described_to_the_model(
    house: AgentHouse, caplog: pytest.LogCaptureFixture
) -> None:
    house.pbx.failures[r"GET /endpoints/.*"] = RuntimeError("secret of the code")
    assert await house.failure("extension_state", extension="1002") == "internal error"
    assert "internal error" in caplog.text


@pytest.mark.parametrize("last", ["hold", "hang_up", "transfer"])
async def test_ended_tools_leave_nothing_to_the_garbage_collector(house: AgentHouse, last: str) -> None:
    channel_id = house.voice.channel_id
    arguments: dict[str, Mapping[str, Any]] = {
        "hold": {"on": True},
        "hang_up": {},
        "transfer": {"extension": "1002", "announcement": "An order"},
    }
    with uncollected() as left:
        house.connect(channel_id)
        await house.failure("set_variable", name="PIN", value="17")
        house.begin(last, **arguments[last])
        if last == "transfer":
            await house.colleague()
        else:
            await until(lambda: last in house.results)
        await house.tools.close()
        del house.tools, house.voice
        await pass_time(1)
    assert not left
    house.connect(channel_id)
