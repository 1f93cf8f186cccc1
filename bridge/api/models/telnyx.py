"""The supported part of Telnyx's API: hanging up a call."""

from bridge.api.models.base import Shown


class TelnyxDone(Shown):
    """The result of a command."""

    result: str
    """`ok`."""


class TelnyxResult(Shown):
    """A response in Telnyx's shape."""

    data: TelnyxDone


class TelnyxProblem(Shown):
    """One error."""

    code: str
    """Telnyx's error code; `90018`: the call has already ended."""
    title: str
    detail: str


class TelnyxErrors(Shown):
    """Errors in Telnyx's shape."""

    errors: list[TelnyxProblem]
