"""What the holder of a token may ask for, too often or too much of it."""

from __future__ import annotations

from tests.attack.attacks.table import attack
from tests.attack.target import PING, TEXT, Target, frame


@attack(least=1000)
def events_client_pings(target: Target) -> int:
    """Listen to events, and send pings as fast as they go."""
    return _events(target, frame(PING))


@attack(least=1000)
def events_client_talks(target: Target) -> int:
    """Listen to events, and send empty messages as fast as they go."""
    return _events(target, frame(TEXT))


def _events(target: Target, data: bytes) -> int:
    def once() -> int:
        with target.websocket("/v1.0/events") as client:
            return target.flood(client, data, reads=True)

    return target.repeat(once)
