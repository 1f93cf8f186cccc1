"""Conferences: mixing bridges of our own, and the ConfBridge rooms that the dialplan runs."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bridge.ari.client import AriClient
from bridge.calls.acts import NotOurs
from bridge.calls.ids import OwnIds
from bridge.calls.legs import Leg
from bridge.calls.tap import Place
from bridge.calls.tracker import CallTracker
from bridge.errors import BridgeError

if TYPE_CHECKING:
    from bridge.events.hub import Events

__all__ = ["Conference", "ConferenceExists", "Conferences", "NoSuchConference", "NotOurs", "Participant"]

Kind = Literal["bridge", "confbridge"]
Left = Literal["left", "kicked", "deleted"]


class NoSuchConference(BridgeError):
    """There is no conference, or no participant of it, with this id (404)."""


class ConferenceExists(BridgeError):
    """The id is taken (409)."""


@dataclass(frozen=True, slots=True)
class Participant:
    """Somebody in a conference."""

    channel_id: str
    call_id: str
    name: str
    number: str
    muted: bool
    joined_at: float


@dataclass(frozen=True, slots=True)
class Conference:
    """A conference as it is now."""

    id: str
    name: str
    kind: Kind
    auto_delete: bool
    created_at: float
    participants: tuple[Participant, ...]


class Conferences:
    """All conferences of the PBX."""

    def __init__(
        self, client: AriClient, tracker: CallTracker, ids: OwnIds, events: Events, *, context: str = ""
    ) -> None:
        raise NotImplementedError

    @property
    def object_ids(self) -> Collection[str]:
        """Ids of the bridges in use."""
        raise NotImplementedError

    def get(self, conference_id: str) -> Conference | None:
        """A conference as it is now; None if there is none."""
        raise NotImplementedError

    def list(self) -> list[Conference]:
        """All of them, the oldest first."""
        raise NotImplementedError

    async def create(self, name: str = "", id: str | None = None, *, auto_delete: bool = False) -> Conference:
        """Make a conference of ours. ValueError: a bad id or name; ConferenceExists; AriError."""
        raise NotImplementedError

    async def delete(self, conference_id: str) -> None:
        """End a conference: members are let go (those of a room: hung up). NoSuchConference, AriError."""
        raise NotImplementedError

    async def join(self, leg: Leg, conference_id: str, *, muted: bool = False, create: bool = False) -> Left:
        """Have a leg take part; returns when it no longer does. NoSuchConference, NotOurs, LegGone, AriError."""
        raise NotImplementedError

    async def kick(self, conference_id: str, channel_id: str) -> None:
        """Let a participant go (one of a room: hang it up). NoSuchConference, AriError."""
        raise NotImplementedError

    async def mute(self, conference_id: str, channel_id: str) -> None:
        """Let a participant not be heard. NoSuchConference, NotOurs, AriError."""
        raise NotImplementedError

    async def unmute(self, conference_id: str, channel_id: str) -> None:
        """Let it be heard again. NoSuchConference, NotOurs, AriError."""
        raise NotImplementedError

    def place_of(self, conference_id: str) -> Place:
        """Where a media leg hears and speaks to all of it. NoSuchConference, NotOurs."""
        raise NotImplementedError

    def on_ended(self, callback: Callable[[str], object]) -> Callable[[], None]:
        """Call ``callback(conference_id)`` when one ends, before its members are let go."""
        raise NotImplementedError

    async def stop(self) -> None:
        """End those of ours."""
        raise NotImplementedError
