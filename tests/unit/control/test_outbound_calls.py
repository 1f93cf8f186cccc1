"""The calls of one request: simultaneous, the first that answers, one after the other; held when they are answered."""

from typing import Any

import pytest

from bridge.calls.addresses import Address
from bridge.control.outbound_calls import OriginateRequest
from bridge.errors import AriError, Overloaded
from tests.fakes.virtual_time import now, pass_time, run_virtually
from tests.unit.flows.world import TOKEN, World


def request(*targets: str, **keys: Any) -> OriginateRequest:
    return OriginateRequest([Address("extension", target) for target in targets], TOKEN, **keys)


class Answers:
    """The legs that were handed over."""

    def __init__(self) -> None:
        self.got: list[tuple[float, str, str]] = []

    def __call__(self, leg: Any, destination: Address) -> None:
        self.got.append((now(), leg.id, destination.target))


def test_every_call_that_is_answered_is_handed_over() -> None:
    async def act() -> None:
        world, answers = World(), Answers()
        world.originator.outcomes = {"1002": (5, "busy"), "1003": (2, "")}
        originated = await world.outbound_calls.originate(request("1001", "1002", "1003", flow_id="f"), answers)
        assert [(each.status, each.flow_id) for each in originated.calls] == [("dialing", "f")] * 3
        assert not originated.groupcalls
        await pass_time(100)
        ids = [each.id for each in originated.calls]
        assert answers.got == [(1, ids[0], "1001"), (2, ids[2], "1003")]

    run_virtually(act())


def test_the_first_answer_wins_and_the_others_are_canceled() -> None:
    async def act() -> None:
        world, answers = World(), Answers()
        world.originator.outcomes = {"slow": (20, ""), "quick": (3, ""), "same": (3, ""), "busy": (1, "busy")}
        wanted = request("slow", "busy", "quick", "same", answer_method="hangup_others")
        originated = await world.outbound_calls.originate(wanted, answers)
        (group,) = originated.groupcalls
        assert [record.groupcall_id for record in originated.calls] == [group.id] * 4
        await pass_time(100)
        ((_, winner, target),) = answers.got
        assert (group.answer_call_id, target in ("quick", "same")) == (winner, True)
        assert world.outbound_calls.group(group.id) is group
        canceled = {call.id: call.cancelled_at for call in world.originator.rung if call.cancelled_at is not None}
        busy = originated.calls[1].id
        assert canceled == {each: 3 for each in group.call_ids if each not in (winner, busy)}

    run_virtually(act())


def test_one_after_the_other() -> None:
    async def act() -> None:
        world, answers = World(), Answers()
        world.originator.outcomes = {"a": (10, "noanswer"), "b": (2, "busy"), "c": (1, "")}
        originated = await world.outbound_calls.originate(request("a", "b", "c", "d", ring_method="linear"), answers)
        assert len(originated.calls) == 1
        await pass_time(100)
        assert [at for at, _, _ in world.originator.asked] == [0, 10, 12]
        assert {how["token"] for _, _, how in world.originator.asked} == {TOKEN.id}, "counted as its calls"
        (group,) = originated.groupcalls
        assert group.call_ids == [call.id for call in world.originator.rung]
        assert answers.got == [(13, group.answer_call_id, "c")]

    run_virtually(act())


def test_all_or_nothing() -> None:
    async def act() -> None:
        world, answers = World(), Answers()
        world.originator.limit = 2
        for how in ("none", "hangup_others"):
            world.originator.rung.clear()
            with pytest.raises(Overloaded):
                await world.outbound_calls.originate(request("1", "2", "3", answer_method=how), answers)
            assert [call.cancelled_at for call in world.originator.rung] == [0, 0]
        await pass_time(100)
        assert answers.got == []

    run_virtually(act())


def test_a_destination_that_cannot_be_dialed_is_refused_before_anything_rings() -> None:
    async def act() -> None:
        world = World()
        for wrong, reason in (
            (request("1001", "bad"), r"destinations\[1\]: cannot be dialed"),
            (request(), "destinations: expected at least one"),
        ):
            with pytest.raises(ValueError, match=reason):
                await world.outbound_calls.originate(wrong)
        assert world.originator.rung == []

    run_virtually(act())


def test_a_call_that_nothing_takes_over_is_held_until_it_has_lasted_long_enough() -> None:
    async def act() -> None:
        world = World()
        await world.outbound_calls.originate(request("1001", max_call_s=30))
        await pass_time(100)
        assert world.originator.rung[0].leg.did == [(1, "hold_in_bridge"), (31, "hang_up", "normal", "timeout")]

    run_virtually(act())


def test_a_call_that_cannot_be_held_is_hung_up() -> None:
    async def act() -> None:
        world = World()

        async def broken(*_: Any) -> str:
            raise AriError(500, "POST", "/bridges", "no")

        await world.outbound_calls.originate(request("1001"))
        leg = world.originator.rung[0].leg
        leg.hold_in_bridge = broken  # type: ignore[method-assign]
        await pass_time(100)
        assert leg.did == [(1, "hang_up", "normal", "failed")]

    run_virtually(act())


def test_close_hangs_up_nothing() -> None:
    async def act() -> None:
        world, answers = World(), Answers()
        world.originator.outcomes = {"slow": (500, "")}
        await world.outbound_calls.originate(request("slow"), answers)
        await world.outbound_calls.originate(request("1001"))
        await pass_time(5)
        before = now()
        await world.outbound_calls.close()
        assert (now(), answers.got) == (before, [])
        assert not world.originator.rung[1].leg.gone.is_set()

    run_virtually(act())
