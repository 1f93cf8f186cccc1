"""Calls, parties and their changes, as values.

A *call* is all channels that share one linkedid; its *parties* are those that belong to a person or trunk. Channels
that carry media for asterisk-bridge or Asterisk (snoops, external media, announcers, recorders) are not parties.

``Local/`` channels are parties, marked ``is_local``: a call may consist of nothing else (originated ``Local/600@ctx``),
and a Local channel is two channels, ``;1`` toward its dialer and ``;2`` in the dialplan. Where other parties exist, the
halves only connect them: ``Call.primary`` skips them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from msgspec import Struct

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
"""Prefixes of the names of channels that are not parties."""

OUTGOING_APPS = ("AppDial", "AppDial2", "AppQueue")
"""Applications of a dialed channel until it runs dialplan of its own."""

SUBROUTINES = ("macro-", "sub-", "func-")
"""Prefixes of subroutine contexts, in FreePBX and by convention: a caller in one still belongs to its main context."""

MAX_FORMER = 16
"""Limit of parties that have left and are kept in a call."""

OURS = re.compile(r"ab-[A-Za-z0-9_]+-[0-9a-f]{8}-(snoop|media|mix)-")
"""Ids of channels that asterisk-bridge created for itself. Those of kind ``call`` are originated calls: parties."""

ORIGINATED = re.compile(r"ab-[A-Za-z0-9_]+-[0-9a-f]{8}-call-")


def is_party(channel: Channel) -> bool:
    """Return whether a channel is a party."""
    return not channel.name.startswith(TECHNICAL) and OURS.match(channel.id) is None


def is_dialed(channel: Channel) -> bool:
    """Return whether Asterisk dialed the channel, according to its first state."""
    return channel.state == "Down" or channel.dialplan.app_name in OUTGOING_APPS


def creation_order(channel: Channel) -> tuple[str, int, str]:
    """Return a sort key for the order of creation: by time, then by the counter at the end of Asterisk's own ids."""
    counter = channel.id.rpartition(".")[2]
    return channel.creationtime, int(counter) if counter.isdecimal() else 0, channel.id


def endpoint_of(name: str) -> str:
    """Return ``1001`` for ``PJSIP/1001-0000002a``: the part between the technology and the last dash."""
    _, _, rest = name.partition("/")
    return rest.rpartition("-")[0] or rest


PartyState = dict[str, str | bool | None]
"""Attributes of a party."""

INHERITED = ("dialed", "dialed_by", "dialstring", "first_context", "first_exten")
"""Attributes of a ringing phone that also apply to the phone that picks up its call."""


def taken_over(party: Party, parties: Iterable[Party]) -> Party | None:
    """Return the channel in a bridge whose place a party has taken; None if there is none.

    Asterisk lets two channels exchange their ids (a masquerade), and reports it only by their creation times, which do
    not move with the ids. The other channel ends. In a bridge, this happens when a call is transferred at the moment of
    the answer; outside, the party has only another application.
    """
    others = [one for one in parties if one.created == party.created and one is not party]
    return others[0] if len(others) == 1 and others[0].bridge_id and not others[0].in_stasis else None


