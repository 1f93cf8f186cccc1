"""What a flow does on a call: order, waiting, the end of the call, failures, bounds."""

import asyncio
from typing import Any

import pytest

from bridge.flows.interpreter import MAX_ACTIONS_RUN, MAX_BESIDE
from bridge.flows.web import ServerResponse
from tests.fakes.virtual_time import now, run_virtually
from tests.unit.flows.fake_services import SAID_S
from tests.unit.flows.world import World, step


def test_actions_run_in_order_and_speech_is_waited_for() -> None:
    async def act() -> None:
        world = World()
        run, end = await world.done(
            [step("answer"), step("talk", text="one"), step("sleep", duration=1500), step("talk", text="two")]
        )
        assert [utterance.text for utterance in world.speech.said] == ["one", "two"]
        assert [(begun, ended) for _, begun, ended, _ in world.players.heard] == [(0, SAID_S), (3.5, 5.5)]
        assert end.reason == "the last action was done"
        assert [data["type"] for data in world.told("flow_action")] == ["answer", "talk", "sleep", "talk"]
        assert [data["index"] for data in world.told("flow_action")] == [0, 1, 2, 3]
        assert run.call_id == world.told("flow_action")[0]["call_id"] == "call-1"

    run_virtually(act())


def test_what_needs_audio_answers_the_call_first_and_what_does_not_leaves_it_ringing() -> None:
    async def act() -> None:
        world = World()
        leg = world.leg(answered=False)
        await world.done([step("variable_set", key="a", value="b"), step("hangup", reason="busy")], leg)
        assert leg.did == [(0, "hang_up", "busy", "busy")]
        leg = world.leg(answered=False)
        await world.done([step("sleep", duration=10)], leg)
        assert leg.did[0] == (0, "hold_in_bridge")
        assert leg.answered

    run_virtually(act())


LONG = [
    step("talk", text="a long speech"),
    step("play", stream_urls=["http://x/a"] * 10),
    step("sleep", duration=60_000),
    step("digits_receive", duration=60_000, length=3),
    step("echo", duration=60_000),
    step("conference_join", conference_id="c"),
    step("connect", destinations=[{"type": "extension", "target": "slow"}]),
    step("connect", destinations=[{"type": "extension", "target": "1002"}]),
    step("queue_join", queue_id="sales"),
    step("amd"),
]


@pytest.mark.parametrize("action", LONG, ids=lambda action: action["type"])
def test_a_caller_who_hangs_up_ends_any_action_at_once_and_leaves_nothing(action: dict[str, Any]) -> None:
    async def act() -> None:
        world = World()
        world.originator.outcomes["slow"] = (50, "")
        leg = world.leg()
        run = world.run([step("recording_start"), action, step("talk", text="never said")], leg)
        asyncio.get_running_loop().call_later(1.5, leg.leave)
        end = await run.run()
        assert end.reason == "the call ended"
        assert now() == 1.5
        assert "never said" not in [utterance.text for utterance in world.speech.said]
        assert all(player.closed for player in world.players.made)
        assert all(ringing.leg.gone.is_set() for ringing in world.originator.rung)
        assert world.recordings.did[-1] == ("stop", "recording-1")
        assert world.streams.did[-1] == (1.5, "stop")

    run_virtually(act())


def test_an_action_that_fails_is_told_and_the_flow_goes_on() -> None:
    async def act() -> None:
        world = World()
        _, end = await world.done(
            [
                step("talk", text="unspeakable"),
                step("play", stream_urls=["http://x/missing"]),
                step("fetch", event_url="http://nobody/"),
                step("connect", destinations=[{"type": "extension", "target": "bad"}]),
                step("talk", text="still here"),
            ]
        )
        assert world.failures() == [
            (0, "failed: it cannot be said"),
            (1, "failed: http://x/missing is not there"),
            (2, "failed: nobody there"),
        ]
        assert world.speech.said[-1].text == "still here"
        assert end.reason == "the last action was done"

    run_virtually(act())


def test_an_error_in_an_action_is_a_failure_like_any_other() -> None:
    async def act() -> None:
        world = World()

        async def broken(*_: Any) -> None:
            raise RuntimeError("a bug")

        world.streams.external_media_stop = broken  # type: ignore[method-assign, assignment]
        await world.done([step("external_media_stop"), step("talk", text="still here")])
        assert world.failures() == [(0, "failed: RuntimeError")]
        assert world.speech.said

    run_virtually(act())


