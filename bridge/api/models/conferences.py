"""Conferences."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from bridge.api.models.base import Body, Shown, Time
from bridge.api.models.common import Page
from bridge.conferences.conferences import Kind

NO_FLOW = Literal["", "00000000-0000-0000-0000-000000000000"]


class CreateConference(Body):
    """A conference of the bridge's own. Keys of VoIPBIN's that ask for what is not done take only values for "no"."""

    id: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """What it is to be called in URLs and destinations; left out: a new UUID."""
    name: Annotated[str, Field(max_length=256)] = ""
    auto_delete: bool = False
    """Whether it ends with its last participant."""
    type: Literal["", "conference"] = "conference"
    detail: Annotated[str, Field(max_length=255)] = ""
    """Taken for VoIPBIN's clients; not kept."""
    data: dict[str, Any] = Field(default_factory=dict)
    """Taken for VoIPBIN's clients; not kept."""
    timeout: Annotated[int, Field(ge=0, le=0)] = 0
    """Conferences do not end by themselves after a time."""
    pre_flow_id: NO_FLOW = ""
    post_flow_id: NO_FLOW = ""


class Participant(Shown):
    """Somebody in a conference."""

    channel_id: str
    call_id: str
    name: str
    number: str
    muted: bool
    """Whether the others do not hear it."""
    tm_joined: Time


class Conference(Shown):
    """A conference as it is now."""

    id: str
    name: str
    kind: Kind
    """`bridge`: one of the bridge's own; `confbridge`: a room that the dialplan runs."""
    auto_delete: bool
    """Whether it ends with its last participant."""
    tm_create: Time
    participants: list[Participant]


class Conferences(Page):
    """Conferences, newest first."""

    result: list[Conference]


class Participants(Shown):
    """Who is in a conference."""

    result: list[Participant]
