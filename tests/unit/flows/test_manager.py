"""Which call runs which flow: originated calls, groups, inbound calls, flows that are fetched."""

import asyncio
import json
from typing import Any

import pytest

from bridge.access import CONFIGURATION
from bridge.calls.addresses import Address
from bridge.config import FlowConfig, VoxologyConfig
from bridge.control.outbound_calls import OriginatedCalls, OriginateRequest
from bridge.errors import AriError
from bridge.flows.flow_config import Flow
from bridge.flows.manager import FlowManager
from bridge.flows.syntax import parse
from bridge.flows.web import ServerResponse
from tests.fakes.virtual_time import now, pass_time, run_virtually
from tests.unit.audit.lines import Lines
from tests.unit.flows.fake_legs import FakeLeg
from tests.unit.flows.world import TOKEN, World, channel, step

HELLO = parse([step("talk", text="Hello ${who}")])


def flow(**keys: Any) -> Flow:
    config = FlowConfig.model_validate({"id": "f", **keys})
    return Flow(config, parse(list(config.actions)) if config.actions else None)


def request(*targets: str, **keys: Any) -> OriginateRequest:
    return OriginateRequest([Address("extension", target) for target in targets], **keys, principal=TOKEN)


async def originate(
    manager: FlowManager, *targets: str, program: Any = HELLO, variables: Any = None, **keys: Any
) -> OriginatedCalls:
    return await manager.originate(request(*targets, **keys), program, variables)


async def settle(world: World, manager: FlowManager, seconds: float = 100) -> None:
    await pass_time(seconds)
    await world.close(manager)


def test_who_answers_runs_the_flow_and_is_hung_up_after_it() -> None:
    async def act() -> None:
        world = World()
        manager = world.flow_manager()
        placed = await originate(manager, "1001", variables={"who": "you", "voipbin.call.id": "forged"})
        (record,) = placed.calls
        assert (record.id, record.status, record.destination.target) == ("placed-1", "dialing", "1001")
        assert not placed.groupcalls
        await settle(world, manager)
        (ringing,) = world.originator.rung
        assert world.speech.said[0].text == "Hello you"
        assert ringing.leg.did == [(1, "hold_in_bridge"), (3, "hang_up", "normal", "")]
        assert [event.type for event in world.happened if event.type.startswith("flow")] == [
            "flow_started", "flow_action", "flow_ended",
        ]  # fmt: skip
        assert world.told("flow_ended")[0]["reason"] == "the last action was done"

    run_virtually(act())


def test_each_of_several_runs_the_flow_if_no_other_is_asked_for() -> None:
    async def act() -> None:
        world = World()
        world.originator.outcomes = {"1002": (5, "busy")}
        manager = world.flow_manager()
        placed = await originate(manager, "1001", "1002", "1003")
        assert [record.id for record in placed.calls] == ["placed-1", "placed-2", "placed-3"]
        await settle(world, manager)
        assert len(world.speech.said) == 2

    run_virtually(act())


def test_a_flow_that_cannot_run_is_refused_before_anything_rings() -> None:
    async def act() -> None:
        world = World()
        manager = world.flow_manager()
        with pytest.raises(ValueError, match="variables: 'a'"):
            await originate(manager, "1001", variables={"a": "x" * 40_000})
        with pytest.raises(ValueError, match=r"event_url: .*loopback"):
            await manager.parse_request(lambda: [step("fetch", event_url="http://localhost/")])
        with pytest.raises(LookupError, match="'nowhere'"):
            await originate(manager, "1001", flow_id="nowhere")
        assert world.originator.rung == []
        await world.close(manager)

    run_virtually(act())


def test_a_call_that_cannot_be_sent_on_is_hung_up() -> None:
    async def act() -> None:
        world = World()
        manager = world.flow_manager([flow(match=["760"], actions=[step("empty")], then="continue")])

        async def broken(*_: Any) -> str:
            raise AriError(500, "POST", "/bridges", "no")

        leg = world.leg("call-1")
        leg.continue_in_dialplan = broken  # type: ignore[method-assign, assignment]
        assert manager.claims(channel(), ())
        manager.claimed(leg, ())  # type: ignore[arg-type]
        await settle(world, manager)
        assert leg.did[-1] == (0, "hang_up", "normal", "")

    run_virtually(act())


