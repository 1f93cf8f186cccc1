"""The transfer by a model: blind and attended, with every way in which an attended one ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.fakes.virtual_time import pass_time, settle, until
from tests.unit.agent_tools.house import SPOKEN_S, AgentHouse

NEWS = "Ms. Meier asks about the order"


@pytest.fixture
async def house() -> AsyncIterator[AgentHouse]:
    house = AgentHouse()
    await house.answer()
    yield house
    await house.close()


def together(house: AgentHouse, *channels: str) -> bool:
    """Return whether channels are in one bridge."""
    bridges = {house.pbx.bridge_of(each) for each in channels}
    return len(bridges) == 1 and None not in bridges


def back_with_the_model(house: AgentHouse) -> bool:
    """Return whether the caller hears the model again, and the model the caller."""
    channel = house.pbx.channels[house.voice.channel_id]
    holds = [each for each in house.requests_of(channel.id) if each.endswith(" hold")]
    return not channel.muted and holds[-1:] == ["DELETE hold"] and not house.released


async def test_a_blind_transfer_connects_the_caller_when_the_extension_answers(house: AgentHouse) -> None:
    house.voice.say(2.0)
    house.begin("transfer", extension="1002")
    await pass_time(1.9)
    assert len(house.pbx.channels) == 1, "the model has not finished speaking"
    colleague = await house.colleague()
    await until(lambda: house.released == [house.voice.channel_id])
    house.pbx.pick_up(colleague)
    await until(lambda: together(house, house.voice.channel_id, colleague))
    assert house.ended()[-1]["outcome"] == "ok"
    assert house.audit.lines[-1] | {"stream": ""} == {
        "action": "tool.call", "principal": "config", "outcome": "ok", "extension": "1002", "tool": "transfer",
        "call": house.voice.channel_id, "stream": "",
    }  # fmt: skip


@pytest.mark.parametrize(("tool", "arguments"), [("hold", {"on": True}), ("hang_up", {})])
async def test_no_other_tool_acts_on_a_call_that_is_transferred(
    house: AgentHouse, tool: str, arguments: dict[str, Any]
) -> None:
    house.begin("transfer", extension="1002")
    await pass_time(0.4)
    house.begin(tool, **arguments)  # waits for the end of the model's last sentence
    colleague = await house.colleague()
    house.pbx.pick_up(colleague)
    await until(lambda: together(house, house.voice.channel_id, colleague))
    await pass_time(1.0)
    assert together(house, house.voice.channel_id, colleague)
    assert "POST hold" not in house.requests_of(house.voice.channel_id)


async def test_an_extension_that_does_not_even_ring_leaves_the_caller_with_the_model(house: AgentHouse) -> None:
    house.pbx.unknown = {"1009"}
    assert "1009 cannot be reached" in await house.failure("transfer", extension="1009")
    assert house.released == []


@pytest.mark.parametrize("extension", ["2001", "1", "1002/../x", "1002&Local/900", "", "+491", "trunk-a"])
async def test_nothing_else_is_dialed(house: AgentHouse, extension: str) -> None:
    before = len(house.pbx.requests)
    assert "not allowed" in await house.failure("transfer", extension=extension) or extension.startswith("1002")
    assert [each for each in house.pbx.requests[before:] if "create" in each] == []
    assert house.audit.lines[-1]["outcome"] == "rejected"


async def test_a_colleague_who_accepts_talks_to_the_caller(house: AgentHouse) -> None:
    house.begin("transfer", extension="1002", announcement=NEWS)
    colleague = await house.colleague()
    caller = house.pbx.channels[house.voice.channel_id]
    assert caller.muted == {"in"}
    assert "POST hold" in house.requests_of(caller.id)
    house.pbx.pick_up(colleague)
    await pass_time(1.0)
    assert not together(house, caller.id, colleague), "the colleague decides first"
    house.pbx.press(colleague, "9")  # not a decision
    house.pbx.press(colleague, "1")
    await until(lambda: together(house, caller.id, colleague))
    assert house.announcements.asked[0] == NEWS
    assert house.released == [caller.id]
    assert not caller.muted
    assert house.requests_of(caller.id).count("DELETE hold") == 1
    house.pbx.hang_up(colleague)
    await until(lambda: caller.id not in house.pbx.channels)


async def asked(house: AgentHouse) -> str:
    """Have the colleague 1002 answer; return the id of the channel."""
    house.begin("transfer", extension="1002", announcement=NEWS)
    colleague = await house.colleague()
    house.pbx.pick_up(colleague)
    await pass_time(1.0)
    return colleague


async def test_a_colleague_who_declines(house: AgentHouse) -> None:
    colleague = await asked(house)
    house.pbx.press(colleague, "2")
    await until(lambda: "transfer" in house.results)
    assert "the colleague declined; the caller is back with you" in house.results["transfer"]
    assert back_with_the_model(house)
    assert colleague not in house.pbx.channels


async def test_a_colleague_who_does_not_decide(house: AgentHouse) -> None:
    colleague = await asked(house)
    await pass_time(2 * SPOKEN_S + house.limits.transfer_decision_s - 2.0)
    assert "transfer" not in house.results
    await until(lambda: "transfer" in house.results)
    assert "the colleague did not decide" in house.results["transfer"]
    assert back_with_the_model(house)
    assert colleague not in house.pbx.channels


async def test_a_colleague_who_hangs_up(house: AgentHouse) -> None:
    house.pbx.hang_up(await asked(house))
    await until(lambda: "transfer" in house.results)
    assert "the colleague hung up" in house.results["transfer"]
    assert back_with_the_model(house)


@pytest.mark.parametrize(("cause", "why"), [(17, "is busy"), (19, "does not answer"), (21, "does not answer")])
async def test_a_colleague_who_does_not_answer(house: AgentHouse, cause: int, why: str) -> None:
    house.begin("transfer", extension="1002", announcement=NEWS)
    house.pbx.hang_up(await house.colleague(), cause)
    await until(lambda: "transfer" in house.results)
    assert f"1002 {why}; the caller is back with you" in house.results["transfer"]
    assert back_with_the_model(house)


@pytest.mark.parametrize("answered", [False, True])
async def test_a_caller_who_hangs_up_while_the_colleague_is_asked(house: AgentHouse, answered: bool) -> None:
    house.begin("transfer", extension="1002", announcement=NEWS)
    colleague = await house.colleague()
    if answered:
        house.pbx.pick_up(colleague)
        await pass_time(1.0)
    house.pbx.hang_up(house.voice.channel_id)
    await house.tools.close()  # as the end of the stream does
    await until(lambda: colleague not in house.pbx.channels)
    assert house.ended()[-1]["outcome"] in ("canceled", "failed")


@pytest.mark.parametrize("answered", [False, True])
async def test_a_stream_that_ends_while_the_colleague_is_asked(house: AgentHouse, answered: bool) -> None:
    house.begin("transfer", extension="1002", announcement=NEWS)
    colleague = await house.colleague()
    if answered:
        house.pbx.pick_up(colleague)
        await pass_time(1.0)
    await house.tools.close()
    await until(lambda: colleague not in house.pbx.channels)
    await until(lambda: back_with_the_model(house))
    assert "transfer" not in house.results


async def test_a_colleague_who_accepts_and_hangs_up_at_once_ends_the_call(house: AgentHouse) -> None:
    colleague = await asked(house)
    house.pbx.press(colleague, "1")
    house.pbx.hang_up(colleague)
    await until(lambda: house.voice.channel_id not in house.pbx.channels or "transfer" in house.results)


async def test_one_transfer_at_a_time(house: AgentHouse) -> None:
    colleague = await asked(house)
    house.tools.start("second", "transfer", '{"extension": "1003"}')
    await until(lambda: "second" in house.results)
    assert "transferred or put on hold already" in house.results["second"]
    assert len([each for each in house.pbx.channels if house.ids.kind(each) == "call"]) == 1
    house.pbx.press(colleague, "2")
    await until(lambda: "transfer" in house.results)


async def test_without_speech_nobody_is_called(house: AgentHouse) -> None:
    house.announcements.speech_trouble = "text-to-speech is not configured"
    assert "cannot be played: text-to-speech" in await house.failure("transfer", extension="1002", announcement=NEWS)
    assert house.requests_of(house.voice.channel_id) == ["POST answer"]


async def test_a_transfer_ends_a_hold(house: AgentHouse) -> None:
    await house.use("hold", on=True)
    house.begin("transfer", extension="1002")
    house.pbx.pick_up(await house.colleague())
    await settle()
    caller = house.voice.channel_id
    assert house.requests_of(caller).count("DELETE hold") == 1
    assert not house.pbx.channels[caller].muted


@pytest.mark.parametrize(
    ("mode", "arguments", "error"),
    [("attended", {}, "announcement: is missing"), ("blind", {"announcement": NEWS}, "unknown argument")],
)
async def test_the_configuration_decides_how_calls_are_transferred(mode: str, arguments: object, error: str) -> None:
    house = AgentHouse(transfer_mode=mode)
    await house.answer()
    assert isinstance(arguments, dict)
    assert error in await house.failure("transfer", extension="1002", **arguments)
    await house.close()
