"""The steps between a connect to Asterisk and the time from which calls are served, on the fake PBX."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from bridge.app.synchronization import Synchronization
from bridge.control.sensitive import SensitiveMode
from tests.fakes.virtual_time import settle
from tests.unit.control.house import CallingHouse


async def _nobody() -> None:
    """Query no other instance."""


class Connecting(CallingHouse):
    """A house that is about to connect to its PBX."""

    def __init__(self) -> None:
        super().__init__()
        self.client.disconnect()
        self.settled_when_resuming: list[bool] = []
        self.synchronization = Synchronization(
            self.client,
            tracker=self.tracker,
            stasis=self.stasis,
            sensitive=cast(SensitiveMode, SimpleNamespace(ask_others=_nobody)),
            recordings=self.recordings,
            ids=self.ids,
            in_use=lambda: (),
            resume=self._resume,
        )

    async def _resume(self) -> None:
        self.settled_when_resuming.append(self.synchronization.settled.is_set())


@pytest.mark.parametrize("waiting", [True, False])
async def test_what_calls_need_is_loaded_when_calls_wait_or_can_come(waiting: bool) -> None:
    house = Connecting()
    if waiting:
        house.pbx.call("1001", "600")
    assert not house.synchronization.settled.is_set()
    house.client.connect()
    await settle()
    assert house.settled_when_resuming == [waiting]
    assert house.synchronization.synchronized
    assert house.synchronization.settled.is_set()
    await house.synchronization.stop()