@dataclass(slots=True)
class Party:
    """The current state of one channel of a call."""

    id: str
    order: int = field(repr=False)
    """Earlier parties have lower numbers."""
    name: str = ""
    """``PJSIP/1001-0000002a``; may change in transfers while the id stays."""
    endpoint: str = ""
    state: str = ""
    """``Ring`` (incoming), ``Ringing`` (outgoing), ``Up`` and a few rare ones."""
    caller_number: str = ""
    caller_name: str = ""
    connected_number: str = ""
    withheld: bool = False
    """Whether its number and name are withheld: they are empty here."""
    secrets: set[str] = field(default_factory=set, repr=False)
    """Withheld numbers of others that its channel has, perhaps for longer than those parties exist."""
    context: str = ""
    exten: str = ""
    app_name: str = ""
    app_data: str = ""
    created: str = ""
    """As Asterisk wrote it, for example ``2026-01-31T12:00:00.123+0000``."""
    bridge_id: str | None = None
    in_stasis: bool = False
    """Whether it is in the Stasis application."""
    on_hold: bool = False
    born_seen: bool = False
    """Whether its creation was observed; otherwise the "first" values below are the earliest observed ones."""
    first_context: str = ""
    first_exten: str = ""
    """The extension that it dialed on entry: the DID on a trunk. ``s`` on a dialed channel."""
    first_caller_number: str = ""
    first_connected_number: str = ""
    """The first connected number: of an originated call, the caller ID."""
    main_context: str = ""
    """The latest context that is not a subroutine's."""
    outer_app: str = ""
    """The application that runs the current one internally: ``Page`` in a ConfBridge of its own."""
    from_did: str = ""
    """FreePBX's variable ``FROM_DID``, if ari.conf has it in ``channelvars``."""
    dnid: str = ""
    """``CALLERID(dnid)``, likewise: the number that the channel driver was called with."""
    told_linkedid: str = field(default="", repr=False)
    """The linkedid in its latest snapshot, perhaps an outdated one.

    Asterisk takes snapshots when a channel changes, which merging with another call does not count as (seen on 22.10).
    """
    dialed: bool = False
    """Whether Asterisk dialed it, instead of the channel dialing in."""
    dialed_by: str = ""
    """Id of the party for which it was dialed; through Local channels, the party behind them."""
    dialstring: str = ""
    """Its dial string in Dial() or Queue(): ``1002``, ``5550100@trunk-a``, ``PJSIP/1002``."""
    bridge_creator: str = ""
    """Of ``bridge_id``: ``ConfBridge``, ``Stasis``; empty for Dial() and Queue()."""
    position: tuple[str, str, int] = field(default=("", "", 0), repr=False)
    """Position in the dialplan at which its current application began."""

    @property
    def is_local(self) -> bool:
        """Whether the party is one half of a Local channel."""
        return self.name.startswith(LOCAL)

    @property
    def other_half(self) -> str:
        """Name of a Local channel's other half; empty for all others."""
        if not self.is_local:
            return ""
        return self.name[:-1] + ("1" if self.name.endswith(";2") else "2")

    def has_audiosocket(self, uuid: str) -> bool:
        """Return whether the party runs ``AudioSocket()`` or dials AudioSocket with this UUID (lowercase)."""
        return self.app_name in ("AudioSocket", "Dial") and uuid in self.app_data.lower()

    def see(self, channel: Channel, withheld: Collection[str] = ()) -> frozenset[str]:
        """Apply a channel's current state; return the names of changed attributes.

        Args:
            channel: the state.
            withheld: numbers whose presentation callers restrict.
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
        if not self.name:  # first observation
            values |= {
                "first_context": plan.context,
                "first_exten": plan.exten,
                "first_caller_number": caller.number,
                "dialed": is_dialed(channel),
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
        """Set attributes; return the names of changed ones."""
        changed = frozenset(name for name, value in values.items() if getattr(self, name) != value)
        for name in changed:
            setattr(self, name, values[name])
        return changed

    def withhold(self, numbers: Collection[str]) -> None:
        """Remove withheld numbers: the party's own, and that of its connected party."""
        self.secrets.update({self.caller_number, self.connected_number}.intersection(numbers))
        if self.withheld or (self.is_local and self.caller_number in self.secrets):
            self.take({"caller_number": "", "caller_name": "", "first_caller_number": ""})
        if self.connected_number in self.secrets:
            self.connected_number = ""
        if self.first_connected_number in numbers:
            self.first_connected_number = ""


class Call(Struct):
    """One conversation on the PBX."""

    id: str
    """Asterisk's linkedid: the id of the channel with which the call began."""
    created: str
    """Creation time of its first party, as Asterisk wrote it."""
    parties: dict[str, Party] = {}
    """By channel id, in order of creation; empty once the call has ended."""
    answered: bool = False
    """Whether the primary party has been up."""
    answered_at: float | None = None
    """The ``now`` of the first time."""
    first: Party | None = None
    """The party that began the call, also after it has left; half of a Local channel only without others."""
    former: list[Party] = []
    """The latest parties that have left, in their last state."""

    @property
    def originated(self) -> bool:
        """Whether the call began with a channel that asterisk-bridge originated."""
        return ORIGINATED.match(self.id) is not None

    @property
    def primary(self) -> Party | None:
        """The first existing party: the caller while present; None once the call has ended."""
        first = next(iter(self.parties.values()), None)
        if first is None or not first.is_local:
            return first
        return next((party for party in self.parties.values() if not party.is_local), first)

    def add(self, party: Party) -> None:
        """Add a party, in order of creation."""
        self.parties[party.id] = party
        self.parties = dict(sorted(self.parties.items(), key=lambda item: item[1].order))
        first = self.first
        if first is None or (party.is_local, party.order) < (first.is_local, first.order):
            self.first = party

    def remove(self, party: Party) -> None:
        """Move a party to the former ones; when these are too many, those that had not answered are dropped first."""
        del self.parties[party.id]
        self.former.append(party)
        if len(self.former) > MAX_FORMER:
            self.former.remove(next((one for one in self.former if one.state != "Up"), self.former[0]))


class CallStarted(Struct, frozen=True):
    """A call began; its first party's PartyJoined follows."""

    call: Call


class CallAnswered(Struct, frozen=True):
    """The primary party has answered; occurs once in a call."""

    call: Call


class CallEnded(Struct, frozen=True):
    """The last party has left, or has moved to another call."""

    call: Call
    merged_into: str | None = None
    """The call in which its last party continues."""


class PartyJoined(Struct, frozen=True):
    """A party joined."""

    call: Call
    party: Party


class PartyLeft(Struct, frozen=True):
    """A party left, or moved to another call."""

    call: Call
    party: Party
    cause: int = 0
    """Q.850 cause; 0 if unknown."""
    cause_txt: str = ""
    moved_to: str | None = None
    """The call in which it continues."""


class PartyChanged(Struct, frozen=True):
    """A party's state changed."""

    call: Call
    party: Party
    fields: frozenset[str]
    """Names of the changed attributes."""


class PartyReplaced(Struct, frozen=True):
    """A channel replaced a party's in the Stasis application, by a transfer or a pickup."""

    call: Call
    """The call of the replaced party."""
    party: Party
    by: Party
    into: str
    """The call of the new channel, into which ``call`` merges if it is another one."""


Change = CallStarted | CallAnswered | CallEnded | PartyJoined | PartyLeft | PartyChanged | PartyReplaced
