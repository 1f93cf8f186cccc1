"""Conferences that another worker of the same installation has created; legs of this process can join them.

ARI lets a channel of any application enter a bridge, whichever application created it (seen on 22.10.1). The worker
that created the conference lists, mutes and ends it; the one with the leg waits until the leg has left.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping

from msgspec import Struct

from bridge.conferences.model import Left
from bridge.control.leg import Leg, LegEnded
from bridge.errors import BridgeError

HANGUP_SHOWS_S = 0.5
"""Time to wait for the end of a channel that left its bridge, in seconds: a hangup removes it from the bridge first."""


async def _nobody(_: str) -> str | None:
    return None


class RemoteConferences(Struct):
    """The conferences of other workers; by default there are none.

    Args:
        find: returns the bridge of another worker's conference, by the conference's id.
        make: has the responsible worker create a conference; returns its bridge, or None if this process is
            responsible.
        has_leg: whether another worker controls a channel: a conference that releases the channel does not hang it up.
        on_own: called with the conferences of this process, and their bridges.
    """

    find: Callable[[str], str | None] = lambda _: None
    make: Callable[[str], Awaitable[str | None]] = _nobody
    has_leg: Callable[[str], bool] = lambda _: False
    on_own: Callable[[Mapping[str, str]], object] = lambda _: None

    def has(self, conference_id: str) -> bool:
        """Return whether another worker has created a conference."""
        return self.find(conference_id) is not None

    async def join(self, leg: Leg, bridge_id: str, *, muted: bool) -> Left:
        """Add a leg, and return when it has left; raise the same exceptions as `Conferences.join`."""
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
            raise LegEnded(f"channel {leg.id} has ended")
        return "left"
