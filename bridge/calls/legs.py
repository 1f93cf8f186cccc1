"""Legs: channels in our Stasis application that we control."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal

from bridge.ari.client import AriClient
from bridge.ari.model import Channel
from bridge.calls.ids import OwnIds
from bridge.calls.keys import Keys
from bridge.errors import BridgeError

__all__ = ["Keys", "Leg", "LegGone", "Legs"]

Direction = Literal["in", "out", "both"]


class LegGone(BridgeError):
    """The channel has ended, or has left our application: nothing can be done with it any more."""


class Leg:
    """One channel that we control. Awaiting methods raise `LegGone` when it ends, AriError if Asterisk fails."""

    id: str
    name: str
    """Its channel's name: ``PJSIP/1001-0000002a``."""
    answered: bool
    gone: asyncio.Event
    cause: int
    """Q.850 cause of its end; 0 before, and if it left for the dialplan."""
    bridge_id: str | None
    """The bridge that it is in now: its own, a partner's, a conference's."""
    keys: Keys

    async def answer(self) -> None:
        """Answer it; one that is answered already stays so."""
        raise NotImplementedError

    async def hold_in_bridge(self) -> str:
        """Answer it and put it into a mixing bridge of its own, if it is in none; returns the bridge's id."""
        raise NotImplementedError

    async def move_to(self, bridge_id: str) -> None:
        """Leave the bridge that it is in and join another: a conference, its partner's."""
        raise NotImplementedError

    async def leave_bridge(self) -> None:
        """Leave the bridge that it is in."""
        raise NotImplementedError

    async def hang_up(self, reason: str = "normal") -> None:
        """End it; returns when it has ended. ``reason``: ``normal``, ``busy``, ``congestion``, ``no_answer``..."""
        raise NotImplementedError

    async def ring(self) -> None:
        """Tell a caller that is not answered that it rings."""
        raise NotImplementedError

    async def ring_stop(self) -> None:
        raise NotImplementedError

    async def send_digits(self, digits: str, *, duration_ms: int | None = None, between_ms: int | None = None) -> None:
        """Press keys on it; returns when they have sounded."""
        raise NotImplementedError

    async def mute(self, direction: Direction = "in") -> None:
        """``in``: what the party says is not heard; ``out``: the party hears nothing."""
        raise NotImplementedError

    async def unmute(self, direction: Direction = "both") -> None:
        raise NotImplementedError

    async def hold(self) -> None:
        raise NotImplementedError

    async def unhold(self) -> None:
        raise NotImplementedError

    async def silence(self, on: bool) -> None:
        raise NotImplementedError

    async def moh(self, on: bool, music_class: str = "") -> None:
        raise NotImplementedError

    async def continue_in_dialplan(
        self, context: str | None = None, extension: str | None = None, priority: int | None = None
    ) -> None:
        """Let it go on in the dialplan; the leg is gone then."""
        raise NotImplementedError

    async def excursion(self, extension: str, variables: Mapping[str, str] | None = None) -> None:
        """Send it to an extension of ``calling.context`` and wait until the dialplan brings it back."""
        raise NotImplementedError

    async def play_media(self, uri: str) -> None:
        """Have Asterisk play ``sound:...``, ``tone:...``, ``digits:...`` to it; returns when that has been played."""
        raise NotImplementedError

    async def get_variable(self, name: str) -> str:
        """A channel variable or function; empty if it is not set."""
        raise NotImplementedError

    async def set_variable(self, name: str, value: str) -> None:
        raise NotImplementedError


class Legs:
    """All legs."""

    claim: Callable[[Channel, Sequence[str]], bool]
    """Asked about each call that enters our application, with Stasis()'s arguments: is it for a flow?"""
    on_claimed: Callable[[Leg, Sequence[str]], object]
    """Told of each call that was claimed."""
    on_moved: Callable[[str], object]
    """Told of each channel that is in another bridge now, or in none: streams follow it."""

    def __init__(self, client: AriClient, ids: OwnIds, *, context: str = "") -> None:
        raise NotImplementedError

    @property
    def object_ids(self) -> Collection[str]:
        """Ids of all bridges and placed channels in use."""
        raise NotImplementedError

    def get(self, channel_id: str) -> Leg | None:
        """The leg of a channel; None if it is not ours to control (or not yet taken)."""
        raise NotImplementedError

    def take(self, channel_id: str) -> Leg | None:
        """Control a call that is held in our application; None if there is none of that id."""
        raise NotImplementedError

    async def bridge_together(self, leg: Leg, other: Leg) -> Partners:
        """Put ``other`` into the bridge of ``leg``: they hear each other."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Hang up placed calls, let the others go on in the dialplan, and delete our bridges."""
        raise NotImplementedError


class Partners:
    """Two legs in one bridge."""

    async def parted(self) -> Leg:
        """Wait until one of them is gone or has left the bridge; returns which."""
        raise NotImplementedError
