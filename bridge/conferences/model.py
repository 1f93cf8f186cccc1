"""What a conference and its participants are: values, their errors, and how both are told to others. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from bridge.errors import BridgeError

Kind = Literal["bridge", "confbridge"]
"""``bridge``: a mixing bridge of our own; ``confbridge``: a room that the dialplan runs."""
Left = Literal["left", "kicked", "deleted"]
"""Why a leg takes part no longer: it was moved elsewhere, was kicked, or the conference has ended."""

CONFBRIDGE = "ConfBridge"
"""What Asterisk says made such a bridge; its name is the room's (seen on 22.10)."""
MAX_NAME = 256
"""Longest name of a conference, in characters."""
MAX_ID = 128
"""Longest id of a conference of ours, in characters."""


class NoSuchConference(BridgeError):
    """There is no conference, or no participant of it, with this id."""


class ConferenceExists(BridgeError):
    """The id is another conference's."""


@dataclass(frozen=True, slots=True)
class Participant:
    """Somebody in a conference: a party of a call, never a media leg of ours.

    Args:
        channel_id: Asterisk's id of the channel, by which it is kicked and muted.
        call_id: the call to which it belongs; empty while that is not known. Those in a conference of ours are one
            call for Asterisk: all take the oldest linkedid among them. In a ConfBridge room each stays in its own.
        name: its caller name.
        number: its caller number.
        muted: we have muted it. What a ConfBridge room's own menu does is not known.
        joined_at: when it was first seen there, in seconds since 1970.
    """

    channel_id: str
    call_id: str = ""
    name: str = ""
    number: str = ""
    muted: bool = False
    joined_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Conference:
    """A conference as it is now.

    Args:
        id: given or made up; a room's is its name.
        name: for people.
        kind: whose it is.
        auto_delete: it ends when its last participant leaves. True for every room.
        created_at: when it was made, or first seen, in seconds since 1970.
        participants: in the order in which they came.
    """

    id: str
    name: str
    kind: Kind
    auto_delete: bool
    created_at: float
    participants: tuple[Participant, ...]


def check(conference_id: str, name: str) -> None:
    """See whether a conference of ours may be called so.

    Raises:
        ValueError: no; in words.
    """
    plain = conference_id.isprintable() and conference_id == conference_id.strip()
    if not plain or not 0 < len(conference_id) <= MAX_ID or "/" in conference_id or set(conference_id) == {"."}:
        raise ValueError(
            f"id: {conference_id[:40]!r} is none: it has 1 to {MAX_ID} printable characters, no slashes, and no blanks "
            "around it"
        )
    if len(name) > MAX_NAME or not name.isprintable():
        raise ValueError(f"name: at most {MAX_NAME} printable characters")


def conference_data(conference: Conference) -> dict[str, Any]:
    """What ``conference_created`` and ``conference_deleted`` say."""
    return {"conference_id": conference.id, "name": conference.name, "kind": conference.kind}


def participant_data(conference_id: str, participant: Participant) -> dict[str, Any]:
    """What ``conference_joined`` and ``conference_left`` say."""
    return {
        "conference_id": conference_id,
        "call_id": participant.call_id,
        "channel_id": participant.channel_id,
        "number": participant.number,
        "name": participant.name,
    }
