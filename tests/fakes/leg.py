"""A leg of which only its state matters: where it is, and whether it has ended."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field


@dataclass(eq=False)
class StandInLeg:
    """Stands in for a `bridge.control.leg.Leg`."""

    id: str
    name: str = "PJSIP/1-1"
    bridge_id: str | None = "b"
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    departure: str = "the call ended"
