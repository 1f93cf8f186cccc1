"""Status callbacks: which are sent, in which order, with which parameters; each once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast
from urllib.parse import parse_qsl

from bridge.ari.model import Channel, ChannelDestroyed, ChannelStateChange, Dial
from bridge.calls.call import Call, Party, PartyJoined
from bridge.dialects.twilio import call_sid
from bridge.flows.status_callbacks import STATUS_EVENTS
from bridge.flows.web import ServerResponse
from tests.fakes.virtual_time import pass_time, run_virtually
from tests.unit.flows.world import ACCOUNT, World

URL = "https://app.example.org/status"


def forms(world: World) -> list[dict[str, str]]:
    return [dict(parse_qsl((body or b"").decode())) for _, _, body, _ in world.web.asked]


def ring(world: World) -> None:
    world.records.on_event(
        Dial(type="Dial", dialstatus="RINGING", peer=Channel(id="call-1", name="PJSIP/1-1", state="Ringing"))
    )


def answer(world: World) -> None:
    world.records.on_event(
        ChannelStateChange(type="ChannelStateChange", channel=Channel(id="call-1", name="PJSIP/1-1", state="Up"))
    )


def end(world: World, cause: int = 16) -> None:
    world.records.on_event(
        ChannelDestroyed(
            type="ChannelDestroyed",
            channel=Channel(id="call-1", name="PJSIP/1-1", state="Up"),
            cause=cause,
            cause_txt="",
        )
    )


def test_all_of_an_answered_call_in_order_although_the_server_is_slow() -> None:
    async def act() -> None:
        world = World()
        world.leg()

        async def slowly() -> ServerResponse:
            await pass_time(9)
            return ServerResponse(200, b"")

        world.web.answers[URL] = slowly
        world.status_callbacks.watch("call-1", URL, "POST", STATUS_EVENTS)
        await pass_time(1)
        ring(world)
        ring(world)
        await pass_time(2)
        answer(world)
        await pass_time(61)
        end(world)
        await pass_time(60)
        found = forms(world)
        assert [each["CallStatus"] for each in found] == ["initiated", "ringing", "in-progress", "completed"]
        assert [each["SequenceNumber"] for each in found] == ["0", "1", "2", "3"]
        assert {each["CallSid"] for each in found} == {call_sid("call-1")}
        assert {each["Direction"] for each in found} == {"outbound-api"}
        assert (found[3]["CallDuration"], found[3]["Duration"]) == ("61", "2")
        assert all("CallDuration" not in each for each in found[:3])
        assert found[1]["Timestamp"] == "Thu, 01 Jan 1970 00:00:01 +0000"
        assert all("X-Twilio-Signature" in headers for _, _, _, headers in world.web.asked)
        await world.status_callbacks.close()

    run_virtually(act())


def test_a_slow_server_receives_the_end_of_a_call_whose_record_was_deleted() -> None:
    async def act() -> None:
        world = World()
        world.leg()

        async def slowly() -> ServerResponse:
            await pass_time(9)
            return ServerResponse(200, b"")

        world.web.answers[URL] = slowly
        world.status_callbacks.watch("call-1", URL, "POST", ("answered", "completed"))
        answer(world)
        await pass_time(3)
        end(world)
        assert world.records.forget("call-1")
        await pass_time(60)
        answered, completed = forms(world)
        assert (completed["CallStatus"], completed["CallDuration"]) == ("completed", "3")
        assert {name: completed[name] for name in ("From", "To", "Direction")} == {
            name: answered[name] for name in ("From", "To", "Direction")
        }
        await world.status_callbacks.close()

    run_virtually(act())


def test_a_call_may_be_named_by_a_channel_that_joined_it() -> None:
    async def act() -> None:
        world = World()
        world.leg()
        call, party = SimpleNamespace(id="call-1"), SimpleNamespace(id="channel-2")
        world.records.on_change(PartyJoined(cast(Call, call), cast(Party, party)))
        world.status_callbacks.watch("channel-2", URL)
        await pass_time(1)
        end(world)
        await pass_time(1)
        assert [(each["CallSid"], each["CallStatus"]) for each in forms(world)] == [(call_sid("call-1"), "failed")]
        await world.status_callbacks.close()

    run_virtually(act())


def test_those_that_were_chosen_and_the_reason_of_an_unanswered_call() -> None:
    async def act() -> None:
        world = World()
        world.leg()
        ring(world)
        world.status_callbacks.watch("call-1", URL)  # completed only
        end(world, cause=17)
        await pass_time(0.1)
        (found,) = forms(world)
        assert (found["CallStatus"], found["CallDuration"], found["SequenceNumber"]) == ("busy", "0", "0")
        assert found["AccountSid"] == ACCOUNT.sid
        await world.status_callbacks.close()

    run_virtually(act())


def test_what_has_happened_already_is_sent_too() -> None:
    async def act() -> None:
        world = World()
        world.leg()
        ring(world)
        answer(world)
        world.status_callbacks.watch("call-1", URL, "POST", ("ringing", "answered"))
        await pass_time(0.1)
        assert [each["CallStatus"] for each in forms(world)] == ["ringing", "in-progress"]
        await world.status_callbacks.close()
        await pass_time(2)

    run_virtually(act())
