"""The tracks of a stream on a call: their names, and their tap points. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from bridge import dialects
from bridge.calls.call import Call, Party
from bridge.calls.facts import CallFacts, PartyFacts, party_facts
from bridge.config import PbxConfig
from bridge.dialects.base import CallInfo, TrackInfo
from bridge.streams.wanted_tracks import WantedTrack
from bridge.taps.taps import Snoop


def call_info(call_id: str, facts: CallFacts) -> CallInfo:
    """Return the facts about a call that a dialect may send."""
    return CallInfo(call_id, facts.direction, facts.caller, facts.callee, facts.did)


def wanted_tracks(layout: str, call: Call, facts: CallFacts, naming: PbxConfig) -> list[WantedTrack]:
    """Return the tracks of a call; none before it is answered.

    Args:
        layout: the name of one of `bridge.dialects.layouts`.
        call: the current state of the call.
        facts: the facts of that state.
        naming: how numbers and trunks are recognized.
    """
    if not call.answered:
        return []
    of, tracks = dialects.layouts()[layout].of, dialects.layouts()[layout].tracks
    if of == "parties":
        return [
            _track(party.name, party, party_facts(call, party, naming), facts, "in")
            for party in speaking_parties(call.parties.values())
        ]
    party = (_on_trunk(call, naming) if of == "trunk" else None) or call.primary
    if party is None or party.state != "Up":
        return []
    whose = party_facts(call, party, naming)
    return [_track(name, party, whose, facts, spy) for name, spy in tracks.items()]


def speaking_parties(parties: Iterable[Party]) -> list[Party]:
    """Return the parties that have answered; halves of Local channels only in calls without others."""
    up = [party for party in parties if party.state == "Up"]
    return [party for party in up if not party.is_local] or up


def _on_trunk(call: Call, naming: PbxConfig) -> Party | None:
    up = (party for party in call.parties.values() if party.state == "Up")
    return next((party for party in up if party_facts(call, party, naming).role == "trunk"), None)


def _track(name: str, party: Party, facts: PartyFacts, whole: CallFacts, spy: str) -> WantedTrack:
    # far_number is the remote party's, near_number the PBX's: caller or callee, depending on the direction.
    near, far = (whole.callee, whole.caller) if whole.direction == "inbound" else (whole.caller, whole.callee)
    info = TrackInfo(
        name,
        channel_id=party.id,
        channel=party.name,
        number=facts.number,
        near_number=whole.did or near,
        far_number=far,
        callflow=facts.callflow,
    )
    return WantedTrack(info, Snoop(party.id, spy=spy, whisper="none"))