def test_a_flow_that_lasts_too_long_is_ended_with_its_call() -> None:
    async def act() -> None:
        world = World()
        manager = world.flow_manager()
        await originate(manager, "1001", program=parse([step("sleep", duration=60_000)]), max_call_s=10)
        await settle(world, manager)
        assert world.originator.rung[0].leg.did[-1] == (11, "hang_up", "normal", "timeout")
        assert world.told("flow_ended")[0]["reason"] == "the call lasted too long"

    run_virtually(act())


def test_a_call_that_comes_in_runs_the_flow_of_its_number() -> None:
    async def act() -> None:
        world = World()
        manager = world.flow_manager(
            [
                flow(id="a", match=["7*"], actions=[step("talk", text="${voipbin.call.source.target} ${callerNo}")]),
                flow(id="b", match=["sales"], actions=[step("talk", text="sales")], then="continue"),
            ]
        )
        assert not manager.claims(channel(exten="860"), [])
        for each, args in ((channel("in-1"), []), (channel("in-2", exten="s"), ["sales"])):
            assert manager.claims(each, args)
            world.legs.known[each.id] = FakeLeg(each.id)
            manager.claimed(world.legs.known[each.id], args)  # type: ignore[arg-type]
        await settle(world, manager)
        assert {data["call_id"] for data in world.told("flow_started")} == {"in-1", "in-2"}
        assert sorted(utterance.text for utterance in world.speech.said) == ["1001 1001", "sales"]
        assert world.legs.known["in-1"].did[-1][1:] == ("hang_up", "normal", "")
        assert world.legs.known["in-2"].did[-1][1:] == ("continue",)

    run_virtually(act())


def test_a_flow_is_fetched_for_each_call_in_the_words_of_its_server() -> None:
    async def act() -> None:
        world = World()
        world.web.answers["https://app.example/flow"] = ServerResponse(
            200, json.dumps({"actions": [{"type": "SAY", "params": {"text": "Hi ${sessionData.name}"}}]}).encode()
        )
        fetched = flow(
            id="shop", url="https://app.example/flow", syntax="voxology", auth_key="x-token", auth_value="secret"
        )
        manager = world.flow_manager([fetched], VoxologyConfig.model_validate({"flow": "shop", "app_id": "app-1"}))
        record = await manager.dial_connect(
            "+4930", caller_id="+49111", session_data={"name": "Bob"}, timeout_s=60, principal=TOKEN
        )
        assert record.destination == Address("tel", "+4930")
        await settle(world, manager)
        assert world.speech.said[0].text == "Hi Bob"
        method, _, body, headers = world.web.asked[0]
        assert (method, headers["x-token"]) == ("POST", "secret")
        asked = json.loads(body or b"")
        assert asked["type"] == "init_call"
        assert (asked["caller_no"], asked["api_no"], asked["direction"]) == ("+4930", "+49111", "outbound")
        assert (asked["call_id"], asked["app_id"]) == ("placed-1", "app-1")
        assert asked["session_data"] == {"name": "Bob"}
        assert world.originator.asked[0][2]["timeout_s"] == 60
        assert world.told("flow_action")[-1]["flow_id"] == "shop"

    run_virtually(act())


def test_a_flow_that_cannot_be_fetched_goes_where_then_says() -> None:
    async def act() -> None:
        world = World()
        manager = world.flow_manager([flow(url="https://app.example/flow", match=["7*"], then="continue")])
        leg = world.leg("in-1")
        assert manager.claims(channel("in-1"), [])
        manager.claimed(leg, [])  # type: ignore[arg-type]
        await settle(world, manager)
        assert leg.did[-1][1:] == ("continue",)
        assert world.failures() == [(0, "failed: nobody there")]

    run_virtually(act())


