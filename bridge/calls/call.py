"""What a call and its parties are, and how they change: values only.

A *call* is all channels that share one linkedid; its *parties* are those of them that somebody talks through. What
carries media for us or for Asterisk itself (snoops, external media, announcers, recorders) is no party.

``Local/`` channels are parties, marked ``is_local``: a call may consist of nothing else (originated ``Local/600@ctx``),
and a Local channel is two channels, ``;1`` towards whoever dialled it and ``;2`` running the dialplan. Where real
parties exist, the halves only join them together: ``Call.primary`` passes them over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from bridge.ari.model import Channel

TECHNICAL = (
    "Snoop/",
    "AudioSocket/",
    "UnicastRTP/",
    "MulticastRTP/",
    "WebSocket/",
    "Announcer/",
    "Recorder/",
    "CBAnn/",
    "CBRec/",
    "Surrogate/",
    "Message/",
)
"""Names of channels that nobody talks through begin so."""

OURS = re.compile(r"ab-[A-Za-z0-9_]+-[0-9a-f]{8}-(snoop|media|mix)-")
"""Ids of channels that a bridge made for itself. Those of kind ``call`` are calls that it placed: parties."""


def is_party(channel: Channel) -> bool:
    """Whether somebody talks through this channel."""
    return not channel.name.startswith(TECHNICAL) and OURS.match(channel.id) is None


def endpoint_of(name: str) -> str:
    """``1001`` of ``PJSIP/1001-0000002a``: what lies between the technology and the last dash."""
    _, _, rest = name.partition("/")
    return rest.rpartition("-")[0] or rest


@dataclass(slots=True)
class Party:
    """One channel of a call, in its present state."""

    id: str
    order: int = field(repr=False)
    """Parties seen earlier have lower numbers."""
    name: str = ""
    """``PJSIP/1001-0000002a``; may change in transfers while the id stays."""
    endpoint: str = ""
    state: str = ""
    """``Ring`` (it calls us), ``Ringing`` (we call it), ``Up`` and a few rare ones."""
    caller_number: str = ""
    caller_name: str = ""
    connected_number: str = ""
    context: str = ""
    exten: str = ""
    app_name: str = ""
    app_data: str = ""
    created: str = ""
    """As Asterisk wrote it, for example ``2026-01-31T12:00:00.123+0000``."""
    bridge_id: str | None = None
    in_stasis: bool = False
    """It is in our Stasis application."""
    on_hold: bool = False

    @property
    def is_local(self) -> bool:
        """One half of a Local channel."""
        return self.name.startswith("Local/")

    def take(self, values: Mapping[str, str | bool | None]) -> frozenset[str]:
        """Set attributes; returns the names of those that had another value."""
        changed = frozenset(name for name, value in values.items() if getattr(self, name) != value)
        for name in changed:
            setattr(self, name, values[name])
        return changed


@dataclass(slots=True)
class Call:
    """One conversation on the PBX."""

    id: str
    """Asterisk's linkedid: the id of the channel with which the call began."""
    created: str
    """When its first party was created, as Asterisk wrote it."""
    parties: dict[str, Party] = field(default_factory=dict)
    """By channel id, in order of creation; empty once the call has ended."""
    answered: bool = False
    """The primary party has been up; stays true."""
    answered_at: float | None = None
    """The ``now`` at which that was seen."""

    @property
    def primary(self) -> Party | None:
        """The first party that is still there: the caller while it is; None once the call has ended."""
        first = next(iter(self.parties.values()), None)
        if first is None or not first.is_local:
            return first
        return next((party for party in self.parties.values() if not party.is_local), first)


@dataclass(frozen=True, slots=True)
class CallStarted:
    """A call is there; its first party's PartyJoined follows."""

    call: Call


@dataclass(frozen=True, slots=True)
class CallAnswered:
    """The primary party is up: once in a call."""

    call: Call


@dataclass(frozen=True, slots=True)
class CallEnded:
    """The last party is gone, or has moved to another call."""

    call: Call
    merged_into: str | None = None
    """The call in which its last party goes on."""


@dataclass(frozen=True, slots=True)
class PartyJoined:
    """A party is there."""

    call: Call
    party: Party


@dataclass(frozen=True, slots=True)
class PartyLeft:
    """A party is gone, or has moved to another call."""

    call: Call
    party: Party
    cause: int = 0
    """Q.850 cause; 0 when it is not known."""
    cause_txt: str = ""
    moved_to: str | None = None
    """The call in which it goes on."""


@dataclass(frozen=True, slots=True)
class PartyChanged:
    """A party's state is another."""

    call: Call
    party: Party
    fields: frozenset[str]
    """Names of the attributes that changed."""


Change = CallStarted | CallAnswered | CallEnded | PartyJoined | PartyLeft | PartyChanged
