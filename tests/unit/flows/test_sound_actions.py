"""What actions of sounds and DTMF digits do."""

import asyncio
from typing import Any

import pytest

from bridge.flows.actions.sound import plain_text
from tests.fakes.virtual_time import now, run_virtually
from tests.unit.flows.fake_services import SAID_S
from tests.unit.flows.world import World, step


def test_a_digit_stops_speech_and_remains_for_digits_receive() -> None:
    async def act() -> None:
        world = World()
        leg = world.leg()
        flow = [
            step("talk", text="press a key", digits_handle="next"),
            step("talk", text="skipped, for the key waits", digits_handle="next"),
            step("digits_receive", duration=5000, length=2),
        ]
        run = world.run(flow, leg)
        await asyncio.gather(run.run(), leg.press("4", after_s=0.5), leg.press("2", after_s=1.0))
        assert [(begun, ended) for _, begun, ended, _ in world.players.heard] == [(0, 0.5)]
        assert run.variables.get("voipbin.call.digits") == "42"
        assert now() < SAID_S

    run_virtually(act())


def test_without_digits_handle_speech_continues_and_the_digit_waits() -> None:
    async def act() -> None:
        world = World()
        leg = world.leg()
        run = world.run([step("talk", text="all of it"), step("digits_receive", duration=100)], leg)
        await asyncio.gather(run.run(), leg.press("7", after_s=0.5))
        assert world.players.heard[0][2] == SAID_S
        assert run.variables.get("voipbin.call.digits") == "7"

    run_virtually(act())


def test_async_talk_does_not_hold_up_the_flow_and_two_talks_do_not_mix() -> None:
    async def act() -> None:
        world = World()
        flow = [step("talk", text="behind", **{"async": True}), step("sleep", duration=500), step("talk", text="then")]
        await world.done(flow)
        assert [(begun, ended) for _, begun, ended, _ in world.players.heard] == [(0, SAID_S), (SAID_S, 2 * SAID_S)]

    run_virtually(act())


def digits(flow_option: dict[str, Any], pressed: str, *, syntax: str = "voipbin") -> tuple[str, float, list[Any]]:
    async def act() -> tuple[str, float, list[Any]]:
        world = World()
        leg = world.leg()
        kind = {"type": "COLLECT", "name": "pin", "params": flow_option}
        run = world.run([kind] if syntax == "voxology" else [step("digits_receive", **flow_option)], leg)
        presses = asyncio.ensure_future(leg.press(pressed, after_s=1, between_s=1))
        await run.run()
        ended = now()
        presses.cancel()
        await asyncio.gather(presses, return_exceptions=True)
        return run.variables.get("voipbin.call.digits"), ended, run.key_presses

    return run_virtually(act())


def test_digits_receive_ends_at_length_key_or_time() -> None:
    assert digits({"duration": 60_000, "length": 3}, "12345")[:2] == ("123", 3)
    assert digits({"duration": 60_000, "key": "#"}, "12#45")[:2] == ("12#", 3)
    assert digits({"duration": 2500, "length": 9}, "12345")[:2] == ("12", 2.5)
    assert digits({"duration": 60_000}, "12345")[:2] == ("1", 1)
    assert digits({"duration": 500, "length": 2}, "12345")[:2] == ("", 0.5)
    assert digits({"duration": 60_000, "key": "*#", "length": 5}, "1*2")[:2] == ("1*", 2)


def test_collect_waits_again_for_each_digit_and_does_not_keep_the_one_that_ends_it() -> None:
    collected = digits({"timeout": 1500, "num_digits": 3}, "123", syntax="voxology")
    assert collected == ("123", 3, [{"name": "pin", "digits": "123"}])
    assert digits({"timeout": 1500, "finish_on_key": "pound"}, "12#", syntax="voxology")[:2] == ("12", 3)
    assert digits({"timeout": 700, "num_digits": 3}, "1", syntax="voxology")[:2] == ("", 0.7)


def test_collect_s_prompts_end_at_the_first_key() -> None:
    async def act() -> None:
        world = World()
        leg = world.leg()
        prompts = [
            {"type": "SAY", "params": {"text": "one", "loop": 3}},
            {"type": "PAUSE", "params": {"duration": 5000}},
            {"type": "SAY", "params": {"text": "two"}},
        ]
        flow = [{"type": "COLLECT", "actions": prompts, "params": {"num_digits": 1}}]
        run = world.run(flow, leg)
        await asyncio.gather(run.run(), leg.press("5", after_s=SAID_S * 3 + 1))
        assert [round(ended - begun, 3) for _, begun, ended, _ in world.players.heard] == [SAID_S] * 3
        assert run.variables.get("keyPresses") == "5"

    run_virtually(act())


@pytest.mark.parametrize(
    ("params", "lasts_s"),
    [
        ({"seconds": 10}, 10),
        ({"seconds": 0.5}, 0.5),
        ({"seconds": "${sessionData.wait}"}, 7),
        ({"duration": 1500}, 1.5),
        ({"duration": "${sessionData.wait}"}, 0.007),
        ({}, 1),
    ],
)
def test_a_pause_lasts_as_long_as_it_says(params: dict[str, Any], lasts_s: float) -> None:
    async def act() -> None:
        world = World()
        flow = [{"type": "SESSIONDATA", "session_data": {"wait": 7}}, {"type": "PAUSE", "params": params}]
        began = asyncio.get_running_loop().time()
        await world.done(flow)
        assert world.failures() == []
        assert asyncio.get_running_loop().time() - began == pytest.approx(lasts_s)

    run_virtually(act())


def test_digits_are_sent_as_requested() -> None:
    async def act() -> None:
        world = World()
        leg = world.leg()
        await world.done([step("digits_send", digits="1a#", duration=200, interval=0)], leg)
        assert leg.did[-1] == (0, "send_digits", "1A#", 200, 0)

    run_virtually(act())


def test_several_sounds_play_in_order_and_one_that_is_missing_is_left_out() -> None:
    async def act() -> None:
        world = World()
        await world.done([step("play", stream_urls=["http://x/a", "http://x/missing", "http://x/b"])])
        assert [heard[3] for heard in world.players.heard] == [b"a", b"b"]
        assert world.failures() == [(0, "failed: http://x/missing is not there")]

    run_virtually(act())


def test_ssml_is_said_as_plain_text() -> None:
    assert plain_text("<speak>Tom &amp; <break time='1s'/>Jerry</speak>") == "Tom & Jerry"
    assert plain_text("1 < 2") == "1 < 2"