def test_a_caller_who_leaves_while_the_flow_is_fetched_ends_it() -> None:
    async def act() -> None:
        world = World()

        async def never() -> ServerResponse:
            await pass_time(1000)
            raise AssertionError

        world.web.answers["https://app.example/flow"] = never
        manager = world.flow_manager([flow(url="https://app.example/flow", match=["7*"])])
        leg = world.leg("in-1")
        manager.claims(channel("in-1"), [])
        manager.claimed(leg, [])  # type: ignore[arg-type]
        await pass_time(1)
        leg.leave()
        await pass_time(0.001)
        assert world.told("flow_ended")
        await world.close(manager)

    run_virtually(act())


def test_dials_connect_needs_its_flow_and_a_number_that_can_be_dialed() -> None:
    async def act() -> None:
        world = World()
        manager = world.flow_manager()
        with pytest.raises(LookupError, match="voxology"):
            await manager.dial_connect("+49", principal=TOKEN)
        manager = world.flow_manager([flow(actions=[step("beep")])], VoxologyConfig.model_validate({"flow": "f"}))
        with pytest.raises(ValueError, match=r"call\.no"):
            await manager.dial_connect("bad", principal=TOKEN)
        with pytest.raises(ValueError, match="session_data"):
            await manager.dial_connect("+49", session_data={"x": "y" * 70_000}, principal=TOKEN)
        assert world.originator.rung == []

    run_virtually(act())


def test_a_transfer_stops_the_flow_and_the_call_stays() -> None:
    async def act() -> None:
        world = World()
        manager = world.flow_manager()
        await originate(manager, "1001", program=parse([step("recording_start"), step("sleep", duration=60_000)]))
        await pass_time(2)
        await manager.before_transfer("placed-1")
        assert not world.originator.rung[0].leg.gone.is_set()
        assert world.recordings.did[-1] == ("stop", "recording-1")
        assert world.told("flow_ended")[0]["reason"] == "stopped"
        await manager.before_transfer("placed-1")  # one that runs no flow is fine
        await settle(world, manager)

    run_virtually(act())


def test_the_limit_of_a_call_remains_when_another_flow_runs_on_it() -> None:
    async def act() -> None:
        world = World()
        manager = world.flow_manager()
        waits = parse([step("sleep", duration=60_000)])
        await originate(manager, "1001", program=waits, max_call_s=10)
        await pass_time(5)
        await manager.before_transfer("placed-1")
        leg = world.originator.rung[0].leg
        some: Any = leg
        manager.run_on(some, waits, TOKEN)
        await pass_time(4)
        assert not leg.gone.is_set()
        await pass_time(3)
        assert leg.gone.is_set()
        await settle(world, manager)

    run_virtually(act())


def test_the_limit_of_a_call_remains_after_its_flow() -> None:
    async def act() -> None:
        world = World()
        manager = world.flow_manager()
        await originate(manager, "1001", program=parse([step("sleep", duration=60_000)]), max_call_s=10)
        await pass_time(5)
        await manager.before_transfer("placed-1")
        await settle(world, manager)
        assert world.originator.rung[0].leg.did[-1] == (11, "hang_up", "normal", "timeout")

    run_virtually(act())


def test_a_flow_that_is_stopped_twice_leaves_nothing() -> None:
    async def act() -> None:
        world = World()
        world.originator.outcomes = {"1001": (1, ""), "a": (90, ""), "b": (90, "")}
        manager = world.flow_manager()
        to = [{"type": "extension", "target": "a"}, {"type": "extension", "target": "b"}]
        await originate(manager, "1001", program=parse([step("connect", destinations=to)]))
        await pass_time(10)
        for ringing in world.originator.rung[1:]:
            cancel = ringing.cancel

            async def slowly(cancel: Any = cancel, **how: bool) -> None:
                await pass_time(1)
                await cancel(**how)

            ringing.cancel = slowly  # type: ignore[method-assign]
        stopping = asyncio.ensure_future(manager.before_transfer("placed-1"))
        await pass_time(0.5)
        await world.close(manager)
        await stopping
        assert [ringing.cancelled_at for ringing in world.originator.rung[1:]] == [11, 11]
        assert all(player.closed for player in world.players.made)
        assert world.streams.did[-1] == (11, "stop")

    run_virtually(act())