def test_a_loop_without_waiting_is_bounded_and_does_not_starve_others() -> None:
    async def act() -> None:
        world = World()
        ticks = 0

        async def other() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        beside = asyncio.ensure_future(other())
        flow = {"actions": [{"type": "LABEL", "name": "again"}, {"type": "GOTO", "params": {"label": "again"}}]}
        _, end = await world.done(flow)
        beside.cancel()
        assert end.reason == f"more than {MAX_ACTIONS_RUN} actions were run"
        assert ticks >= MAX_ACTIONS_RUN

    run_virtually(act())


def test_ten_flows_at_once_do_not_disturb_each_other() -> None:
    async def act() -> None:
        world = World()
        flow = [
            step("talk", text="Hello ${who}"),
            step("digits_receive", duration=10_000, length=2),
            step("variable_set", key="pressed", value="${voipbin.call.digits}"),
        ]
        legs = [world.leg(f"call-{number}") for number in range(10)]
        runs = [world.run(flow, leg, who=leg.id) for leg in legs]
        presses = [leg.press(f"{number}{9 - number}", after_s=3) for number, leg in enumerate(legs)]
        ends = await asyncio.gather(*(run.run() for run in runs), *presses)
        assert {end.reason for end in ends[:10] if end} == {"the last action was done"}
        assert [run.variables.get("pressed") for run in runs] == [f"{n}{9 - n}" for n in range(10)]
        assert sorted(utterance.text for utterance in world.speech.said) == sorted(f"Hello {leg.id}" for leg in legs)

    run_virtually(act())


def test_a_number_from_a_variable_is_checked_when_the_action_runs() -> None:
    async def act() -> None:
        world = World()
        await world.done([step("sleep", duration="${wait}")], wait="2500")
        assert now() == 2.5
        await world.done([step("sleep", duration="${wait}")], wait="soon")
        assert world.failures() == [(0, 'failed: duration: expected milliseconds from 0 to 86400000, got "soon"')]

    run_virtually(act())


@pytest.mark.parametrize(
    "action",
    [
        step("variable_set", key="b", value="${a}" * 1000),
        step("webhook_send", uri="http://x/", data="${a}" * 1000),
        step("play", stream_urls=["http://x/" + "${a}" * 1000] * 10),
    ],
    ids=lambda action: action["type"],
)
def test_a_short_text_cannot_become_a_huge_one(action: dict[str, Any]) -> None:
    async def act() -> None:
        world = World()
        await world.done([action], a="x" * 32_000)
        assert world.failures() == [(0, "failed: the options would exceed 1048576 bytes with their variables")]

    run_virtually(act())


def test_what_goes_on_beside_a_flow_is_bounded() -> None:
    async def act() -> None:
        world = World()

        async def never() -> ServerResponse:
            await asyncio.Event().wait()
            raise AssertionError

        world.web.answers["http://x/"] = never
        flow = [step("webhook_send", uri="http://x/")] * (MAX_BESIDE + 1) + [step("sleep", duration=1)]
        await world.done(flow)
        assert world.failures() == [(MAX_BESIDE, f"failed: the limit of {MAX_BESIDE} background actions is reached")]

    run_virtually(act())


def test_what_goes_on_beside_a_flow_is_bounded_in_bytes() -> None:
    async def act() -> None:
        world = World()

        async def never() -> ServerResponse:
            await asyncio.Event().wait()
            raise AssertionError

        world.web.answers["http://x/"] = never
        send = step("webhook_send", uri="http://x/", data="${a}" * 28, data_type="text/plain")
        await world.done([send] * 6 + [step("sleep", duration=1)], a="x" * 32_000)
        held = 4 * 28 * 32_000
        assert world.failures() == [
            (place, f"failed: background requests and speech hold {held} bytes already") for place in (4, 5)
        ]
        await world.done(
            [step("webhook_send", uri="http://x/", data="${a}" * 30, data_type="text/xml")], a="&" * 32_000
        )
        assert world.failures()[2:] == [(0, "failed: data: exceeds 1048576 bytes with its variables")]

    run_virtually(act())
