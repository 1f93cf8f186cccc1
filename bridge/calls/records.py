"""What is told of each call of the PBX: VoIPBIN's call record. Pure: time and events come in from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bridge.ari.model import Event
from bridge.calls.addresses import NOBODY, Address
from bridge.calls.call import Change
from bridge.events.hub import Events

Direction = Literal["incoming", "outgoing"]
Status = Literal["dialing", "ringing", "progressing", "terminating", "canceling", "hangup"]
HangupReason = Literal["", "normal", "failed", "busy", "cancel", "timeout", "noanswer", "dialout", "amd"]
HangupBy = Literal["", "local", "remote"]
MuteDirection = Literal["", "in", "out", "both"]


@dataclass(slots=True)
class CallRecord:
    """One call, in its present state; times are seconds since 1970."""

    id: str
    direction: Direction = "incoming"
    source: Address = NOBODY
    destination: Address = NOBODY
    status: Status = "dialing"
    hangup_by: HangupBy = ""
    hangup_reason: HangupReason = ""
    tm_create: float | None = None
    tm_ringing: float | None = None
    tm_progressing: float | None = None
    tm_hangup: float | None = None
    tm_update: float | None = None
    groupcall_id: str = ""
    flow_id: str = ""
    master_call_id: str = ""
    """The call for which this one was placed: a flow's ``connect``, a transfer."""
    action: Mapping[str, Any] | None = None
    """What its flow does now: ``id``, ``type``, ``index``."""
    variables: Mapping[str, str] = field(default_factory=dict)
    mute_direction: MuteDirection = ""
    on_hold: bool = False
    recording_id: str = ""
    """The recording that runs now."""
    recording_ids: list[str] = field(default_factory=list)
    placed: bool = False
    """We placed it."""

    @property
    def ended(self) -> bool:
        """It is over."""
        return self.status == "hangup"


class Records:
    """Every call of the PBX, by id: those that the tracker sees, and those that we place from the moment of asking.

    Args:
        events: where ``call_*`` events go.
        clock: seconds since 1970.
    """

    def __init__(self, events: Events, clock: Callable[[], float]) -> None:
        raise NotImplementedError

    def on_change(self, change: Change) -> None:
        """What the call tracker says."""
        raise NotImplementedError

    def on_event(self, event: Event) -> None:
        """What ARI says; ``client.on_event("*", records.on_event)``."""
        raise NotImplementedError

    def get(self, call_id: str) -> CallRecord | None:
        """One call that goes on, or has ended lately; by its id or, while it goes on, by one of its channels'."""
        raise NotImplementedError

    def live(self) -> list[CallRecord]:
        """Calls that go on, oldest first."""
        raise NotImplementedError

    def ended(self) -> list[CallRecord]:
        """Calls that have ended, oldest first; the last 1000 of the last hour."""
        raise NotImplementedError

    def update(self, call_id: str, **values: Any) -> None:
        """Set attributes of a record and publish ``call_updated``; a call that is not known is no error."""
        raise NotImplementedError

    def forget(self, call_id: str) -> bool:
        """Forget a call that has ended (``DELETE /v1.0/calls/{id}``); False: none of that id has."""
        raise NotImplementedError


def reason_of(dialstatus: str, cause: int, *, we_cancelled: bool) -> HangupReason:
    """Why a call that was never answered ended."""
    raise NotImplementedError


def record_json(record: CallRecord) -> dict[str, Any]:
    """A record as the API tells it, in VoIPBIN's spelling."""
    raise NotImplementedError
