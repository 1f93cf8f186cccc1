"""The calls of the PBX, derived from ARI's events: pure, without clock or sockets.

Every event carries the channel's whole state, so the model keeps states instead of histories: the next event corrects
an event that is applied twice, or an old one after a fresh snapshot.

The linkedid is not part of an event unless ari.conf has ``channelvars = CHANNEL(linkedid)``; while it is unknown a
channel belongs to no call, and ``take_unplaced`` returns the channels to query. It may also change: all channels that
meet in a bridge of Dial(), Queue() or ARI take the oldest linkedid among them (seen on 22.10; ConfBridge leaves them
alone), so calls merge in transfers and in ARI's bridges, and then the affected parties are queried again, also with the
variable: it shows the new linkedid only when something else changes in the channel (seen on 22.10).

A channel that replaces one in the Stasis application (`CallModel.find` then returns it for the old one's id) makes one
call of two: the call of the old channel continues as that of the new one. After a pickup, in contrast, the new channel
becomes a party of the old channel's call, as after the pickup of a phone that Dial() rings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

import msgspec

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
from bridge.calls.aliases import Aliases, remember
from bridge.calls.call import (
    INHERITED,
    OURS,
    OUTGOING_APPS,
    Call,
    CallAnswered,
    CallEnded,
    CallStarted,
    Change,
    Party,
    PartyChanged,
    PartyJoined,
    PartyLeft,
    PartyReplaced,
    PartyState,
    creation_order,
    is_party,
    taken_over,
)
from bridge.calls.restricted_numbers import RestrictedNumbers

_NOTHING: PartyState = {}

MAX_GONE = 2000
"""Limit of ended channels that are remembered: late events of one arrive within seconds of its end."""


class CallModel:
    """All calls of one PBX.

    Args:
        app: the Stasis application; identifies its channels after a reconnect.
        shared_app: the application that hands calls over to ``app`` (`bridge.workers`), whose name they keep.
        withholds: hide restricted numbers of callers. Callers whose presentation is not in their channel's variables
            belong to a call only after `learn_linkedid` has provided it.
    """

    def __init__(self, app: str = "", shared_app: str = "", *, withholds: bool = False) -> None:
        self.calls: dict[str, Call] = {}
        """By linkedid."""
        self.bridges: dict[str, Bridge] = {}
        """Every bridge of the PBX in its last state, by id."""
        self._apps = {app, shared_app or app}
        self._parties: dict[str, Party] = {}
        self._call_of: dict[str, Call] = {}
        self._unplaced: dict[str, None] = {}
        self.withheld = RestrictedNumbers(withholds)
        self._gone: dict[str, None] = {}
        """Channels that have ended, to ignore late events."""
        self._aliases = Aliases()
        self._locals: dict[str, str] = {}
        """Ids of Local channels by name, to find the other half."""
        self._seen = 0

    def ids(self) -> Iterator[str]:
        """Return every id by which `find` finds a call, also those of calls that have merged into others."""
        yield from self.calls
        merged = (each for each in self._aliases.merged() if each not in self.calls)
        yield from (each for each in merged if self.find(each) is not None)

    def find(self, any_id: str) -> tuple[Call, Party] | None:
        """Return a call and its primary party by linkedid (also of a merged call), or a party by channel id.

        For the id of a replaced channel, and for that of the call which it began, the new channel is returned.
        """
        any_id = self._aliases.channel(any_id)
        call = self._call_of.get(any_id)
        if call is not None and any_id not in self.calls:
            return call, self._parties[any_id]
        call = self.calls.get(self._aliases.call(any_id, self.calls))
        return None if call is None or call.primary is None else (call, call.primary)

    def member(self, channel_id: str) -> tuple[Call | None, Party] | None:
        """Return a party by its channel's id, and its call if known; None for other channels."""
        party = self._parties.get(channel_id)
        return None if party is None else (self._call_of.get(channel_id), party)

    def other_half(self, party: Party) -> Party | None:
        """Return the other half of a Local channel; None for other parties, or if that half has ended."""
        return self._parties.get(self._locals.get(party.other_half, ""))

    def person_behind(self, party: Party) -> Party:
        """Return the party whose audio comes through another: for a Local channel, the one bridged with its other half.

        The two may belong to different calls.

        Args:
            party: the party.

        Returns:
            The party itself if it is not half of a Local channel, or no party is bridged with the other half (yet).
        """
        seen = {party.id}
        while party.is_local:
            half = self.other_half(party)
            bridge = self.bridges.get(half.bridge_id or "") if half is not None else None
            if half is None or bridge is None:
                break
            seen.add(half.id)
            mates = [self._parties[each] for each in bridge.channels if each in self._parties and each not in seen]
            if not mates:
                break
            party = next((mate for mate in mates if not mate.is_local), mates[0])
            seen.add(party.id)
        return party

    def take_unplaced(self) -> list[str]:
        """Return the ids of channels whose linkedid must be queried, each once."""
        unplaced, self._unplaced = list(self._unplaced), {}
        return unplaced

    def learn_linkedid(
        self, channel_id: str, linkedid: str, now: float, presentation: str | None = None
    ) -> list[Change]:
        """Set the call of a channel, which may change in transfers, and its caller's presentation."""
        party = self._parties.get(channel_id)
        if presentation is not None:
            self.withheld.learn(channel_id, presentation, self._parties.values())
        if party is None or not linkedid or channel_id in self.withheld.undisclosed:
            return []
        placed = channel_id in self._call_of
        first = self._parties.get(linkedid)
        changes: list[Change] = []
        if first is not None and linkedid not in self._call_of and linkedid not in self.withheld.undisclosed:
            # Responses may overtake each other; the party that began the call must join it first.
            changes += self._place(first, linkedid, now)
        changes += self._place(party, linkedid, now)
        if placed and changes and party.bridge_id in self.bridges:
            self._unplaced |= dict.fromkeys(self._members_elsewhere(self.bridges[party.bridge_id], channel_id))
        return changes

    def apply(self, event: Event, now: float) -> list[Change]:
        """Apply one event, in the order of arrival. ``now``: seconds on any clock, stored in ``Call.answered_at``."""
        if isinstance(event, ChannelDestroyed):
            return self._remove(event.channel.id, now, event.cause, event.cause_txt)
        if isinstance(event, Dial):
            changes = [] if event.caller is None else self._see(event.caller, now)
            changes += self._see(event.peer, now, {"dialed": True})
            return changes + self._note_dial(event)
        if isinstance(event, BridgeDestroyed):
            self.bridges.pop(event.bridge.id, None)
            return self._rebridge(event.bridge.id, event.bridge.channels, None)
        if isinstance(event, BridgeMerged):
            self.bridges[event.bridge.id] = event.bridge
            self.bridges.pop(event.bridge_from.id, None)
            moved = self._rebridge(event.bridge_from.id, event.bridge.channels, event.bridge.id)
            self._query_where_calls_meet(event.bridge, next(iter(event.bridge_from.channels), ""))
            return moved
        if event.bridge is not None and not isinstance(event, ChannelLeftBridge):
            self.bridges[event.bridge.id] = event.bridge
        return [] if event.channel is None else self._apply_channel(event, event.channel, now)

    def reconcile(
        self,
        channels: Iterable[Channel],
        linkedids: Mapping[str, str],
        bridges: Iterable[Bridge],
        now: float,
        presentations: Mapping[str, str] = MappingProxyType({}),
    ) -> list[Change]:
        """Synchronize with the PBX after events may have been lost.

        Args:
            channels: all channels, in any order.
            linkedids: Asterisk's responses, by channel id; they precede those in the channels' variables, which may be
                outdated. A channel without either stays unplaced.
            bridges: all bridges.
            now: as in ``apply``.
            presentations: of callers, from Asterisk's responses, by channel id.
        """
        listed = {channel.id: channel for channel in channels}
        self.bridges = {bridge.id: bridge for bridge in bridges}
        bridge_of = {member: bridge.id for bridge in self.bridges.values() for member in bridge.channels}
        changes: list[Change] = []
        for channel_id in [known for known in self._parties if known not in listed]:
            changes += self._remove(channel_id, now, 0, "ended while no events came")
        for channel in sorted(listed.values(), key=creation_order):
            self._gone.pop(channel.id, None)
            in_stasis = channel.dialplan.app_name == "Stasis" and channel.dialplan.app_data.split(",")[0] in self._apps
            where = self._in_bridge(bridge_of.get(channel.id))
            answer = linkedids.get(channel.id, "")
            changes += self._see(channel, now, where | {"in_stasis": in_stasis}, answer)
            changes += self.learn_linkedid(channel.id, answer, now, presentations.get(channel.id))
            if channel.id in self._call_of:
                self._unplaced.pop(channel.id, None)
        return changes

    def _apply_channel(self, event: Event, channel: Channel, now: float) -> list[Change]:
        match event:
            case ChannelCreated():
                self._gone.pop(channel.id, None)
                return self._see(channel, now, {} if channel.id in self._parties else {"born_seen": True})
            case ChannelEnteredBridge():
                changes = self._see(channel, now, self._in_bridge(event.bridge.id))
                self._query_where_calls_meet(event.bridge, channel.id)
                return changes
            case ChannelLeftBridge():
                if event.bridge.id in self.bridges:
                    self.bridges[event.bridge.id] = event.bridge
                party = self._parties.get(channel.id)
                if party is None or party.bridge_id != event.bridge.id:
                    return []  # already in the next bridge
                return self._see(channel, now, self._in_bridge(None))
            case StasisStart():
                changes = self._see(channel, now, {"in_stasis": True})
                if event.replace_channel is not None:
                    changes += self._replace(event.replace_channel.id, channel.id, now)
                return changes
            case StasisEnd():
                return self._see(channel, now, {"in_stasis": False}) if channel.id in self._parties else []
            case ChannelHold():
                return self._see(channel, now, {"on_hold": True})
            case ChannelUnhold():
                return self._see(channel, now, {"on_hold": False})
            case _:
                return self._see(channel, now)

    def _see(self, channel: Channel, now: float, more: PartyState = _NOTHING, answer: str = "") -> list[Change]:
        """Apply a channel's state; ``answer`` is a better linkedid, ``more`` holds values missing in the snapshot."""
        if channel.id in self._gone or not is_party(channel):
            return []
        party = self._parties.get(channel.id)
        if party is None:
            self._seen += 1
            party = self._parties[channel.id] = Party(channel.id, self._seen)
            self.withheld.note(party, channel)
            party.see(channel, self.withheld.numbers)
            party.take(more)
            if party.is_local:
                self._locals[party.name] = party.id
            party.told_linkedid = channel.linkedid or ""
            if self.withheld.asks(channel, created=party.born_seen):
                self.withheld.undisclosed.add(party.id)
            if (answer or channel.linkedid) and party.id not in self.withheld.undisclosed:
                return self._place(party, answer or party.told_linkedid, now)
            if not channel.linkedid or channel.presentation is None:  # otherwise the channel's next event has it
                self._unplaced[channel.id] = None
            return []
        self.withheld.note(party, channel)
        disclosed = channel.presentation is not None and party.id in self.withheld.undisclosed
        if disclosed:
            self.withheld.undisclosed.discard(party.id)
        fields = party.see(channel, self.withheld.numbers) | party.take(more)
        changes = self._take_over(party, now) if "created" in fields else []
        call = self._call_of.get(channel.id)
        if call is not None and fields:
            changes.append(PartyChanged(call, party, fields))
            changes += self._answer(call, now)
        news = disclosed or channel.linkedid != party.told_linkedid
        if channel.linkedid and news and party.id not in self.withheld.undisclosed:
            # Only a changed linkedid is new: a queried one is more recent than a repeated old one.
            party.told_linkedid = channel.linkedid
            changes += self._place(party, answer or channel.linkedid, now)
        return changes

    def _take_over(self, party: Party, now: float) -> list[Change]:
        """Move a party into the bridge, and the call, of the channel whose place it has taken."""
        other = taken_over(party, self._parties.values())
        mine, theirs = self._call_of.get(party.id), None if other is None else self._call_of.get(other.id)
        if other is None or other.bridge_id not in self.bridges or mine is None or theirs is None:
            return []
        bridge = self.bridges[other.bridge_id]
        members = [party.id if member == other.id else member for member in bridge.channels]
        self.bridges[bridge.id] = msgspec.structs.replace(bridge, channels=members)
        self._aliases.replace(other.id, party.id)
        changes = self._change(other, self._in_bridge(None)) + self._change(party, self._in_bridge(bridge.id))
        if mine is not theirs:
            older, younger = sorted((mine, theirs), key=lambda call: call.created)
            self._aliases.pick_up(younger.id, older.id)
            for member in [each for each in members if self._call_of.get(each) is younger]:
                changes += self._place(self._parties[member], older.id, now)
        return changes

    def _replace(self, old_id: str, new_id: str, now: float) -> list[Change]:
        """Replace a channel by another."""
        old, new = self._parties.get(old_id), self._parties.get(new_id)
        call = self._call_of.get(old_id)
        if old is None or new is None or call is None or self._aliases.channel(old_id) != old_id:
            return []
        self._aliases.replace(old_id, new_id)
        changes: list[Change] = []
        if old.state != "Up":  # a pickup: the new channel is the answer
            new.take({name: getattr(old, name) for name in INHERITED})
            self._aliases.pick_up(new.told_linkedid or new_id, call.id)
            changes += self._place(new, call.id, now)
            if call.first is old:
                call.first = new
        elif new_id not in self._call_of:  # until Asterisk reports its call
            changes += self._place(new, call.id, now)
        return [*changes, PartyReplaced(call, old, new, self._call_of[new_id].id)]

    def _place(self, party: Party, linkedid: str, now: float) -> list[Change]:
        linkedid = self._aliases.linkedid(linkedid)
        old = self._call_of.get(party.id)
        if old is not None and (old.id == linkedid or OURS.match(linkedid)):
            return []  # an older channel of asterisk-bridge in its bridge does not change its call
        changes: list[Change] = []
        if old is not None:
            old.remove(party)
            changes.append(PartyLeft(old, party, moved_to=linkedid))
        call = self.calls.get(linkedid)
        if call is None:
            call = self.calls[linkedid] = Call(linkedid, party.created)
            self._aliases.begin(linkedid)
            changes.append(CallStarted(call))
        call.add(party)
        self._call_of[party.id] = call
        changes.append(PartyJoined(call, party))
        changes += self._answer(call, now)
        if old is not None and not old.parties:
            del self.calls[old.id]
            self._aliases.merge(old.id, linkedid)
            changes.append(CallEnded(old, merged_into=linkedid))
        return changes

    def _answer(self, call: Call, now: float) -> list[Change]:
        primary = call.primary
        if call.answered or primary is None or not self._talks(call, primary):
            return []
        call.answered, call.answered_at = True, now
        return [CallAnswered(call)]

    def _talks(self, call: Call, party: Party) -> bool:
        """Return whether a party is up, and not just on its way into the call that it picks up."""
        idle = party.born_seen and party.bridge_id is None and party.app_name in ("", *OUTGOING_APPS)
        if party.state != "Up" or idle:
            return False
        return self._call_of.get(party.dialed_by, call) is call

    def _remove(self, channel_id: str, now: float, cause: int, cause_txt: str) -> list[Change]:
        self._unplaced.pop(channel_id, None)
        self.withheld.forget(channel_id)
        remember(self._gone, channel_id, None, MAX_GONE)
        party = self._parties.pop(channel_id, None)
        if party is not None and self._locals.get(party.name) == channel_id:
            del self._locals[party.name]
        call = self._call_of.pop(channel_id, None)
        if party is None or call is None:
            return []
        call.remove(party)
        changes: list[Change] = [PartyLeft(call, party, cause, cause_txt)]
        if call.parties:
            return changes + self._answer(call, now)
        del self.calls[call.id]
        heir = self._call_of.get(self._aliases.channel(channel_id))
        if heir is not None:
            self._aliases.merge(call.id, heir.id)
        return [*changes, CallEnded(call, merged_into=heir.id if heir is not None else None)]

    def _rebridge(self, old_id: str, members: Iterable[str], new_id: str | None) -> list[Change]:
        """Move the members of a bridge to another, or to none."""
        changes: list[Change] = []
        for party in [self._parties[member] for member in members if member in self._parties]:
            if party.bridge_id == old_id:
                changes += self._change(party, self._in_bridge(new_id))
        return changes

    def _in_bridge(self, bridge_id: str | None) -> PartyState:
        bridge = self.bridges.get(bridge_id or "")
        return {"bridge_id": bridge_id, "bridge_creator": "" if bridge is None else bridge.creator}

    def _change(self, party: Party, values: PartyState) -> list[Change]:
        fields = party.take(values)
        call = self._call_of.get(party.id)
        return [PartyChanged(call, party, fields)] if fields and call is not None else []

    def _note_dial(self, event: Dial) -> list[Change]:
        """Store who dialed whom, through Local channels, which may be optimized away later."""
        peer = self._parties.get(event.peer.id)
        if peer is None:
            return []
        values: PartyState = {"dialstring": event.dialstring or peer.dialstring}
        if event.caller is not None and not (event.dialstatus and peer.dialed_by):
            values["dialed_by"] = self._beyond_locals(event.caller.id)
        changes = self._change(peer, values)
        other = self._locals.get(peer.other_half)
        if other is not None and peer.dialed_by:
            # Its other half may have dialed somebody before this event arrived.
            for party in [party for party in self._parties.values() if party.dialed_by == other]:
                changes += self._change(party, {"dialed_by": peer.dialed_by})
        return changes

    def _beyond_locals(self, channel_id: str) -> str:
        party = self._parties.get(channel_id)
        half = self._parties.get(self._locals.get(party.other_half, "")) if party is not None else None
        return half.dialed_by if half is not None and half.dialed_by else channel_id

    def _members_elsewhere(self, bridge: Bridge, channel_id: str) -> list[str]:
        """Return parties in a bridge that belong to another call than a channel does."""
        call = self._call_of.get(channel_id)
        return [member for member in bridge.channels if self._call_of.get(member, call) is not call]

    def _query_where_calls_meet(self, bridge: Bridge, newcomer: str) -> None:
        """Query the newcomer and one other member: the one with the younger call will have moved.

        Further affected members are queried when the response shows a move, so joining a large bridge is cheap.
        """
        if bridge.bridge_class == "base" or OURS.match(newcomer):
            return  # ConfBridge and similar: members stay in their own calls
        others = self._members_elsewhere(bridge, newcomer)
        technical = [member for member in bridge.channels if member not in self._parties and not OURS.match(member)]
        if others or technical:
            candidates = [newcomer, *others[:1]] if newcomer in self._parties else others[:1]
            self._unplaced |= dict.fromkeys(candidates)
