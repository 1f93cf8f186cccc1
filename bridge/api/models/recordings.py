"""Recordings of calls."""

from typing import Literal

from bridge.api.models.base import Shown, Time, maybe
from bridge.api.models.common import Page


class Recording(Shown):
    """A recording of a call."""

    id: str
    call_id: str
    channel_id: str
    """The recorded channel; empty for a recording of a previous run."""
    direction: Literal["", "in", "out", "both"]
    """`in`: audio from the party; `out`: audio to the party; empty for a recording of a previous run."""
    principal: str
    """Id of the token that started it; `config` for a configured flow."""
    format: str
    status: str
    """`recording`, `ended` or `failed`."""
    paused: bool
    """Whether it is paused because the call is in sensitive mode."""
    duration: float
    """Seconds."""
    tm_start: Time
    tm_end: Time = maybe()
    continues: str = maybe()
    """Id of the recording that it continues after a transfer or pickup."""
    continued_by: str = maybe()
    """Id of the recording that continues it; until a restart."""
    trouble: str = maybe()
    """Why it failed, or was not continued."""


class Recordings(Page):
    """Recordings, newest first."""

    result: list[Recording]
