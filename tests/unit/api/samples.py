"""Calls as the tracker would show them."""

from __future__ import annotations

from bridge.calls.model import Call, Party

CREATED = "2026-01-31T12:00:00.123+0100"


def make_call(identity: str, *, answered: bool = True, created: str = CREATED, peer: str = "Up") -> Call:
    """A call of 1001, who has dialled 1002."""
    caller = Party(identity, 1, f"PJSIP/1001-{identity}", "1001", "Up" if answered else "Ring", "1001", "Alice")
    caller.connected_number, caller.exten, caller.created = "1002", "1002", created
    callee = Party(f"{identity}.peer", 2, f"PJSIP/1002-{identity}", "1002", peer, "1002", "Bob", created=created)
    return Call(identity, created, {caller.id: caller, callee.id: callee}, answered)
