"""Which call runs which flow: placed calls, groups, calls that come in, flows that are fetched."""

import asyncio
import json
from typing import Any

import pytest

from bridge.access import CONFIGURATION
from bridge.calls.addresses import Address
from bridge.config import FlowConfig, VoxologyConfig
from bridge.errors import AriError, Overloaded
from bridge.flows.configured import Flow
from bridge.flows.runs import FlowRuns, PlaceRequest
from bridge.flows.spelling import parse
from bridge.flows.web import Answer
from tests.unit.audit.lines import Lines
from tests.unit.flows.fakes import TOKEN, FakeLeg, World, channel, now, quick, step

HELLO = parse([step("talk", text="Hello ${who}")])


def flow(**keys: Any) -> Flow:
    config = FlowConfig.model_validate({"id": "f", **keys})
    return Flow(config, parse(list(config.actions)) if config.actions else None)


def request(*targets: str, program: Any = HELLO, **keys: Any) -> PlaceRequest:
    return PlaceRequest([Address("extension", target) for target in targets], program=program, **keys, principal=TOKEN)


async def settle(runs: FlowRuns, seconds: float = 100) -> None:
    await asyncio.sleep(seconds)
    await runs.close()


def test_who_answers_runs_the_flow_and_is_hung_up_after_it() -> None:
    async def act() -> None:
        world = World()
        runs = FlowRuns([], world.parts)
        placed = await runs.place(request("1001", variables={"who": "you", "voipbin.call.id": "forged"}))
        (record,) = placed.calls
        assert (record.id, record.status, record.destination.target) == ("placed-1", "dialing", "1001")
        assert not placed.groupcalls
        await settle(runs)
        (ringing,) = world.placer.rung
        assert world.speech.said[0].text == "Hello you"
        assert ringing.leg.did == [(1, "hold_in_bridge"), (3, "hang_up", "normal", "")]
        assert [event.type for event in world.happened if event.type.startswith("flow")] == [
            "flow_started", "flow_action", "flow_ended",
        ]  # fmt: skip
        assert world.told("flow_ended")[0]["reason"] == "the last action was done"
        assert not runs.is_running("placed-1")

    quick(act())


def test_each_of_several_runs_the_flow_if_no_other_is_asked_for() -> None:
    async def act() -> None:
        world = World()
        world.placer.outcomes = {"1002": (5, "busy")}
        runs = FlowRuns([], world.parts)
        placed = await runs.place(request("1001", "1002", "1003"))
        assert [record.id for record in placed.calls] == ["placed-1", "placed-2", "placed-3"]
        await settle(runs)
        assert len(world.speech.said) == 2

    quick(act())


def test_the_first_answer_wins_and_the_others_are_cancelled() -> None:
    async def act() -> None:
        world = World()
        world.placer.outcomes = {"slow": (20, ""), "quick": (3, ""), "same": (3, "")}
        runs = FlowRuns([], world.parts)
        placed = await runs.place(request("slow", "quick", "same", answer_method="hangup_others"))
        (group,) = placed.groupcalls
        assert [record.groupcall_id for record in placed.calls] == [group.id] * 3
        await settle(runs)
        assert group.answer_call_id in ("placed-2", "placed-3")
        assert runs.groupcall(group.id) is group
        assert len(world.speech.said) == 1
        losers = [ringing for ringing in world.placer.rung if ringing.id != group.answer_call_id]
        assert [ringing.cancelled_at for ringing in losers] == [3, 3]

    quick(act())


def test_one_after_the_other() -> None:
    async def act() -> None:
        world = World()
        world.placer.outcomes = {"a": (10, "noanswer"), "b": (2, "busy"), "c": (1, "")}
        runs = FlowRuns([], world.parts)
        placed = await runs.place(request("a", "b", "c", "d", ring_method="linear"))
        assert len(placed.calls) == 1
        await settle(runs)
        assert [at for at, _, _ in world.placer.asked] == [0, 10, 12]
        assert {how["token"] for _, _, how in world.placer.asked} == {request("a").principal.id}, "counted as its calls"
        assert placed.groupcalls[0].call_ids == ["placed-1", "placed-2", "placed-3"]
        assert placed.groupcalls[0].answer_call_id == "placed-3"
        assert len(world.speech.said) == 1

    quick(act())


