"""Configured flows, and Voxology's request that runs one."""

from typing import Annotated, Any, Literal

from pydantic import Field

from bridge.api.models.base import Body, Shown, maybe
from bridge.api.models.calls import Call

_NUMBER = Annotated[str, Field(max_length=255)]


class Flow(Shown):
    """A flow of the configuration; its secrets are masked."""

    id: str
    match: list[str]
    """Patterns of the numbers whose callers run it."""
    actions: list[dict[str, Any]] = maybe()
    """Its actions, if they are in the configuration."""
    file: str = maybe()
    """The file that holds them."""
    url: str = maybe()
    """The URL from which they are fetched; values in the query are masked."""
    method: str = maybe()
    """The HTTP method of the request."""
    syntax: str = maybe()
    """The vendor whose request format is used to fetch them."""
    auth_key: str = maybe()
    """The header that holds the credential."""
    auth_value: str = maybe()
    """A mask, or empty."""
    then: Literal["hangup", "continue"]
    """Handling of the call at the end of the flow."""


class Flows(Shown):
    """All configured flows."""

    result: list[Flow]


class DialedParty(Body):
    """The called party and the caller ID."""

    no: Annotated[str, Field(min_length=1, max_length=255)]
    """The number."""
    caller_id_no: _NUMBER = ""
    """The caller ID to show; empty: `calling.caller_id`."""


class DialConnect(Body):
    """Voxology's `Dials/Connect`."""

    call: DialedParty
    session_data: dict[str, Any] | None = None
    """Any object: each callback to the flow contains it."""
    timeout: Annotated[int, Field(ge=1, le=3600)] | None = None
    """Seconds that it may ring."""
    max_call_time: Annotated[int, Field(ge=1, le=604_800)] | None = None
    """Seconds after which the call is hung up; at most `calling.max_call_s`."""


class DialedCall(Shown):
    """The call that is being dialed."""

    call_id: str
    call: Call
