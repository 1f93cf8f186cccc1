"""Originated calls are admitted like all that is new; those on behalf of a call that is up belong to it."""

from __future__ import annotations

import time

import pytest

from bridge.calls.addresses import Address
from bridge.calls.facts import Naming
from bridge.config.calling import CallingConfig
from bridge.control.dial_policy import DialPolicy
from bridge.control.originate import Originator
from bridge.errors import Overloaded
from bridge.media.call_admission import LATE_OF_MEASURED, CallAdmission
from tests.unit.control.house import House

PHONE = Address("extension", "1002")


async def test_an_overloaded_process_originates_nothing_new_but_serves_its_calls() -> None:
    house, admission, config = House(), CallAdmission(10, late_ms=40), CallingConfig()
    admission.load = lambda: 20
    originator = Originator(
        *(house.client, house.ids, house.legs, house.records, config, DialPolicy(config, Naming(), time.monotonic)),
        admission=admission,
    )
    for turn in range(LATE_OF_MEASURED):
        admission.measured(0.1, 0.1 * turn)
    caller = await house.caller()
    before = len(house.pbx.channels)
    with pytest.raises(Overloaded, match="audio would be late"):
        await originator.originate(PHONE)
    assert len(house.pbx.channels) == before, "no phone rings"
    await originator.originate(PHONE, originator=caller.id)
    assert len(house.pbx.channels) == before + 1, "a call that is up is connected to others as ever"
    await originator.stop()
