"""Calls of the dialplan that cannot be served are rejected before they are answered."""

from __future__ import annotations

from typing import Any, cast

import pytest

from bridge.app.inbound_admission import InboundAdmission
from bridge.ari.model import Channel
from bridge.config import Config
from bridge.flows.flow_config import flows_of
from bridge.flows.manager import FlowManager
from bridge.media.call_admission import LATE_OF_MEASURED, CallAdmission
from bridge.streams.inbound import InboundCalls
from bridge.streams.subscription import routes_of
from tests.fakes.virtual_time import settle
from tests.unit.control.house import House


class Entrance:
    """A bridge that serves 750 with a stream and 751 with a flow, if its admission accepts the call."""

    def __init__(self, *, max_streams: int = 1, then: str = "hangup") -> None:
        self.house = House(claims=False)
        pbx = self.house.pbx
        pbx.dialplan["from-internal", "751"] = (("Stasis", f"{pbx.app},751"),)
        pbx.dialplan["from-internal", "752"] = (("Answer", ""), ("Stasis", f"{pbx.app},751"))
        pbx.dialplan["from-internal", "753"] = (("Stasis", f"{pbx.app}"),)
        route = {"id": "agent", "match": "750", "url": "ws://a.example.org/", "dialect": "twilio", "then": then}
        flow = {"id": "menu", "match": ["751"], "actions": [{"type": "answer"}]}
        config = Config.model_validate({"dialplan": [route], "flows": [flow]})
        self.admission = CallAdmission(max_streams, late_ms=40)
        parts: Any = {"client": self.house.client, "calls": None, "naming": None, "streams": None}
        self.inbound = InboundCalls(routes_of(config), **parts, still_held=lambda _: False, max_unordered=1)
        manager = FlowManager(flows_of(config), cast(Any, None), cast(Any, None))
        refusing = InboundAdmission(self.admission, self.inbound, manager)
        self.house.stasis.refusal = refusing.refusal
        self.house.stasis.on_released = self.inbound.left

    def overload(self) -> None:
        self.admission.load = lambda: 20
        for turn in range(LATE_OF_MEASURED):
            self.admission.measured(0.1, 0.1, 0.1 * turn)

    async def call(self, number: str) -> str:
        """Return the id of a call's channel; empty if it was rejected, unanswered."""
        channel_id = self.house.pbx.call("1001", number)
        await settle()
        answers = [each for each in self.house.pbx.requests if each.endswith(f"/channels/{channel_id}/answer")]
        if channel_id in self.house.pbx.channels:
            assert answers
            return channel_id
        assert not answers
        return ""


async def test_a_call_for_whose_stream_there_is_no_room_is_rejected_as_without_circuits() -> None:
    entrance = Entrance()
    first = await entrance.call("750")
    assert first
    assert await entrance.call("750") == "", "the first one has no stream yet, and needs it"
    assert [*entrance.house.pbx.hangup_reasons.values()] == ["congestion"]
    assert await entrance.call("753"), "held for clients; needs no stream now"
    entrance.house.pbx.hang_up(first)
    await settle()
    assert await entrance.call("750")


async def test_a_call_without_room_goes_on_in_the_dialplan_if_its_route_says_so() -> None:
    entrance = Entrance(max_streams=0, then="continue")
    entrance.house.pbx.dialplan["from-internal", "750"] += (("Echo", ""),)
    channel_id = entrance.house.pbx.call("1001", "750")
    await settle()
    channel = entrance.house.pbx.channels[channel_id]
    assert (channel.resource["dialplan"]["app_name"], channel.up) == ("Echo", False)


@pytest.mark.parametrize("number", ["750", "751", "753"])
async def test_an_overloaded_process_answers_no_further_call(number: str) -> None:
    entrance = Entrance(max_streams=10)
    entrance.overload()
    assert await entrance.call(number) == ""


async def test_a_call_that_is_up_is_not_refused_because_of_lateness() -> None:
    entrance = Entrance(max_streams=10)
    entrance.overload()
    channel_id = entrance.house.pbx.call("1001", "752")
    await settle()
    assert entrance.house.stasis.bridge_of(channel_id) is not None


async def test_a_call_that_is_not_taken_reserves_no_stream() -> None:
    entrance = Entrance()
    pbx = entrance.house.pbx
    moved = pbx.come("moved", "1001", "750", state="Up")
    moved.app = pbx.app  # from another application, which its dialplan still names
    moved.resource["dialplan"] |= {"app_name": "Stasis", "app_data": "other"}
    pbx.emit("StasisStart", moved, args=["750"])
    await settle()
    assert entrance.house.stasis.bridge_of("moved") is None
    assert entrance.inbound.starting == 0
    assert await entrance.call("750")


async def test_a_call_into_a_conference_was_admitted_where_it_came_from() -> None:
    entrance = Entrance(max_streams=0)
    entrance.overload()
    channel = Channel(id="c1", name="PJSIP/1001-1", state="Ring")
    inbound: Any = entrance.inbound
    admission = InboundAdmission(entrance.admission, inbound, FlowManager([], cast(Any, None), cast(Any, None)))
    assert admission.refusal(channel, ["conference", "standup"]) is None