def test_close_ends_everything_without_hanging_anybody_up() -> None:
    async def act() -> None:
        world = World()
        world.originator.outcomes = {"slow": (500, "")}
        manager = world.flow_manager()
        await originate(manager, "1001", program=parse([step("sleep", duration=60_000)]))
        await originate(manager, "slow")
        await originate(manager, "slow", "slow", answer_method="hangup_others")
        await pass_time(5)
        before = now()
        await world.close(manager)
        assert now() == before
        assert not world.originator.rung[0].leg.gone.is_set()
        assert not manager.claims(channel(), [])

    run_virtually(act())


def test_fetch_flow_and_dial_reach_the_other_flows() -> None:
    async def act() -> None:
        world = World()
        other = flow(id="other", actions=[step("talk", text="other")])
        manager = world.flow_manager([other], VoxologyConfig.model_validate({"flow": "other"}))
        first = [step("fetch_flow", flow_id="other"), step("fetch_flow", flow_id="nowhere"), step("talk", text="back")]
        await originate(manager, "1001", program=parse(first))
        await settle(world, manager, 50)
        assert [utterance.text for utterance in world.speech.said] == ["other", "back"]
        assert world.failures() == [(1, "failed: flow_id: unknown flow 'nowhere'")]
        manager = world.flow_manager([other], VoxologyConfig.model_validate({"flow": "other"}))
        dial = [{"type": "DIAL", "session_data": {"a": 1}, "params": {"no": "+49", "caller_id_no": "+48"}}]
        await originate(manager, "1001", program=parse(dial))
        await settle(world, manager)
        assert [to.target for _, to, _ in world.originator.asked] == ["1001", "1001", "+49"]
        assert world.speech.said[-1].text == "other"

    run_virtually(act())


RECORDS = [step("recording_start"), step("external_media_start", url="ws://app.example/x", encapsulation="sln")]


def test_what_a_flow_opens_belongs_to_the_token_that_asked_for_the_call() -> None:
    async def act() -> None:
        world = World()
        manager = world.flow_manager()
        await originate(manager, "1001", program=parse(RECORDS))
        await originate(manager, "1002", program=parse(RECORDS), answer_method="hangup_others")
        await originate(manager, "1003", program=parse(RECORDS), ring_method="linear")
        await settle(world, manager)
        assert world.recordings.principals == world.streams.principals == [TOKEN] * 3

    run_virtually(act())


def test_what_a_flow_opens_for_a_call_that_comes_in_belongs_to_the_configuration() -> None:
    async def act() -> None:
        world = World()
        manager = world.flow_manager([flow(match=["760"], actions=RECORDS)])
        arriving = channel("in-1", "760")
        assert manager.claims(arriving, [])
        manager.claimed(world.leg("in-1"), [])  # type: ignore[arg-type]
        await settle(world, manager)
        assert world.recordings.principals == world.streams.principals == [CONFIGURATION]

    run_virtually(act())


def test_what_a_flow_originates_and_records_is_in_the_audit_log() -> None:
    async def act() -> None:
        world = World()
        audit = world.services.audit = Lines()
        manager = world.flow_manager()
        connect = step("connect", destinations=[{"type": "extension", "target": each} for each in ("1002", "bad")])
        program = parse([step("recording_start"), step("recording_stop"), connect])
        await originate(manager, "1001", program=program)
        await settle(world, manager)
        assert all(principal == TOKEN and values["call"] == "placed-1" for _, principal, _, values in audit.lines)
        found = [(action, outcome, values) for action, _, outcome, values in audit.lines]
        for values, key, expected in (
            (found[0][2], "recording", "recording-1"),
            (found[1][2], "recording", "recording-1"),
            (found[2][2], "destinations", ["extension 1002"]),
            (found[2][2], "calls", ["placed-2"]),
            (found[3][2], "destinations", ["extension bad"]),
        ):
            assert values[key] == expected
        assert [each[:2] for each in found] == [
            ("recording.start", "ok"),
            ("recording.stop", "ok"),
            ("call.originate", "ok"),
            ("call.originate", "failed"),
        ]

    run_virtually(act())
