"""The interface through which streams query sensitive mode (`bridge.control.sensitive`)."""

from __future__ import annotations

from typing import Protocol


class SensitiveCalls(Protocol):
    """Calls in sensitive mode (`bridge.control.sensitive.SensitiveMode`)."""

    def covers(self, identity: str, /) -> bool:
        """Return whether the audio and digits of a call or channel must not reach applications now."""

    def covers_bridge(self, bridge_id: str, /) -> bool:
        """Return whether a party in sensitive mode is in this bridge."""


class NoneSensitive:
    """Used where no call is ever in sensitive mode."""

    def covers(self, _: str, /) -> bool:
        """Return False."""
        return False

    def covers_bridge(self, _: str, /) -> bool:
        """Return False."""
        return False
