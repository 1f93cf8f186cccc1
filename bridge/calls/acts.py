"""What can be done with any call of the PBX: one that we control, or an ordinary one as far as that goes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from bridge.calls.addresses import Address
from bridge.calls.legs import Direction
from bridge.calls.recording import Recording
from bridge.errors import BridgeError


class NotOurs(BridgeError):
    """The call is not in our application, and this cannot be done from outside."""


class Acts:
    """Acts on calls by call or channel id. KeyError: there is no such call."""

    before_transfer: Callable[[str], Awaitable[None]]
    """Awaited with the channel's id before a call is transferred: its flow stops."""

    async def hangup(self, call_id: str) -> None:
        raise NotImplementedError

    async def hold(self, call_id: str) -> None:
        raise NotImplementedError

    async def unhold(self, call_id: str) -> None:
        raise NotImplementedError

    async def mute(self, call_id: str, direction: Direction = "both") -> None:
        raise NotImplementedError

    async def unmute(self, call_id: str, direction: Direction = "both") -> None:
        raise NotImplementedError

    async def silence(self, call_id: str, on: bool) -> None:
        raise NotImplementedError

    async def moh(self, call_id: str, on: bool) -> None:
        raise NotImplementedError

    async def send_digits(
        self, call_id: str, digits: str, *, duration_ms: int | None = None, between_ms: int | None = None
    ) -> None:
        raise NotImplementedError

    async def play(self, call_id: str, pcm: bytes, rate: int, *, direction: Direction = "out") -> None:
        """Play s16le mono into a call; returns when it has been played. ``both``: the other party hears it as well."""
        raise NotImplementedError

    async def transfer(self, call_id: str, destination: Address) -> str:
        """Send a call to another destination; returns the id of the call that is placed there."""
        raise NotImplementedError

    async def recording_start(
        self,
        call_id: str,
        *,
        format: str = "wav",
        max_silence_s: int = 0,
        max_duration_s: int = 0,
        terminate_on: str = "",
        beep: bool = False,
    ) -> Recording:
        raise NotImplementedError

    async def recording_stop(self, call_id: str) -> Recording:
        """End the call's recording that began last. KeyError: none runs."""
        raise NotImplementedError
