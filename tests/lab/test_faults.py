"""Every fault of the table, with calls up: what is promised holds, and what was measured can be written for the table.

``FAULT_CALLS`` is the number of calls (4; the table's are measured with 10), ``FAULT_ROWS`` a file that gets the rows.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path

import pytest

from bridge.testing.embedded import EmbeddedLab
from bridge.testing.lab_engine import Lab
from tests.lab.faults import FAULTS, Row, suffer
from tests.lab.house import House, open_house

CALLS = int(os.environ.get("FAULT_CALLS", "4"))


class Houses:
    """One house at a time, which faults of its kind share."""

    def __init__(self, lab: EmbeddedLab, folder: Path) -> None:
        self._lab = lab
        self._folder = folder
        self._stack = contextlib.AsyncExitStack()
        self._kind = ""
        self._house: House | None = None
        self._built = 0

    async def of(self, kind: str) -> House:
        """Return a house of a kind: the same one as before, if it is still good."""
        if self._house is None or self._kind != kind:
            await self.close()
            self._built += 1
            folder = self._folder / f"{kind}{self._built}"
            self._house = await self._stack.enter_async_context(open_house(self._lab, folder, kind, CALLS))
            self._kind = kind
        return self._house

    async def close(self, *, ruined: bool = False) -> None:
        """Leave it, with nothing left behind unless a fault has ruined it."""
        self._house = None
        with contextlib.suppress(*[AssertionError, TimeoutError] if ruined else []):
            await self._stack.aclose()


@pytest.fixture(scope="module")
async def houses(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Houses]:
    if not isinstance(lab, EmbeddedLab):
        pytest.skip("faults are done to processes of this machine")
    houses = Houses(lab, tmp_path_factory.mktemp("faults"))
    yield houses
    await houses.close()


@pytest.mark.parametrize("name", FAULTS)
async def test_promises_hold(houses: Houses, name: str) -> None:
    house = await houses.of(FAULTS[name].house)
    try:
        row = await suffer(house, name)
    except BaseException:
        await houses.close(ruined=True)
        raise
    print(row)
    write(row)


def write(row: Row) -> None:
    """Add a row to the file that gets them, if there is one."""
    if file := os.environ.get("FAULT_ROWS"):
        with Path(file).open("a") as rows:
            rows.write(json.dumps(asdict(row)) + "\n")
