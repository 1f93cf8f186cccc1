"""Every attack of the table against a bridge with a call in progress. How a verdict is reached: README.md."""

from __future__ import annotations

import pytest

import tests.attack.attacks  # noqa: F401  fills the table
from tests.attack.attacks.table import ATTACKS, Attack
from tests.attack.conftest import Victims
from tests.attack.victim import END_S

MEASUREMENTS = 6
"""How often a case is measured at most until the machine was quiet enough to judge it."""
CONFIRMED = 2
"""A fault that an attack causes occurs again on a new bridge. One that does not was the machine's: a hypervisor may
take a processor away for 0.1 s.
"""
IN_ORDER = sorted(ATTACKS.values(), key=lambda attack: attack.workers)


@pytest.mark.parametrize("attack", IN_ORDER, ids=lambda attack: attack.name)
async def test_the_call_goes_on(victims: Victims, attack: Attack) -> None:
    faults = 0
    for _ in range(MEASUREMENTS):
        victim = await victims.get(attack.workers)
        verdict = await victim.under(attack)
        print(f"{attack.name}: {verdict}")
        if verdict.faults:
            await victims.end()  # whatever comes next is measured on a new one
        faults += verdict.conclusive and bool(verdict.faults)
        if verdict.conclusive and (not verdict.faults or faults == CONFIRMED):
            break
    assert not verdict.faults, str(verdict)
    assert verdict.conclusive, f"the machine was late too often to tell: {verdict}"
    if attack.ends:
        took = await victim.ends_under(attack)
        assert took < END_S, f"SIGTERM did not end the bridge within {END_S:g} s"


async def test_sigterm_ends_the_bridge_after_all_of_them(victims: Victims) -> None:
    assert await victims.end() < END_S


async def test_every_victim_has_loaded_everything_when_it_is_measured(victims: Victims) -> None:
    """Memory that a start takes later, 20 MB in each process, would count as kept by an attack."""
    for _ in range(2):
        assert (await victims.get(2)).loaded == 2
        await victims.end()
