"""Conferences and participants as values, their errors, and their form in events. Pure."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from bridge.errors import BridgeError

ConferenceKind = Literal["bridge", "confbridge"]
"""``bridge``: a mixing bridge of asterisk-bridge; ``confbridge``: a room that the dialplan runs."""
Left = Literal["left", "kicked", "deleted"]
"""Why a leg left: moved elsewhere, removed, or the conference ended."""

CONFBRIDGE = "ConfBridge"
"""``creator`` of such a bridge in ARI; its name is the room's (seen on 22.10)."""
MAX_NAME = 256
"""Longest name of a conference, in characters."""
MAX_ID = 128
"""Longest id of an own conference, in characters."""


class NoSuchConference(BridgeError):
    """No conference, or no participant of it, has this id."""


class ConferenceExists(BridgeError):
    """Another conference has this id."""


class Participant(Struct, frozen=True):
    """A participant of a conference: a party of a call, never a media leg of asterisk-bridge.

    Args:
        channel_id: Asterisk's id of the channel, used to remove and mute it.
        call_id: the call of the channel; empty while unknown. For Asterisk, all participants of an own conference are
            one
            call: they take the oldest linkedid among them. In a ConfBridge room each keeps its own.
        name: its caller name.
        number: its caller number.
        muted: muted by asterisk-bridge. Muting by a ConfBridge room's own menu is not visible.
        joined_at: when it was first seen there, in seconds since 1970.
    """

    channel_id: str
    call_id: str = ""
    name: str = ""
    number: str = ""
    muted: bool = False
    joined_at: float = 0.0


class Conference(Struct, frozen=True):
    """A snapshot of a conference.

    Args:
        id: given or generated; a room's is its name.
        name: for display.
        kind: own conference, or ConfBridge room.
        auto_delete: ends when its last participant leaves. True for every room.
        created_at: when it was created, or first seen, in seconds since 1970.
        participants: in the order in which they joined.
    """

    id: str
    name: str
    kind: ConferenceKind
    auto_delete: bool
    created_at: float
    participants: tuple[Participant, ...]


def check(conference_id: str, name: str) -> None:
    """Check the id and name of a new conference.

    Raises:
        ValueError: one of them is invalid; the message names it.
    """
    plain = conference_id.isprintable() and conference_id == conference_id.strip()
    if not plain or not 0 < len(conference_id) <= MAX_ID or "/" in conference_id or set(conference_id) == {"."}:
        raise ValueError(
            f"id: {conference_id[:40]!r} is invalid; expected 1 to {MAX_ID} printable characters without slashes or "
            "surrounding spaces"
        )
    if len(name) > MAX_NAME or not name.isprintable():
        raise ValueError(f"name: expected at most {MAX_NAME} printable characters")


def conference_data(conference: Conference) -> dict[str, Any]:
    """Return the data of ``conference_created`` and ``conference_deleted``."""
    return {"conference_id": conference.id, "name": conference.name, "kind": conference.kind}


def participant_data(conference_id: str, participant: Participant) -> dict[str, Any]:
    """Return the data of ``conference_joined`` and ``conference_left``."""
    return {
        "conference_id": conference_id,
        "call_id": participant.call_id,
        "channel_id": participant.channel_id,
        "number": participant.number,
        "name": participant.name,
    }
