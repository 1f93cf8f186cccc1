"""Fixtures: one victim at a time, kept from test to test as long as it is whole."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.testing.lab_engine import Lab
from tests.attack.victim import Victim


class Victims:
    """Starts a victim when there is none of the wanted kind."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._lab = lab
        self._folder = folder
        self._victim: Victim | None = None

    async def get(self, workers: int) -> Victim:
        """Return a whole victim with this number of workers."""
        if self._victim is not None and (self._victim.workers != workers or not self._victim.whole):
            await self.end()
        if self._victim is None:
            self._victim = Victim(self._lab, self._folder, workers)
            await self._victim.start()
        return self._victim

    async def end(self) -> float:
        """End the victim; return how many seconds that took."""
        victim, self._victim = self._victim, None
        return await victim.stop() if victim is not None else 0.0


@pytest.fixture(scope="module")
async def victims(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Victims]:
    """The place of the victim. Calls to +600 reach Asterisk's own echo."""
    if lab.name != "embedded":
        pytest.skip("the bridge under attack is a process beside the embedded lab, not a container")
    for priority, application in ((1, "Answer()"), (2, "Echo()")):
        await lab.cli(f"dialplan add extension +600,{priority},{application} into from-internal")
    victims = Victims(lab, tmp_path_factory.mktemp("victim"))
    yield victims
    await victims.end()
    await lab.cli("dialplan remove extension +600@from-internal")