def test_what_cannot_be_placed_is_refused_before_anything_rings() -> None:
    async def act() -> None:
        world = World()
        runs = FlowRuns([], world.parts)
        for wrong, reason in (
            (request("1001", "bad"), r"destinations\[1\]: cannot be dialed"),
            (request(), "destinations: expected at least one"),
            (request("1001", variables={"a": "x" * 40_000}), "variables: 'a'"),
            (request("1001", program=parse([step("fetch", event_url="http://localhost/")])), "event_url: .*loopback"),
        ):
            with pytest.raises(ValueError, match=reason):
                await runs.place(wrong)
        with pytest.raises(LookupError, match="'nowhere'"):
            await runs.place(request("1001", flow_id="nowhere"))
        assert world.placer.rung == []
        await runs.close()

    quick(act())


def test_all_or_nothing() -> None:
    async def act() -> None:
        world = World()
        world.placer.limit = 2
        runs = FlowRuns([], world.parts)
        for how in ("none", "hangup_others"):
            world.placer.rung.clear()
            with pytest.raises(Overloaded):
                await runs.place(request("1", "2", "3", answer_method=how))
            assert [ringing.cancelled_at for ringing in world.placer.rung] == [0, 0]
        await settle(runs)
        assert world.speech.said == []

    quick(act())


def test_without_a_flow_the_call_is_held_until_it_has_lasted_long_enough() -> None:
    async def act() -> None:
        world = World()
        runs = FlowRuns([], world.parts)
        await runs.place(request("1001", program=None, max_call_s=30))
        await settle(runs)
        assert world.placer.rung[0].leg.did == [(1, "hold_in_bridge"), (31, "hang_up", "normal", "timeout")]

    quick(act())


def test_a_call_that_cannot_be_held_or_sent_on_is_hung_up() -> None:
    async def act() -> None:
        world = World()
        runs = FlowRuns([flow(match=["760"], actions=[step("empty")], then="continue")], world.parts)

        async def broken(*_: Any) -> str:
            raise AriError(500, "POST", "/bridges", "no")

        leg = world.leg("call-1")
        leg.continue_in_dialplan = broken  # type: ignore[method-assign, assignment]
        assert runs.claims(channel(), ())
        runs.claimed(leg, ())  # type: ignore[arg-type]
        placed = await runs.place(request("1001", program=None))
        ringing = world.placer.rung[0]
        ringing.leg.hold_in_bridge = broken  # type: ignore[method-assign]
        await settle(runs)
        assert leg.did[-1] == (0, "hang_up", "normal", "")
        assert ringing.leg.did[-1] == (1, "hang_up", "normal", "failed")
        assert placed.calls

    quick(act())


def test_a_flow_that_lasts_too_long_is_ended_with_its_call() -> None:
    async def act() -> None:
        world = World()
        runs = FlowRuns([], world.parts)
        await runs.place(request("1001", program=parse([step("sleep", duration=60_000)]), max_call_s=10))
        await settle(runs)
        assert world.placer.rung[0].leg.did[-1] == (11, "hang_up", "normal", "timeout")
        assert world.told("flow_ended")[0]["reason"] == "the call lasted too long"

    quick(act())


def test_a_call_that_comes_in_runs_the_flow_of_its_number() -> None:
    async def act() -> None:
        world = World()
        runs = FlowRuns(
            [
                flow(id="a", match=["7*"], actions=[step("talk", text="${voipbin.call.source.target} ${callerNo}")]),
                flow(id="b", match=["sales"], actions=[step("talk", text="sales")], then="continue"),
            ],
            world.parts,
        )
        assert not runs.claims(channel(exten="860"), [])
        for each, args in ((channel("in-1"), []), (channel("in-2", exten="s"), ["sales"])):
            assert runs.claims(each, args)
            world.legs.known[each.id] = FakeLeg(each.id)
            runs.claimed(world.legs.known[each.id], args)  # type: ignore[arg-type]
        assert runs.is_running("in-1")
        await settle(runs)
        assert sorted(utterance.text for utterance in world.speech.said) == ["1001 1001", "sales"]
        assert world.legs.known["in-1"].did[-1][1:] == ("hang_up", "normal", "")
        assert world.legs.known["in-2"].did[-1][1:] == ("continue",)

    quick(act())


