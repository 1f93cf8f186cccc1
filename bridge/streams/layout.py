"""Which tracks a stream has of a call: names, and where on the PBX each is heard. Pure.

parties            one track per party, under its channel's name: what that party says
near, far, both    of the call's trunk leg (of the caller if there is none): far is what it says, near what it hears
inbound_track,     of the caller: what it says, what it hears
outbound_track,
both_tracks
mix                one track with everybody
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bridge.calls.call import Call, Party
from bridge.calls.facts import Naming, PartyFacts, call_facts, party_facts
from bridge.dialects.base import CallInfo, TrackInfo
from bridge.taps.taps import Snoop

LAYOUTS = ("parties", "near", "far", "both", "inbound_track", "outbound_track", "both_tracks", "mix")

DEFAULT_LAYOUT = {"yeastar": "parties", "voxology": "both", "twilio": "inbound_track"}
"""What ``auto`` means, by dialect; ``mix`` for all others."""


@dataclass(frozen=True, slots=True)
class WantedTrack:
    """A track that a stream ought to have now.

    Args:
        info: what the dialect may say about it.
        place: where it is heard.
    """

    info: TrackInfo
    place: Snoop


def call_info(call: Call, naming: Naming) -> CallInfo:
    """What a dialect may say about the call."""
    facts = call_facts(call, naming)
    return CallInfo(call.id, facts.direction, facts.caller, facts.callee, facts.did)


def wanted_tracks(layout: str, call: Call, naming: Naming) -> list[WantedTrack]:
    """The tracks of ``call`` as it is now; none while nobody has answered.

    Raises:
        ValueError: there is no such layout.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"tracks: {layout!r} is none of {', '.join(LAYOUTS)}")
    if not call.answered:
        return []
    if layout == "parties":
        return [
            _track(party.name, party, party_facts(call, party, naming), call, naming, "in")
            for party in speaking_parties(call.parties.values())
        ]
    near_and_far = layout in ("near", "far", "both")
    party = _reference(call, naming, trunk_first=near_and_far)
    if party is None or party.state != "Up":
        return []
    facts = party_facts(call, party, naming)
    if layout == "mix":
        return [_track("mix", party, facts, call, naming, "both")]
    names = ("far", "near") if near_and_far else ("inbound", "outbound")
    asked = {
        "far": ("in",), "near": ("out",), "both": ("in", "out"),
        "inbound_track": ("in",), "outbound_track": ("out",), "both_tracks": ("in", "out"),
    }[layout]  # fmt: skip
    return [
        _track(name, party, facts, call, naming, spy)
        for name, spy in zip(names, ("in", "out"), strict=True)
        if spy in asked
    ]


def speaking_parties(parties: Iterable[Party]) -> list[Party]:
    """Those who have answered; halves of Local channels only where a call has nobody else."""
    up = [party for party in parties if party.state == "Up"]
    return [party for party in up if not party.is_local] or up


def _reference(call: Call, naming: Naming, *, trunk_first: bool) -> Party | None:
    if trunk_first:
        for party in call.parties.values():
            if party.state == "Up" and party_facts(call, party, naming).role == "trunk":
                return party
    return call.primary


def _track(name: str, party: Party, facts: PartyFacts, call: Call, naming: Naming, spy: str) -> WantedTrack:
    whole = call_facts(call, naming)
    # The far number is the remote party's, the near one ours: which of caller and callee that is, direction says.
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
