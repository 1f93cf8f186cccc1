"""Places calls: dials a destination, follows what becomes of it, and hands over a leg when it is answered."""

from __future__ import annotations

from bridge.calls.addresses import Address
from bridge.calls.legs import Leg
from bridge.calls.records import HangupReason
from bridge.errors import BridgeError


class NotAnswered(BridgeError):
    """A call that we placed was not answered.

    Args:
        reason: as in the call's record.
        cause: Q.850; 0 if none was told.
    """

    def __init__(self, reason: HangupReason, cause: int = 0) -> None:
        super().__init__(f"not answered: {reason}")
        self.reason = reason
        self.cause = cause


class Ringing:
    """A call that is being placed."""

    id: str
    """The id of its channel, and of the call."""

    async def answered(self) -> Leg:
        """Wait until it is answered; NotAnswered if it is not."""
        raise NotImplementedError

    async def cancel(self) -> None:
        """Give it up; returns when its channel is gone. One that is answered is hung up."""
        raise NotImplementedError


class Placer:
    """Places calls."""

    def check(self, destination: Address) -> None:
        """Whether a destination can be dialled at all.

        Raises:
            ValueError: it cannot; says why.
        """
        raise NotImplementedError

    async def place(
        self,
        destination: Address,
        *,
        source: Address | None = None,
        anonymous: bool = False,
        timeout_s: float | None = None,
        originator: str | None = None,
        early_media_bridge: str | None = None,
        groupcall_id: str = "",
        flow_id: str = "",
    ) -> Ringing:
        """Dial; returns when Asterisk has begun to.

        Raises:
            ValueError: as `check`.
            Overloaded: ``calling.max_calls`` calls that we placed go on.
            NotAnswered: it failed at once; the record says so too.
        """
        raise NotImplementedError