def test_a_flow_is_fetched_for_each_call_in_the_words_of_its_server() -> None:
    async def act() -> None:
        world = World()
        world.web.answers["https://app.example/flow"] = Answer(
            200, json.dumps({"actions": [{"type": "SAY", "params": {"text": "Hi ${sessionData.name}"}}]}).encode()
        )
        fetched = flow(
            id="shop", url="https://app.example/flow", spelling="voxology", auth_key="x-token", auth_value="secret"
        )
        runs = FlowRuns([fetched], world.parts, VoxologyConfig.model_validate({"flow": "shop", "app_id": "app-1"}))
        record = await runs.dial_connect(
            "+4930", caller_id="+49111", session_data={"name": "Bob"}, timeout_s=60, principal=TOKEN
        )
        assert record.destination == Address("tel", "+4930")
        await settle(runs)
        assert world.speech.said[0].text == "Hi Bob"
        method, _, body, headers = world.web.asked[0]
        assert (method, headers["x-token"]) == ("POST", "secret")
        asked = json.loads(body or b"")
        assert asked["type"] == "init_call"
        assert (asked["caller_no"], asked["api_no"], asked["direction"]) == ("+4930", "+49111", "outbound")
        assert (asked["call_id"], asked["app_id"]) == ("placed-1", "app-1")
        assert asked["session_data"] == {"name": "Bob"}
        assert world.placer.asked[0][2]["timeout_s"] == 60
        assert world.told("flow_action")[-1]["flow_id"] == "shop"

    quick(act())


def test_a_flow_that_cannot_be_fetched_goes_where_then_says() -> None:
    async def act() -> None:
        world = World()
        runs = FlowRuns([flow(url="https://app.example/flow", match=["7*"], then="continue")], world.parts)
        leg = world.leg("in-1")
        assert runs.claims(channel("in-1"), [])
        runs.claimed(leg, [])  # type: ignore[arg-type]
        await settle(runs)
        assert leg.did[-1][1:] == ("continue",)
        assert world.failures() == [(0, "failed: nobody there")]

    quick(act())


def test_a_caller_who_leaves_while_the_flow_is_fetched_ends_it() -> None:
    async def act() -> None:
        world = World()

        async def never() -> Answer:
            await asyncio.sleep(1000)
            raise AssertionError

        world.web.answers["https://app.example/flow"] = never
        runs = FlowRuns([flow(url="https://app.example/flow", match=["7*"])], world.parts)
        leg = world.leg("in-1")
        runs.claims(channel("in-1"), [])
        runs.claimed(leg, [])  # type: ignore[arg-type]
        await asyncio.sleep(1)
        leg.leave()
        await asyncio.sleep(0.001)
        assert not runs.is_running("in-1")
        await runs.close()

    quick(act())


def test_dials_connect_needs_its_flow_and_a_number_that_can_be_dialled() -> None:
    async def act() -> None:
        world = World()
        runs = FlowRuns([], world.parts)
        with pytest.raises(LookupError, match="voxology"):
            await runs.dial_connect("+49", principal=TOKEN)
        runs = FlowRuns([flow(actions=[step("beep")])], world.parts, VoxologyConfig.model_validate({"flow": "f"}))
        with pytest.raises(ValueError, match=r"call\.no"):
            await runs.dial_connect("bad", principal=TOKEN)
        with pytest.raises(ValueError, match="session_data"):
            await runs.dial_connect("+49", session_data={"x": "y" * 70_000}, principal=TOKEN)
        assert world.placer.rung == []

    quick(act())


def test_a_flow_can_be_stopped_and_the_call_stays() -> None:
    async def act() -> None:
        world = World()
        runs = FlowRuns([], world.parts)
        leg = world.leg("call-1")
        await runs.run_on("call-1", parse([step("recording_start"), step("sleep", duration=60_000)]), TOKEN)
        await asyncio.sleep(1)
        assert await runs.stop("call-1")
        assert not leg.gone.is_set()
        assert world.recordings.did[-1] == ("stop", "recording-1")
        assert world.told("flow_ended")[0]["reason"] == "stopped"
        assert not await runs.stop("call-1")
        assert not runs.is_running("call-1")
        await runs.run_on("call-1", HELLO, TOKEN)
        await runs.run_on("call-1", HELLO, TOKEN, {"who": "again"})
        await settle(runs)
        assert [utterance.text for utterance in world.speech.said] == ["Hello again"]
        with pytest.raises(LookupError):
            await runs.run_on("nobody", HELLO, TOKEN)

    quick(act())


