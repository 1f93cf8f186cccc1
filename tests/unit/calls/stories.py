"""What happened to calls, as lines that tests compare."""

from __future__ import annotations

from collections.abc import Iterator

from bridge.calls.call import (
    Change,
    PartyChanged,
    PartyJoined,
    PartyLeft,
)


def story(changes: Iterator[Change] | list[Change]) -> list[str]:
    """Return what happened, without the parties' smaller changes."""
    lines = []
    for change in changes:
        match change:
            case PartyJoined() | PartyLeft():
                lines.append(f"{type(change).__name__} {change.party.endpoint}")
            case PartyChanged():
                if "state" in change.fields:
                    lines.append(f"{change.party.endpoint} {change.party.state}")
            case _:
                lines.append(type(change).__name__)
    return lines
