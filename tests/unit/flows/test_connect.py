"""``connect``: who rings, who is connected, what the caller hears, and that nobody rings on."""

import asyncio
from typing import Any

from bridge.access import Grant, Principal
from bridge.calls.addresses import Address
from bridge.flows.interpreter import Run
from bridge.flows.syntax import parse
from bridge.flows.variables import MAX_TOTAL_BYTES, Variables
from bridge.patterns import Patterns
from tests.fakes.virtual_time import now, pass_time, run_virtually
from tests.unit.flows.fake_legs import FakePlayer
from tests.unit.flows.world import World, step


def to(*targets: str) -> list[dict[str, str]]:
    return [{"type": "extension", "target": target} for target in targets]


def connect(*targets: str, **option: Any) -> dict[str, Any]:
    return step("connect", destinations=to(*targets), **option)


def test_the_first_answer_wins_and_the_others_stop_ringing() -> None:
    async def act() -> None:
        world = World()
        world.originator.outcomes = {"slow": (20, ""), "quick": (3, ""), "busy": (1, "busy")}
        leg = world.leg()
        run = world.run([connect("slow", "quick", "busy"), step("talk", text="after")], leg)
        running = asyncio.ensure_future(run.run())
        await pass_time(4)
        slow, winner, _ = world.originator.rung
        assert slow.cancelled_at == 3
        assert winner.cancelled_at is None
        assert winner.leg.bridge_id == leg.bridge_id
        assert (3, "transfer_joined", winner.id) in world.streams.did
        assert run.variables.get("connect.call_id") == winner.id
        winner.leg.leave()
        await running
        assert (4, "transfer_left") in world.streams.did
        assert world.speech.said[0].text == "after"
        assert run.variables.get("connect.reason") == "normal"

    run_virtually(act())


def test_an_answered_caller_hears_ringing_until_the_answer() -> None:
    async def act() -> None:
        world = World()
        world.originator.outcomes = {"1001": (9, "noanswer")}
        await world.done([connect("1001")])
        assert world.players.heard[0][1] == 0
        assert world.players.heard[-1][2] == 9
        assert all(player.closed for player in world.players.made)

    run_virtually(act())


def test_a_caller_who_is_not_answered_gets_the_ringing_signaled_and_is_answered_with_the_partner() -> None:
    async def act() -> None:
        world = World()
        world.originator.outcomes = {"1001": (5, ""), "nobody": (5, "noanswer")}
        leg = world.leg(answered=False)
        running = asyncio.ensure_future(world.run([connect("1001")], leg).run())
        await pass_time(4)
        assert leg.did == [(0, "ring")]
        assert not leg.answered
        await pass_time(2)
        assert leg.did[1:] == [(5, "ring_stop"), (5, "hold_in_bridge")]
        leg.leave()
        await running
        assert world.originator.rung[0].leg.gone.is_set()

    run_virtually(act())


def test_nobody_answers_the_flow_goes_on_and_knows_why() -> None:
    async def act() -> None:
        world = World()
        world.originator.outcomes = {"a": (2, "busy"), "b": (9, "noanswer")}
        run, end = await world.done([connect("a", "b"), step("talk", text="sorry")])
        assert now() == 11
        assert run.variables.get("connect.reason") == "busy", "the first destination's"
        assert run.variables.get("connect.call_id") == ""
        assert end.reason == "the last action was done"

    run_virtually(act())


def test_relay_reason_hangs_up_with_the_reason() -> None:
    async def act() -> None:
        world = World()
        world.originator.outcomes = {"a": (2, "busy")}
        leg = world.leg(answered=False)
        _, end = await world.done([connect("a", relay_reason=True), step("talk", text="never")], leg)
        assert leg.did[-1] == (2, "hang_up", "busy", "busy")
        assert end.reason == "hung up: busy"
        assert world.speech.said == []

    run_virtually(act())


def test_what_cannot_be_called_is_a_failed_call_and_the_others_ring() -> None:
    async def act() -> None:
        world = World()
        run, _ = await world.done([connect("bad")])
        assert run.variables.get("connect.reason") == "failed"
        leg = world.leg("call-2")
        running = asyncio.ensure_future(world.run([connect("bad", "good")], leg).run())
        await pass_time(2)
        assert world.originator.rung[0].leg.bridge_id == leg.bridge_id
        leg.leave()
        await running

    run_virtually(act())


