"""Facts about a flow's call and its legs that a dialect may send."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msgspec import Struct

from bridge.calls.call import Call, Party
from bridge.calls.facts import PartyFacts, call_facts, party_facts
from bridge.config import PbxConfig
from bridge.control.legs import Leg
from bridge.dialects.base import CallInfo, TrackInfo
from bridge.streams.inbound import CallFinder
from bridge.streams.layout import call_info

TIMEOUT_S = 1.0


class Numbers(Struct, frozen=True):
    """Caller and callee of a call that asterisk-bridge has originated."""

    caller: str
    callee: str


class FlowFacts:
    """Looks up calls and tracks of flows.

    Args:
        calls: the current calls.
        naming: how numbers and trunks are recognized.
        numbers: returns the numbers of an originated call, by its channel's id; None for any other.
    """

    def __init__(self, calls: CallFinder, naming: PbxConfig, numbers: Callable[[str], Numbers | None]) -> None:
        self._calls = calls
        self._naming = naming
        self._numbers = numbers

    async def call_of(self, leg: Leg) -> CallInfo:
        """Return the call of a leg; wait briefly, as the model may lag behind, and the flow must not wait long."""
        deadline = asyncio.get_running_loop().time() + TIMEOUT_S
        while (found := self._calls.find(leg.id)) is None and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        numbers = self._numbers(leg.id)
        call_id = found[0].id if found is not None else leg.id
        if numbers is not None:
            return CallInfo(call_id, "outbound", numbers.caller, numbers.callee)
        return call_info(call_id, call_facts(found[0], self._naming)) if found is not None else CallInfo(call_id)

    def track(self, name: str, leg: Leg) -> TrackInfo:
        """Return the track of a leg: ``far_number`` is its party's, ``near_number`` the PBX's on its side."""
        numbers = self._numbers(leg.id)
        found = self._calls.find(leg.id)
        if found is None:
            near, far = (numbers.caller, numbers.callee) if numbers is not None else ("", "")
            return TrackInfo(name, leg.id, leg.name, far, near, far)
        call, party = found
        facts = party_facts(*(self._calls.person_behind(leg.id) or found), self._naming)
        if numbers is not None:
            near, far = numbers.caller, numbers.callee
        else:
            near, far = self._near_number(call, party, facts), facts.number
        return TrackInfo(name, party.id, party.name, facts.number, near, far, facts.callflow)

    def _near_number(self, call: Call, party: Party, facts: PartyFacts) -> str:
        near = party.connected_number if party.dialed else facts.did
        if near:
            return near
        whole = call_facts(call, self._naming)
        return whole.caller if party.dialed else whole.did or party.first_exten or whole.callee
