"""Runs of one bridge with one PBX in memory, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bridge.access import CONFIGURATION
from bridge.app.application import Application
from bridge.calls.addresses import Address
from bridge.config import Config
from bridge.control.outbound_calls import OriginateRequest
from bridge.flows.syntax import parse
from tests.fakes.pbx import FakePbx
from tests.waiting import until

CALLING = {"context": "media-tap"}


class Runs:
    """The runs of one bridge.

    Args:
        folder: where its state is.
        sections: of its configuration.
    """

    def __init__(self, folder: Path, sections: Mapping[str, Any]) -> None:
        self.pbx = FakePbx()
        self.folder = folder
        self.sections = sections
        self.now: Application | None = None

    @property
    def app(self) -> Application:
        assert self.now is not None
        return self.now

    async def start(self) -> None:
        values = {
            "http": {"port": 0, "authentication": False},
            "audiosocket": {"bind_port": 0},
            "audit": {"output": "off"},
            "calling": CALLING,
            "streams": {"state_file": str(self.folder / "state.sqlite3")},
            **self.sections,
        }
        self.now = Application(Config.model_validate(values))
        await self.now.start()
        await until(lambda: self.app.synchronized)

    async def crash(self) -> None:
        """End the run; nothing that it does from now on reaches the PBX or the disk."""
        await self.app.journal.freeze()
        self.app.client.allow_only(lambda _: False)
        await self.stop()

    async def stop(self) -> None:
        async with asyncio.timeout(20):  # whatever a flow does
            await self.app.stop()
        self.pbx.clients.clear()
        self.now = None

    async def originate(self, *actions: Any, **request: Any) -> str:
        """Originate a call to 1001 and have it answered; return its id."""
        wanted = OriginateRequest([Address("extension", "1001")], CONFIGURATION, **request)
        if actions:
            originated = await self.app.calling.flow_manager.originate(wanted, parse(list(actions)), {"a": "b"})
        else:
            originated = await self.app.calling.outbound_calls.originate(wanted)
        return originated.calls[0].id

    def record(self, call_id: str) -> Any:
        return self.app.records.get(call_id)

    async def at(self, call_id: str, action: str) -> None:
        """Wait until the flow of a call is at an action."""
        await until(lambda: self._action_of(call_id) == action)

    def _action_of(self, call_id: str) -> object:
        record = self.record(call_id)
        return (record.action or {}).get("type") if record is not None else None
