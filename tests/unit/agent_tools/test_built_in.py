"""The tools that act on the call: what they do on the PBX, and what they refuse."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar, cast

import pytest

from bridge.access import Principal
from bridge.agent_tools.tool import AgentCall
from bridge.errors import AriError
from bridge.logs import Fields
from bridge.tasks import BackgroundTasks
from tests.fakes.virtual_time import now, pass_time, settle, until
from tests.unit.agent_tools.house import AgentHouse

T = TypeVar("T")


@pytest.fixture
async def house() -> AsyncIterator[AgentHouse]:
    house = AgentHouse()
    await house.answer()
    yield house
    await house.close()


async def test_the_call_ends_after_the_last_word(house: AgentHouse) -> None:
    house.voice.say(3.0)
    said_at = now() + 3.0
    house.begin("hang_up")
    await pass_time(2.9)
    assert house.voice.channel_id in house.pbx.channels
    await until(lambda: house.voice.channel_id not in house.pbx.channels)
    assert 0.2 < now() - said_at < 1.0
    await until(house.ended)
    assert house.ended()[0]["outcome"] == "ok"


async def test_words_that_arrive_while_hanging_up_are_heard_too(house: AgentHouse) -> None:
    house.begin("hang_up")
    await pass_time(0.3)
    house.voice.say(1.0)
    await pass_time(0.9)
    assert house.voice.channel_id in house.pbx.channels
    await until(lambda: house.voice.channel_id not in house.pbx.channels)


async def test_digits_are_sent_and_never_shown(house: AgentHouse) -> None:
    assert await house.use("send_dtmf", digits="12#a") == "sent"
    assert "POST dtmf" in house.requests_of(house.voice.channel_id)
    assert house.ended()[0]["arguments"] == {"digits": "********"}
    assert "12#" not in json.dumps(house.audit.lines)
    assert "expected 1 to 32" in await house.failure("send_dtmf", digits="1;2")
    assert "digits: is missing" in await house.failure("send_dtmf")


async def test_the_caller_is_held_and_resumed(house: AgentHouse) -> None:
    assert await house.use("hold", on=False) == "the caller is not on hold"
    assert "music" in await house.use("hold", on=True)
    channel = house.pbx.channels[house.voice.channel_id]
    assert channel.muted == {"in"}, "the model does not listen meanwhile"
    assert "already" in await house.use("hold", on=True)
    assert house.tools.busy, "this silence must not end the conversation"
    assert house.journal.facts == {("on_hold", channel.id)}, "the next run resumes the caller"
    assert await house.use("hold", on=False) == "resumed"
    assert channel.muted == set()
    assert not house.tools.busy
    assert house.journal.facts == set()
    assert [each for each in house.requests_of(channel.id) if "hold" in each] == ["POST hold", "DELETE hold"]


async def test_a_hold_that_the_model_forgets_ends() -> None:
    house = AgentHouse(max_hold_s=60)
    channel_id = await house.answer()
    await house.use("hold", on=True)
    await pass_time(59)
    assert "DELETE hold" not in house.requests_of(channel_id)
    await pass_time(2)
    assert "DELETE hold" in house.requests_of(channel_id)
    await house.close()


async def test_a_hold_ends_with_the_stream(house: AgentHouse) -> None:
    await house.use("hold", on=True)
    await house.tools.close()
    await settle()
    assert "DELETE hold" in house.requests_of(house.voice.channel_id)


async def test_a_hold_that_is_canceled_before_it_is_kept_ends(house: AgentHouse) -> None:
    class Ending(BackgroundTasks):
        def spawn(self, work: Coroutine[Any, Any, T], about: Fields | None = None) -> asyncio.Task[T]:
            task = super().spawn(work, about)
            for each in (task, holding):  # the stream ends now
                each.cancel()
            return task

    call = AgentCall(house.voice, house.limits, Principal("config"), house.services, Ending("tests"))
    (tool,) = house.toolbox.tools(["hold"], house.limits)
    holding = asyncio.ensure_future(cast(Coroutine[Any, Any, str], tool.run(call, {"on": True})))
    await until(holding.done)
    assert house.requests_of(house.voice.channel_id)[-2:] == ["DELETE mute", "DELETE hold"]


async def test_a_caller_who_cannot_be_unmuted_is_resumed(house: AgentHouse) -> None:
    await house.use("hold", on=True)
    house.pbx.failures["/mute$"] = AriError(500, "DELETE", "/mute", "Failed to unmute")
    assert await house.use("hold", on=False) == "resumed"
    assert "DELETE hold" in house.requests_of(house.voice.channel_id)


async def test_the_caller_is_held_once(house: AgentHouse) -> None:
    house.voice.say(1.0)
    house.begin("hold", on=True)
    house.tools.start("second", "hold", '{"on": true}')
    house.tools.start("third", "transfer", '{"extension": "1002"}')
    await until(lambda: len(house.results) == 3)
    for other in ("second", "third"):
        assert "put on hold already" in house.results[other]
    assert house.requests_of(house.voice.channel_id).count("POST hold") == 1


async def test_only_allowed_variables_are_set(house: AgentHouse) -> None:
    variables = house.pbx.channels[house.voice.channel_id].variables
    assert await house.use("set_variable", name="ORDER_ID", value="17") == "set"
    assert variables["ORDER_ID"] == "17"
    before = dict(variables)
    for name in ("CALLERID(num)", "SHELL(reboot)", "ORDER_(x)", "PASSWORD", "", "ORDER_ID\n"):
        assert "may not be set" in await house.failure("set_variable", name=name, value="1"), name
    assert "one line" in await house.failure("set_variable", name="ORDER_ID", value="1\n2")
    assert variables == before
    refused = [line for line in house.audit.lines if line["outcome"] == "rejected"]
    assert [line["name"] for line in refused][:2] == ["CALLERID(num)", "SHELL(reboot)"]


async def test_the_state_of_an_allowed_extension(house: AgentHouse) -> None:
    house.pbx.offline = {"1003"}
    house.pbx.unknown = {"1004"}
    assert json.loads(await house.use("extension_state", extension="1002")) == {"extension": "1002", "state": "free"}
    busy = house.pbx.come("other", "1005")
    assert json.loads(await house.use("extension_state", extension="1005"))["state"] == "in a call"
    house.pbx.hang_up(busy.id)
    assert json.loads(await house.use("extension_state", extension="1003"))["state"] == "not registered"
    assert "unknown extension 1004" in await house.failure("extension_state", extension="1004")
    assert "not allowed; allowed: 10*" in await house.failure("extension_state", extension="2001")


async def test_the_caller_moves_into_an_allowed_conference(house: AgentHouse) -> None:
    assert "not allowed" in await house.failure("conference", conference="board")
    house.begin("conference", conference="team")
    await until(lambda: house.released == [house.voice.channel_id])

    def takes_part() -> bool:
        conference = house.conferences.get("team")
        return conference is not None and [each.channel_id for each in conference.participants] == house.released

    await until(takes_part)
    assert house.ended()[-1]["outcome"] == "ok"


async def test_a_call_that_has_ended_is_reported(house: AgentHouse) -> None:
    house.pbx.hang_up(house.voice.channel_id)
    await settle()
    for name, arguments in (("send_dtmf", {"digits": "1"}), ("hold", {"on": True}), ("hang_up", {})):
        assert await house.failure(name, **arguments) == "the call has ended", name
    assert await house.failure("transfer", extension="1002") == "the call has ended"


async def test_an_ordinary_call_can_be_hung_up_only() -> None:
    house = AgentHouse()
    await house.answer()
    house.pbx.come("alice", "1007", state="Up")
    house.pbx.come("bob", "1008", state="Up", linkedid="alice")
    for channel_id in ("alice", "bob"):
        house.pbx.enter_bridge("talk", channel_id)
    await house.tracker.resync()
    house.voice.channel_id = "alice"
    for name, arguments in (
        ("transfer", {"extension": "1002"}),
        ("hold", {"on": True}),
        ("send_dtmf", {"digits": "1"}),
    ):
        assert "does not control this call" in await house.failure(name, **arguments), name
    house.begin("hang_up")
    await until(lambda: "alice" not in house.pbx.channels)
    await house.close()
