"""The calls of the PBX, made from ARI's events: pure, no clock, no sockets.

A *call* is all channels that share one linkedid; its *parties* are those of them that somebody talks through. What
carries media for us or for Asterisk itself (snoops, external media, announcers, recorders) is no party.

``Local/`` channels are parties, marked ``is_local``: a call may consist of nothing else (originated ``Local/600@ctx``),
and a Local channel is two channels, ``;1`` towards whoever dialled it and ``;2`` running the dialplan. Where real
parties exist, the halves only join them together: ``Call.primary`` passes them over.

Every event carries the channel's whole state, so the model keeps states and not histories: an event applied twice, or
an old one after a fresh snapshot, is put right by the next. The linkedid is not part of an event unless ari.conf says
``channelvars = CHANNEL(linkedid)``; until it is known a channel belongs to no call, and ``take_unplaced`` tells whom to
ask about. See docs/decisions/ari-client.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from bridge.ari.model import (
    Bridge,
    BridgeDestroyed,
    BridgeMerged,
    Channel,
    ChannelCreated,
    ChannelDestroyed,
    ChannelEnteredBridge,
    ChannelHold,
    ChannelLeftBridge,
    ChannelUnhold,
    Dial,
    Event,
    StasisEnd,
    StasisStart,
)

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

_OURS = re.compile(r"ab-[A-Za-z0-9_]+-[0-9a-f]{8}-(snoop|media|mix)-")
"""Ids of channels that a bridge made for itself. Those of kind ``call`` are calls that it placed: parties."""

_MAX_REMEMBERED_GONE = 10_000
"""Channels whose end is remembered, so that a straggling event does not bring them back."""


def is_party(channel: Channel) -> bool:
    """Whether somebody talks through this channel."""
    return not channel.name.startswith(TECHNICAL) and _OURS.match(channel.id) is None


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

    def _take(self, values: Mapping[str, str | bool | None]) -> frozenset[str]:
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


class CallModel:
    """All calls of one PBX.

    Args:
        app: our Stasis application; tells after a reconnect who is in it.
    """

    def __init__(self, app: str = "") -> None:
        self.calls: dict[str, Call] = {}
        """By linkedid."""
        self.bridges: dict[str, Bridge] = {}
        """Every bridge of the PBX as last seen, by id."""
        self._app = app
        self._parties: dict[str, Party] = {}
        self._call_of: dict[str, Call] = {}
        self._unplaced: dict[str, None] = {}
        self._gone: dict[str, None] = {}
        self._seen = 0

    def find(self, any_id: str) -> tuple[Call, Party] | None:
        """A call and its primary party by linkedid, or a party and its call by channel id."""
        call = self.calls.get(any_id)
        if call is not None:
            return None if call.primary is None else (call, call.primary)
        call = self._call_of.get(any_id)
        return None if call is None else (call, self._parties[any_id])

    def take_unplaced(self) -> list[str]:
        """Ids of channels whose linkedid must be asked for; each is told once."""
        unplaced, self._unplaced = list(self._unplaced), {}
        return unplaced

    def learn_linkedid(self, channel_id: str, linkedid: str, now: float) -> list[Change]:
        """Asterisk told to which call a channel belongs. It may tell another one later: calls merge in transfers."""
        party = self._parties.get(channel_id)
        return [] if party is None or not linkedid else self._place(party, linkedid, now)

    def apply(self, event: Event, now: float) -> list[Change]:
        """One event, in the order of arrival. ``now``: seconds on any clock, kept in ``Call.answered_at``."""
        if isinstance(event, ChannelDestroyed):
            return self._remove(event.channel.id, event.cause, event.cause_txt)
        if isinstance(event, Dial):
            changes = [] if event.caller is None else self._see(event.caller, now)
            return changes + self._see(event.peer, now)
        if isinstance(event, BridgeDestroyed):
            self.bridges.pop(event.bridge.id, None)
            return self._rebridge(event.bridge.id, event.bridge.channels, None)
        if isinstance(event, BridgeMerged):
            self.bridges[event.bridge.id] = event.bridge
            return self._rebridge(event.bridge_from.id, event.bridge.channels, event.bridge.id)
        if event.bridge is not None and not isinstance(event, ChannelLeftBridge):
            self.bridges[event.bridge.id] = event.bridge
        return [] if event.channel is None else self._apply_channel(event, event.channel, now)

    def reconcile(
        self, channels: Iterable[Channel], linkedids: Mapping[str, str], bridges: Iterable[Bridge], now: float
    ) -> list[Change]:
        """The PBX as it is now, after a time in which events may have been lost.

        Args:
            channels: all channels, in any order.
            linkedids: by channel id; a channel whose linkedid is missing here and in its variables stays unplaced.
            bridges: all bridges.
            now: as in ``apply``.
        """
        listed = {channel.id: channel for channel in channels}
        self.bridges = {bridge.id: bridge for bridge in bridges}
        bridge_of = {member: bridge.id for bridge in self.bridges.values() for member in bridge.channels}
        changes: list[Change] = []
        for channel_id in [known for known in self._parties if known not in listed]:
            changes += self._remove(channel_id, 0, "ended while no events came")
        for channel in sorted(listed.values(), key=_creation):
            self._gone.pop(channel.id, None)
            in_stasis = channel.dialplan.app_name == "Stasis" and channel.dialplan.app_data.split(",")[0] == self._app
            changes += self._see(channel, now, bridge_id=bridge_of.get(channel.id), in_stasis=in_stasis)
            changes += self.learn_linkedid(channel.id, linkedids.get(channel.id, ""), now)
            if channel.id in self._call_of:
                self._unplaced.pop(channel.id, None)
        return changes

    def _apply_channel(self, event: Event, channel: Channel, now: float) -> list[Change]:
        match event:
            case ChannelCreated():
                self._gone.pop(channel.id, None)
                return self._see(channel, now)
            case ChannelEnteredBridge():
                changes = self._see(channel, now, bridge_id=event.bridge.id)
                self._ask_again_if_calls_meet(event)
                return changes
            case ChannelLeftBridge():
                if event.bridge.id in self.bridges:
                    self.bridges[event.bridge.id] = event.bridge
                party = self._parties.get(channel.id)
                if party is None or party.bridge_id != event.bridge.id:
                    return []  # it is in the next bridge already
                return self._see(channel, now, bridge_id=None)
            case StasisStart():
                return self._see(channel, now, in_stasis=True)
            case StasisEnd():
                return self._see(channel, now, in_stasis=False) if channel.id in self._parties else []
            case ChannelHold():
                return self._see(channel, now, on_hold=True)
            case ChannelUnhold():
                return self._see(channel, now, on_hold=False)
            case _:
                return self._see(channel, now)

    def _see(self, channel: Channel, now: float, **more: str | bool | None) -> list[Change]:
        """A channel's present state; ``more`` is what its snapshot does not hold."""
        if channel.id in self._gone or not is_party(channel):
            return []
        party = self._parties.get(channel.id)
        if party is None:
            self._seen += 1
            party = self._parties[channel.id] = Party(channel.id, self._seen)
            party._take(_state(channel) | more)
            if channel.linkedid:
                return self._place(party, channel.linkedid, now)
            self._unplaced[channel.id] = None
            return []
        fields = party._take(_state(channel) | more)
        call = self._call_of.get(channel.id)
        changes: list[Change] = []
        if call is not None and fields:
            changes.append(PartyChanged(call, party, fields))
            changes += self._answer(call, now)
        if channel.linkedid:
            changes += self._place(party, channel.linkedid, now)
        return changes

    def _place(self, party: Party, linkedid: str, now: float) -> list[Change]:
        old = self._call_of.get(party.id)
        if old is not None and old.id == linkedid:
            return []
        changes: list[Change] = []
        if old is not None:
            del old.parties[party.id]
            changes.append(PartyLeft(old, party, moved_to=linkedid))
        call = self.calls.get(linkedid)
        if call is None:
            call = self.calls[linkedid] = Call(linkedid, party.created)
            changes.append(CallStarted(call))
        call.parties[party.id] = party
        call.parties = dict(sorted(call.parties.items(), key=lambda item: item[1].order))
        self._call_of[party.id] = call
        changes.append(PartyJoined(call, party))
        changes += self._answer(call, now)
        if old is not None and not old.parties:
            del self.calls[old.id]
            changes.append(CallEnded(old, merged_into=linkedid))
        return changes

    def _answer(self, call: Call, now: float) -> list[Change]:
        primary = call.primary
        if call.answered or primary is None or primary.state != "Up":
            return []
        call.answered, call.answered_at = True, now
        return [CallAnswered(call)]

    def _remove(self, channel_id: str, cause: int, cause_txt: str) -> list[Change]:
        self._unplaced.pop(channel_id, None)
        self._gone[channel_id] = None
        if len(self._gone) > _MAX_REMEMBERED_GONE:
            del self._gone[next(iter(self._gone))]
        party = self._parties.pop(channel_id, None)
        call = self._call_of.pop(channel_id, None)
        if party is None or call is None:
            return []
        del call.parties[channel_id]
        changes: list[Change] = [PartyLeft(call, party, cause, cause_txt)]
        if not call.parties:
            del self.calls[call.id]
            changes.append(CallEnded(call))
        return changes

    def _rebridge(self, old_id: str, members: Iterable[str], new_id: str | None) -> list[Change]:
        """The members of one bridge are in another now, or in none."""
        changes: list[Change] = []
        for party in [self._parties[member] for member in members if member in self._parties]:
            call = self._call_of.get(party.id)
            if party.bridge_id == old_id and party._take({"bridge_id": new_id}) and call is not None:
                changes.append(PartyChanged(call, party, frozenset({"bridge_id"})))
        return changes

    def _ask_again_if_calls_meet(self, event: ChannelEnteredBridge) -> None:
        """Two parties of different calls in one two-party bridge: a transfer or a pick-up; the calls may merge."""
        members = [member for member in event.bridge.channels if member in self._call_of]
        if len(members) == 2 and self._call_of[members[0]] is not self._call_of[members[1]]:
            self._unplaced |= dict.fromkeys(members)


def _state(channel: Channel) -> dict[str, str | bool | None]:
    return {
        "name": channel.name,
        "endpoint": endpoint_of(channel.name),
        "state": channel.state,
        "caller_number": channel.caller.number,
        "caller_name": channel.caller.name,
        "connected_number": channel.connected.number,
        "context": channel.dialplan.context,
        "exten": channel.dialplan.exten,
        "app_name": channel.dialplan.app_name,
        "app_data": channel.dialplan.app_data,
        "created": channel.creationtime,
    }


def _creation(channel: Channel) -> tuple[str, int, str]:
    """Sorts channels as they were created: by time, then by the counter that ends Asterisk's own ids."""
    counter = channel.id.rpartition(".")[2]
    return channel.creationtime, int(counter) if counter.isdecimal() else 0, channel.id
