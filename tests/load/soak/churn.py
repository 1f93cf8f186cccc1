"""Short calls of every kind, a few of each at a time, ended at random moments from either side."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from bridge.testing.bridge_program import BridgeProgram
from bridge.testing.embedded import EmbeddedLab
from tests.lab.sipp import Sipp

MOST_S = 4.0
"""How long a call lasts at most once it is answered."""
PATIENCE_S = 60.0
FAR = "5559100"
"""A number at the trunk's far end that is hung up after a while."""
IN_ONE_RUN = 20
"""Calls of each start of SIPp."""


def sections(url: str) -> dict[str, Any]:
    """Return the sections of the configuration that stream short calls to an application."""
    return {
        "dialplan": [
            {"id": "agent", "match": "750", "url": f"{url}/short/agent", "dialect": "twilio", "then": "hangup"}
        ],
        "subscriptions": [
            {"id": "observed", "url": f"{url}/short/observed", "dialect": "yeastar", "extensions": ["1004"]}
        ],
    }


def flows(url: str) -> list[list[dict[str, Any]]]:
    """Return flows for originated calls."""
    media = {"url": f"{url}/short/flow", "encapsulation": "rtp", "direction_listen": "both"}
    return [
        [{"type": "talk", "option": {"text": "This sentence is seldom heard to its end.", "language": "en-US"}}],
        [{"type": "CONFERENCE", "params": {"name": "soak"}}],
        [
            {
                "type": "connect",
                "option": {
                    "source": {"type": "tel", "target": "4711"},
                    "destinations": [{"type": "tel", "target": FAR}],
                },
            }
        ],
        [{"type": "external_media_start", "option": media}],
    ]


class Churn:
    """The short calls; they begin with `running`.

    Args:
        folder: for SIPp's files.
        url: of the application.
        places: how many calls are up or in preparation at a time.
        chance: decides what is made, and when it ends.
    """

    def __init__(
        self, lab: EmbeddedLab, program: BridgeProgram, folder: Path, url: str, *, places: int, chance: random.Random
    ) -> None:
        self.originated = 0
        """How many calls have been originated over the API."""
        self.problems: list[str] = []
        """Requests that had another result than they must have."""
        self._program = program
        self._sipp = Sipp(lab, folder)
        self._flows = flows(url)
        self._chance = chance
        self._places = places

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Make calls meanwhile; at the end those that are up run out.

        Raises:
            BaseExceptionGroup: a part of it failed.
        """
        each = max(1, self._places // 4)
        ending = asyncio.Event()

        async def repeat(make: Callable[[], Awaitable[None]]) -> None:
            while not ending.is_set():
                await make()

        sipp = self._sipp
        async with asyncio.TaskGroup() as group:
            kinds: list[Callable[[], Awaitable[None]]] = [
                lambda: sipp.call("750", IN_ONE_RUN, at_once=each, most_s=MOST_S),
                lambda: sipp.call(f"9{FAR}", IN_ONE_RUN, at_once=each, most_s=MOST_S),
                lambda: sipp.call("602", IN_ONE_RUN, at_once=1, most_s=MOST_S / 4, cancels=True),
                *[self._originate] * each,
            ]
            for make in kinds:
                group.create_task(repeat(make))
            try:
                yield
            finally:
                ending.set()

    async def _originate(self) -> None:
        """Create a call with a flow; half of them are hung up by request, unless the far side is quicker."""
        body = {
            "source": {"type": "tel", "target": "4711"},
            "destinations": [{"type": "tel", "target": FAR}],
            "actions": self._chance.choice(self._flows),
        }
        status, answer = await self._program.request("POST", "/v1.0/calls", body)
        if status != 200:
            self.problems.append(f"POST /v1.0/calls: {status} {answer}")
            await asyncio.sleep(1)
            return
        self.originated += 1
        path = f"/v1.0/calls/{answer['calls'][0]['id']}"
        if self._chance.random() < 0.5:
            await asyncio.sleep(self._chance.uniform(0, MOST_S))
            status, answer = await self._program.request("POST", f"{path}/hangup")
            if status not in (200, 404, 409):
                self.problems.append(f"POST {path}/hangup: {status} {answer}")
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not await self._ended(path):
                    await asyncio.sleep(0.3)
        except TimeoutError:
            self.problems.append(f"{path} has not ended within {PATIENCE_S:g} s")

    async def _ended(self, path: str) -> bool:
        status, call = await self._program.request("GET", path)
        return bool(status == 404 or call["status"] == "hangup")
