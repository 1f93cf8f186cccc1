"""What a flow has set can be read: in its call, in the event of its end, and as it changes."""

from __future__ import annotations

from typing import Any

from bridge.calls.addresses import Address
from bridge.control.outbound_calls import OriginateRequest
from bridge.flows.manager import FlowManager
from bridge.flows.syntax import parse
from tests.fakes.virtual_time import pass_time, run_virtually
from tests.unit.flows.world import TOKEN, World, step


async def originate(manager: FlowManager, *steps: dict[str, Any], variables: dict[str, str] | None = None) -> None:
    request = OriginateRequest([Address("extension", "1001")], principal=TOKEN)
    await manager.originate(request, parse(list(steps)), variables)


async def settle(world: World, manager: FlowManager) -> None:
    await pass_time(100)
    await world.close(manager)


def variable(key: str, value: str) -> dict[str, Any]:
    return step("variable_set", key=key, value=value)


def test_the_outcome_of_a_flow_is_in_its_call_and_in_its_events() -> None:
    async def act() -> None:
        world = World()
        manager = world.flow_manager()
        steps = variable("answer", "confirmed"), step("sleep", duration=10_000), variable("answer", "late")
        await originate(manager, *steps, variables={"who": "Alice"})
        await pass_time(5)
        record = world.records.get("placed-1")
        assert record is not None
        assert record.variables == {"who": "Alice", "answer": "confirmed"}
        updates = [data.get("variables") for data in world.told("call_updated")]
        assert {"who": "Alice", "answer": "confirmed"} in updates
        await settle(world, manager)
        assert world.told("flow_ended")[0]["variables"] == {"who": "Alice", "answer": "late"}
        assert record.variables == {"who": "Alice", "answer": "late"}

    run_virtually(act())


def test_digits_and_what_is_set_in_sensitive_mode_are_not_shown() -> None:
    async def act() -> None:
        world = World()
        manager = world.flow_manager()
        await originate(
            manager,
            variable("card", "none"),
            step("digits_receive", length=4, duration=5000),
            step("sleep", duration=1000),
            variable("card", "${voipbin.call.digits}"),
            step("sleep", duration=1000),
            variable("done", "yes"),
        )
        await pass_time(2)
        leg = world.originator.rung[0].leg
        for digit in "4711":
            leg.digits.put(digit)
        world.sensitive.covered.add(leg.id)
        await pass_time(1.5)
        world.sensitive.covered.clear()
        await settle(world, manager)
        (ended,) = world.told("flow_ended")
        assert ended["variables"] == {"done": "yes"}

    run_virtually(act())
