"""Conferences that another worker of the same bridge has made: legs of ours take part in them all the same.

ARI lets a channel of any application into a bridge, whichever application made it (seen on 22.10.1). The worker that
made the conference shows it, mutes and ends it; the one that has the leg waits until the leg has left it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from bridge.conferences.model import Left
from bridge.control.leg import Leg, LegGone
from bridge.errors import BridgeError

HANGUP_SHOWS_S = 0.5
"""A channel that hangs up leaves its bridge first: so long we wait for the news before taking it for moved."""


async def _nobody(_: str) -> str | None:
    return None


@dataclass
class RemoteConferences:
    """What is known of them; as it is, there are none.

    Args:
        find: the bridge of another worker's conference, by the conference's id.
        make: have whoever is to make a conference of this id do it; answers its bridge, or None: it is us.
        has_leg: whether another worker controls a channel: it is not hung up then when a conference lets it go.
        on_own: told which conferences we have made, and their bridges.
    """

    find: Callable[[str], str | None] = lambda _: None
    make: Callable[[str], Awaitable[str | None]] = _nobody
    has_leg: Callable[[str], bool] = lambda _: False
    on_own: Callable[[Mapping[str, str]], object] = lambda _: None

    def has(self, conference_id: str) -> bool:
        """Whether another worker has made it."""
        return self.find(conference_id) is not None

    async def join(self, leg: Leg, bridge_id: str, *, muted: bool) -> Left:
        """Have a leg take part until it no longer does; raises as `Conferences.join`."""
        await leg.answer()
        if muted:
            await leg.mute("in")
        try:
            await leg.move_to(bridge_id)
            await leg.left(bridge_id)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HANGUP_SHOWS_S):
                    await leg.gone.wait()
        finally:
            with contextlib.suppress(BridgeError):
                if leg.bridge_id == bridge_id:
                    await leg.leave_bridge()
                if muted and not leg.gone.is_set():
                    await leg.unmute("in")
        if leg.gone.is_set():
            raise LegGone(f"channel {leg.id} has ended")
        return "left"
