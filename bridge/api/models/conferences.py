"""Conferences."""

from typing import Annotated, Any, Literal

from pydantic import Field

from bridge.api.models.base import Body, Shown, Time
from bridge.api.models.common import Page
from bridge.conferences.conferences import ConferenceKind

NO_FLOW = Literal["", "00000000-0000-0000-0000-000000000000"]


class CreateConference(Body):
    """A new conference. VoIPBIN's keys for features that do not exist accept only the values that disable them."""

    id: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """Its id in URLs and destinations; omitted: a new UUID."""
    name: Annotated[str, Field(max_length=256)] = ""
    auto_delete: bool = False
    """Whether it ends with its last participant."""
    type: Literal["", "conference"] = "conference"
    detail: Annotated[str, Field(max_length=255)] = ""
    """Accepted for VoIPBIN's clients; not stored."""
    data: dict[str, Any] = Field(default_factory=dict)
    """Accepted for VoIPBIN's clients; not stored."""
    timeout: Annotated[int, Field(ge=0, le=0)] = 0
    """Conferences do not end automatically after a time."""
    pre_flow_id: NO_FLOW = ""
    post_flow_id: NO_FLOW = ""


class Participant(Shown):
    """A participant of a conference."""

    channel_id: str
    call_id: str
    name: str
    number: str
    muted: bool
    """Whether its audio is muted for the others."""
    tm_joined: Time


class Conference(Shown):
    """A conference and its current state."""

    id: str
    name: str
    kind: ConferenceKind
    """`bridge`: created by asterisk-bridge; `confbridge`: a ConfBridge room of the dialplan."""
    auto_delete: bool
    """Whether it ends with its last participant."""
    tm_create: Time
    participants: list[Participant]


class Conferences(Page):
    """Conferences, newest first."""

    result: list[Conference]


class Participants(Shown):
    """The participants of a conference."""

    result: list[Participant]
