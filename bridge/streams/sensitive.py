"""What streams need to know of sensitive mode (`bridge.control.sensitive`)."""

from __future__ import annotations

from typing import Protocol


class SensitiveCalls(Protocol):
    """The calls that are in sensitive mode (`bridge.control.sensitive.Sensitive`)."""

    def covers(self, identity: str, /) -> bool:
        """Return whether the audio and digits of a call or channel must be kept from applications now."""

    def covers_bridge(self, bridge_id: str, /) -> bool:
        """Return whether a party that is covered is in this bridge."""


class NoneSensitive:
    """No call is in sensitive mode."""

    def covers(self, _: str, /) -> bool:
        """Return False."""
        return False

    def covers_bridge(self, _: str, /) -> bool:
        """Return False."""
        return False