def test_a_flow_that_is_stopped_twice_leaves_nothing() -> None:
    async def act() -> None:
        world = World()
        world.placer.outcomes = {"1001": (1, ""), "a": (90, ""), "b": (90, "")}
        runs = FlowRuns([], world.parts)
        to = [{"type": "extension", "target": "a"}, {"type": "extension", "target": "b"}]
        await runs.place(request("1001", program=parse([step("connect", destinations=to)])))
        await asyncio.sleep(10)
        for ringing in world.placer.rung[1:]:
            cancel = ringing.cancel

            async def slowly(cancel: Any = cancel) -> None:
                await asyncio.sleep(1)
                await cancel()

            ringing.cancel = slowly  # type: ignore[method-assign]
        stopping = asyncio.ensure_future(runs.before_transfer("placed-1"))
        await asyncio.sleep(0.5)
        await runs.close()
        await stopping
        assert [ringing.cancelled_at for ringing in world.placer.rung[1:]] == [11, 11]
        assert all(voice.closed for voice in world.voices.made)
        assert world.streams.did[-1] == (11, "stop")

    quick(act())


def test_close_ends_everything_without_hanging_anybody_up() -> None:
    async def act() -> None:
        world = World()
        world.placer.outcomes = {"slow": (500, "")}
        runs = FlowRuns([], world.parts)
        await runs.place(request("1001", program=parse([step("sleep", duration=60_000)])))
        await runs.place(request("slow"))
        await runs.place(request("slow", "slow", answer_method="hangup_others"))
        await runs.place(request("1002", program=None))
        await asyncio.sleep(5)
        before = now()
        await runs.close()
        assert now() == before
        assert not world.placer.rung[0].leg.gone.is_set()
        assert not runs.claims(channel(), [])

    quick(act())


def test_fetch_flow_and_dial_reach_the_other_flows() -> None:
    async def act() -> None:
        world = World()
        other = flow(id="other", actions=[step("talk", text="other")])
        runs = FlowRuns([other], world.parts, VoxologyConfig.model_validate({"flow": "other"}))
        first = [step("fetch_flow", flow_id="other"), step("fetch_flow", flow_id="nowhere"), step("talk", text="back")]
        await runs.place(request("1001", program=parse(first)))
        await settle(runs, 50)
        assert [utterance.text for utterance in world.speech.said] == ["other", "back"]
        assert world.failures() == [(1, "failed: flow_id: no flow has the id 'nowhere'")]
        runs = FlowRuns([other], world.parts, VoxologyConfig.model_validate({"flow": "other"}))
        dial = [{"type": "DIAL", "session_data": {"a": 1}, "params": {"no": "+49", "caller_id_no": "+48"}}]
        await runs.place(request("1001", program=parse(dial)))
        await settle(runs)
        assert [to.target for _, to, _ in world.placer.asked] == ["1001", "1001", "+49"]
        assert world.speech.said[-1].text == "other"

    quick(act())


RECORDS = [step("recording_start"), step("external_media_start", url="ws://app.example/x", encapsulation="sln")]


def test_what_a_flow_opens_belongs_to_the_token_that_asked_for_the_call() -> None:
    async def act() -> None:
        world = World()
        runs = FlowRuns([], world.parts)
        await runs.place(request("1001", program=parse(RECORDS)))
        await runs.place(request("1002", program=parse(RECORDS), answer_method="hangup_others"))
        await runs.place(request("1003", program=parse(RECORDS), ring_method="linear"))
        await settle(runs)
        assert world.recordings.principals == world.streams.principals == [TOKEN] * 3

    quick(act())


def test_what_a_flow_opens_for_a_call_that_comes_in_belongs_to_the_configuration() -> None:
    async def act() -> None:
        world = World()
        runs = FlowRuns([flow(match=["760"], actions=RECORDS)], world.parts)
        arriving = channel("in-1", "760")
        assert runs.claims(arriving, [])
        runs.claimed(world.leg("in-1"), [])  # type: ignore[arg-type]
        await settle(runs)
        assert world.recordings.principals == world.streams.principals == [CONFIGURATION]

    quick(act())


def test_what_a_flow_originates_and_records_is_in_the_audit_log() -> None:
    async def act() -> None:
        world = World()
        audit = world.parts.audit = Lines()
        runs = FlowRuns([], world.parts)
        connect = step("connect", destinations=[{"type": "extension", "target": each} for each in ("1002", "bad")])
        program = parse([step("recording_start"), step("recording_stop"), connect])
        await runs.place(request("1001", program=program))
        await settle(runs)
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

    quick(act())
