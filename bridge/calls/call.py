"""What a call and its parties are, and how they change: values only.

A *call* is all channels that share one linkedid; its *parties* are those of them that somebody talks through. What
carries media for us or for Asterisk itself (snoops, external media, announcers, recorders) is no party.

``Local/`` channels are parties, marked ``is_local``: a call may consist of nothing else (originated ``Local/600@ctx``),
and a Local channel is two channels, ``;1`` towards whoever dialled it and ``;2`` running the dialplan. Where real
parties exist, the halves only join them together: ``Call.primary`` passes them over.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from bridge.ari.model import Caller, Channel

NOBODY = Caller()
LOCAL = "Local/"
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

OUTGOING_APPS = ("AppDial", "AppDial2", "AppQueue")
"""What a leg that Asterisk calls shows as its application until it runs dialplan of its own."""

SUBROUTINES = ("macro-", "sub-", "func-")
"""Contexts of subroutines begin so, in FreePBX and by common habit: a caller in one is still where it was called."""

MAX_FORMER = 16
"""Parties that have left and are remembered in a call."""

OURS = re.compile(r"ab-[A-Za-z0-9_]+-[0-9a-f]{8}-(snoop|media|mix)-")
"""Ids of channels that a bridge made for itself. Those of kind ``call`` are calls that it originated: parties."""

ORIGINATED = re.compile(r"ab-[A-Za-z0-9_]+-[0-9a-f]{8}-call-")


def is_party(channel: Channel) -> bool:
    """Whether somebody talks through this channel."""
    return not channel.name.startswith(TECHNICAL) and OURS.match(channel.id) is None


def is_dialled(channel: Channel) -> bool:
    """Whether Asterisk calls it, as far as its first state shows."""
    return channel.state == "Down" or channel.dialplan.app_name in OUTGOING_APPS


def creation_order(channel: Channel) -> tuple[str, int, str]:
    """Sort channels as they were created: by time, then by the counter that ends Asterisk's own ids."""
    counter = channel.id.rpartition(".")[2]
    return channel.creationtime, int(counter) if counter.isdecimal() else 0, channel.id


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
    withheld: bool = False
    """Its number and name are withheld: they are empty here."""
    secrets: set[str] = field(default_factory=set, repr=False)
    """Numbers that others withhold and that its channel has, perhaps for longer than those others are there."""
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
    born_seen: bool = False
    """It is known from its creation on; if not, what follows as "first" is merely the earliest that we saw."""
    first_context: str = ""
    first_exten: str = ""
    """What it dialled when it came in: the DID on a trunk. ``s`` on a leg that Asterisk called."""
    first_caller_number: str = ""
    first_connected_number: str = ""
    """The first that it was connected with, or that it was to see: of a call that we originate, who calls it."""
    main_context: str = ""
    """The latest context that is no subroutine's."""
    outer_app: str = ""
    """The application that runs the present one inside itself: ``Page`` in a ConfBridge of its own making."""
    from_did: str = ""
    """FreePBX's variable ``FROM_DID``, if ari.conf has it among its ``channelvars``."""
    dnid: str = ""
    """``CALLERID(dnid)``, likewise: the number that the channel driver was called by."""
    told_linkedid: str = field(default="", repr=False)
    """The linkedid in its latest snapshot. It may be an old one: Asterisk writes snapshots when a channel changes, and
    being joined with another call is no change of the channel (seen on 22.10)."""
    dialled: bool = False
    """Asterisk called it; it did not call Asterisk."""
    dialled_by: str = ""
    """Id of the party for whom it was called; through Local channels the one beyond them."""
    dialstring: str = ""
    """To whom it was called, as Dial() or Queue() wrote it: ``1002``, ``5550100@trunk-a``, ``PJSIP/1002``."""
    bridge_creator: str = ""
    """Of ``bridge_id``: ``ConfBridge``, ``Stasis``; empty for Dial() and Queue()."""
    position: tuple[str, str, int] = field(default=("", "", 0), repr=False)
    """Where in the dialplan its present application began."""

    @property
    def is_local(self) -> bool:
        """One half of a Local channel."""
        return self.name.startswith(LOCAL)

    @property
    def other_half(self) -> str:
        """Name of a Local channel's other half; empty for all others."""
        if not self.is_local:
            return ""
        return self.name[:-1] + ("1" if self.name.endswith(";2") else "2")

    def has_audiosocket(self, uuid: str) -> bool:
        """Whether it runs ``AudioSocket()``, or dials an AudioSocket channel, with a UUID (in lowercase)."""
        return self.app_name in ("AudioSocket", "Dial") and uuid in self.app_data.lower()

    def see(self, channel: Channel, withheld: Collection[str] = ()) -> frozenset[str]:
        """Take over a channel's present state; return the names of attributes that had another value.

        Args:
            channel: the state.
            withheld: numbers that callers do not want shown.
        """
        plan, caller, connected = channel.dialplan, channel.caller, channel.connected.number
        self.secrets.update({caller.number, connected}.intersection(withheld))
        if self.withheld or (channel.name.startswith(LOCAL) and caller.number in self.secrets):
            caller = NOBODY
        if connected in self.secrets:
            connected = ""
        position = (plan.context, plan.exten, plan.priority)
        values: dict[str, str | bool | None] = {
            "name": channel.name,
            "endpoint": endpoint_of(channel.name),
            "state": channel.state,
            "caller_number": caller.number,
            "caller_name": caller.name,
            "connected_number": connected,
            "first_connected_number": self.first_connected_number or connected,
            "context": plan.context,
            "exten": plan.exten,
            "app_name": plan.app_name,
            "app_data": plan.app_data,
            "created": channel.creationtime,
            "from_did": channel.channelvars.get("FROM_DID") or self.from_did,
            "dnid": channel.channelvars.get("CALLERID(dnid)") or self.dnid,
            "outer_app": self._outer_app(position, plan.app_name),
        }
        if not plan.context.startswith(SUBROUTINES):
            values["main_context"] = plan.context
        if not self.name:  # seen for the first time
            values |= {
                "first_context": plan.context,
                "first_exten": plan.exten,
                "first_caller_number": caller.number,
                "dialled": is_dialled(channel),
            }
        if (plan.app_name, plan.app_data) != (self.app_name, self.app_data):
            self.position = position
        return self.take(values)

    def _outer_app(self, position: tuple[str, str, int], app_name: str) -> str:
        if position != self.position or app_name == self.outer_app:
            return ""
        if app_name == self.app_name:
            return self.outer_app
        return self.outer_app or self.app_name

    def take(self, values: Mapping[str, str | bool | None]) -> frozenset[str]:
        """Set attributes; returns the names of those that had another value."""
        changed = frozenset(name for name, value in values.items() if getattr(self, name) != value)
        for name in changed:
            setattr(self, name, values[name])
        return changed

    def withhold(self, numbers: Collection[str]) -> None:
        """Forget numbers that callers withhold: its own, and that of who it is connected with."""
        self.secrets.update({self.caller_number, self.connected_number}.intersection(numbers))
        if self.withheld or (self.is_local and self.caller_number in self.secrets):
            self.take({"caller_number": "", "caller_name": "", "first_caller_number": ""})
        if self.connected_number in self.secrets:
            self.connected_number = ""
        if self.first_connected_number in numbers:
            self.first_connected_number = ""


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
    first: Party | None = None
    """The party that began the call, also after it has left; no half of a Local channel if there are others."""
    former: list[Party] = field(default_factory=list)
    """Parties that have left, as they were then; the newest few."""

    @property
    def originated(self) -> bool:
        """It began with a channel that a bridge originated."""
        return ORIGINATED.match(self.id) is not None

    @property
    def primary(self) -> Party | None:
        """The first party that is still there: the caller while it is; None once the call has ended."""
        first = next(iter(self.parties.values()), None)
        if first is None or not first.is_local:
            return first
        return next((party for party in self.parties.values() if not party.is_local), first)

    def add(self, party: Party) -> None:
        """A party is there; the order of creation is kept."""
        self.parties[party.id] = party
        self.parties = dict(sorted(self.parties.items(), key=lambda item: item[1].order))
        first = self.first
        if first is None or (party.is_local, party.order) < (first.is_local, first.order):
            self.first = party

    def remove(self, party: Party) -> None:
        """A party is gone, and remembered: longest, if it has talked."""
        del self.parties[party.id]
        self.former.append(party)
        if len(self.former) > MAX_FORMER:
            self.former.remove(next((one for one in self.former if one.state != "Up"), self.former[0]))


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


@dataclass(frozen=True, slots=True)
class PartyReplaced:
    """A channel has taken a party's place in our application: by a transfer, or by a pickup."""

    call: Call
    """The call of the party that is replaced."""
    party: Party
    by: Party
    into: str
    """The call of the channel in its place, which ``call`` merges into if it is another."""


Change = CallStarted | CallAnswered | CallEnded | PartyJoined | PartyLeft | PartyChanged | PartyReplaced