def test_a_caller_id_that_is_not_allowed_is_a_failed_call_unless_it_is_the_callers_own() -> None:
    async def act() -> None:
        world = World()
        forged = {"type": "tel", "target": "forged"}
        run, _ = await world.done([connect("1001", source=forged)])
        assert run.variables.get("connect.reason") == "failed"
        assert not world.originator.rung

        leg = world.leg("call-2")
        world.records.originated("call-2", source=Address("tel", "forged"), destination=Address("extension", "1"))
        running = asyncio.ensure_future(world.run([connect("1001", source=forged)], leg).run())
        await pass_time(2)
        assert world.originator.rung, "a flow may pass on the number of its caller"
        leg.leave()
        await running

    run_virtually(act())


def test_own_actions_show_only_numbers_that_the_token_may_show() -> None:
    async def act() -> None:
        world = World()
        few = Principal("few", grant=Grant("few", caller_ids=Patterns(["+4989*"])))
        for flow_id, number, rings in (("", "+4930222", 0), ("", "+49891", 1), ("configured", "+4930222", 1)):
            flow = [connect("1001", source={"type": "tel", "target": number})]
            leg, before = world.leg(f"call-{flow_id}-{number}"), len(world.originator.rung)
            run = Run(
                leg,  # type: ignore[arg-type]
                parse(flow),
                principal=few,
                services=world.services,
                flows=world.flow_manager(),
                variables=Variables({}),
                flow_id=flow_id,
            )
            running = asyncio.ensure_future(run.run())
            await pass_time(2)
            assert len(world.originator.rung) - before == rings
            leg.leave()
            await running

    run_virtually(act())


def test_a_caller_who_leaves_while_it_rings_leaves_nobody_ringing() -> None:
    async def act() -> None:
        world = World()
        world.originator.outcomes = {"a": (60, ""), "b": (60, "")}
        leg = world.leg()
        asyncio.get_running_loop().call_later(5, leg.leave)
        await world.run([connect("a", "b")], leg).run()
        assert [ringing.cancelled_at for ringing in world.originator.rung] == [5, 5]

    run_virtually(act())


def test_a_caller_who_leaves_while_a_call_is_being_placed_leaves_nobody_ringing() -> None:
    async def act() -> None:
        world = World()
        leg = world.leg()
        place = world.originator.originate

        async def slowly(*args: Any, **how: Any) -> Any:
            await pass_time(2)
            return await place(*args, **how)

        world.originator.originate = slowly  # type: ignore[method-assign]
        asyncio.get_running_loop().call_later(1, leg.leave)
        await world.run([connect("a")], leg).run()
        assert [ringing.cancelled_at for ringing in world.originator.rung] == [2]

    run_virtually(act())


def test_a_caller_who_leaves_when_one_has_just_answered_leaves_nobody_ringing(monkeypatch: Any) -> None:
    close = FakePlayer.close

    async def slowly(player: FakePlayer) -> None:
        await pass_time(1)
        await close(player)

    monkeypatch.setattr(FakePlayer, "close", slowly)

    async def act() -> None:
        world = World()
        world.originator.outcomes = {"slow": (20, ""), "quick": (3, "")}
        leg = world.leg()
        asyncio.get_running_loop().call_later(3.5, leg.leave)  # the ringing tone is just being taken away
        await world.run([connect("slow", "quick")], leg).run()
        slow, winner = world.originator.rung
        assert slow.cancelled_at is not None
        assert winner.leg.gone.is_set()
        assert all(player.closed for player in world.players.made)

    run_virtually(act())


def test_a_flow_that_has_no_room_for_more_variables_leaves_nobody_waiting() -> None:
    async def act() -> None:
        world = World()
        leg = world.leg()
        run = world.run([connect("a")], leg)
        run.variables.set("connect.call_id", "")
        for number in range(8):
            run.variables.set(f"large{number}", "x" * (MAX_TOTAL_BYTES // 8 - len("large0") - 2))
        await run.run()
        assert world.originator.rung[0].leg.gone.is_set()

    run_virtually(act())


def test_source_and_early_media_are_passed_on() -> None:
    async def act() -> None:
        world = World()
        world.originator.outcomes = {"1001": (1, "busy")}
        leg = world.leg()
        flow = connect("1001", source={"type": "tel", "target": "+49"}, early_media=True, anonymous="yes", timeout=7)
        await world.done([flow], leg)
        _, _, how = world.originator.asked[0]
        assert how["source"].target == "+49"
        assert how["early_media_bridge"] == leg.bridge_id
        assert (how["anonymous"], how["timeout_s"], how["originator"]) == (True, 7, leg.id)
        assert world.players.heard == [], "the other side is heard instead"

    run_virtually(act())
