"""Legs: channels in the Stasis application that asterisk-bridge controls, and their bridges."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

from msgspec import Struct

from bridge.ari.client import AriClient
from bridge.ari.dispatch import call_safely
from bridge.ari.model import Channel, ChannelDestroyed, ChannelDtmfReceived, ChannelLeftBridge, Event
from bridge.calls.ids import OwnIds
from bridge.calls.records import Records
from bridge.control.bridges import MixingBridges
from bridge.control.dtmf import DigitQueue
from bridge.control.leg import Leg, LegEnded, LegServices
from bridge.errors import AriError
from bridge.tasks import BackgroundTasks, first_of

__all__ = ["DigitQueue", "HeldCall", "Leg", "LegEnded", "Legs", "Partners"]

log = logging.getLogger(__name__)

STOP_TIMEOUT_S = 3.0
CONFERENCE = "conference"
"""First argument of Stasis() for a call that the dialplan sends into a conference; the second one is its id."""


class HeldCall(Struct, frozen=True):
    """A call that `StasisCalls` held.

    Args:
        channel: its channel; ``dialplan`` is where the call left the dialplan.
        bridge_id: its mixing bridge.
        replaced: the channel that left the dialplan was a different one.
    """

    channel: Channel
    bridge_id: str
    replaced: bool


class Whereabouts(Struct, frozen=True):
    """The legs and channels before a list of channels was requested."""

    legs: Mapping[Leg, object]
    """Where each leg was."""
    channels: Collection[str]
    """`Records.channels`."""


class Partners:
    """Two legs in one bridge."""

    def __init__(self, leg: Leg, other: Leg, bridge_id: str) -> None:
        self.leg = leg
        self.other = other
        self.bridge_id = bridge_id

    async def peer_left(self) -> Leg:
        """Wait until one of them has ended or left the bridge; return which."""
        first = await first_of(self.leg.left(self.bridge_id), self.other.left(self.bridge_id))
        return self.leg if first == 0 else self.other


class Legs:
    """All legs: entering calls that a flow has claimed, calls taken over, and originated ones.

    Args:
        client: ARI; construct this before it is started.
        ids: generates the ids of bridges.
        records: updated with each action.
        context: ``calling.context``.
    """

    def __init__(self, client: AriClient, ids: OwnIds, records: Records, *, context: str = "") -> None:
        self._ids = ids
        self._records = records
        self.claim: Callable[[Channel, Sequence[str]], bool] = lambda *_: False
        """Called with each entering call and Stasis()'s arguments; returns whether a flow takes it."""
        self.on_claimed: Callable[[Leg, Sequence[str]], object] = lambda *_: None
        """Called with each claimed call."""
        self.on_conference: Callable[[Leg, str], object] | None = None
        """Called with each call that the dialplan sends into a conference, and the id of that; None: unsupported."""
        self.on_moved: Callable[[str], object] = lambda _: None
        """Called with the id of each channel that has moved to another bridge, or to none: its streams follow."""
        self.on_left: Callable[[str], object] = lambda _: None
        """Called with the id of each leg that has left."""
        self.take_held: Callable[[str], HeldCall | None] = lambda _: None
        """Takes a held call from `StasisCalls`."""
        self._client = client
        self._legs: dict[str, Leg] = {}
        self._originated: dict[str, Leg] = {}
        """Originated legs, until their channels end, in the Stasis application or not."""
        self._departed: dict[str, Leg] = {}
        """Other legs that have left the Stasis application, until their channels end: requests await the end."""
        self._bridges = MixingBridges(client, ids)
        self._services = LegServices(
            client, self._bridges, records, context, lambda channel_id: self.on_moved(channel_id), self.presume_ended
        )
        self._tasks = BackgroundTasks("legs")
        self._stopping = False
        client.on_replaced(self._on_replaced)
        client.on_parked(self._on_parked)
        client.on_channel_event("ChannelStateChange", self._on_state)
        client.on_channel_event("Dial", self._on_state)
        client.on_channel_event("ChannelDtmfReceived", self._on_digit)
        client.on_channel_event("ChannelLeftBridge", self._on_left_bridge)
        client.on_channel_event("StasisEnd", self._on_end)
        client.on_channel_event("ChannelDestroyed", self._on_end)

    def __len__(self) -> int:
        return len(self._legs)

    @property
    def originated(self) -> int:
        """Number of originated calls that exist."""
        return len(self._originated)

    @property
    def object_ids(self) -> Collection[str]:
        """Ids of all bridges and originated channels in use."""
        return {*self._bridges.ids, *self._originated, *(f"{channel_id};2" for channel_id in self._originated)}

    def get(self, channel_id: str) -> Leg | None:
        """Return the leg of a channel; None if asterisk-bridge does not control it (yet)."""
        return self._legs.get(channel_id)

    @property
    def present(self) -> Collection[Leg]:
        """All legs in the Stasis application now."""
        return [leg for leg in self._legs.values() if leg.entered.is_set() and leg.away is None]

    def is_originated(self, leg: Leg) -> bool:
        """Return whether a leg was originated by asterisk-bridge."""
        return leg.id in self._originated

    async def settled(self) -> None:
        """Wait until bridges that legs have left are deleted, for a limited time."""
        await self._bridges.stop(STOP_TIMEOUT_S)

    def take(self, channel_id: str) -> Leg | None:
        """Take control of a call that is held in the Stasis application; return None if none has this id."""
        leg = self._legs.get(channel_id)
        if leg is None and (held := self.take_held(channel_id)) is not None:
            leg = self._new(channel_id, held.channel.name, answered=True)
            leg.entered.set()
            leg.bridge_id = held.bridge_id
            leg.left_at = held.channel.dialplan if held.replaced else None
            self._bridges.adopt(held.bridge_id, channel_id)
        return leg

    def is_alone(self, leg: Leg) -> bool:
        """Return whether no other leg is in its bridge; always False in a conference."""
        return leg.bridge_id is None or self._bridges.has_only(leg.bridge_id, leg.id)

    def expect(self, channel_id: str) -> Leg:
        """Return the leg of a channel that is about to be created."""
        leg = self._originated[channel_id] = self._new(channel_id, "", answered=False)
        return leg

    def resume(self, channel: Channel, bridge_id: str | None, *, away: bool = False) -> Leg:
        """Take control of a channel that a previous run controlled.

        Args:
            channel: the channel.
            bridge_id: its mixing bridge of asterisk-bridge.
            away: it is in the dialplan and will return.
        """
        leg = self._new(channel.id, channel.name, answered=channel.state == "Up")
        if self._ids.ours(channel.id):
            self._originated[channel.id] = leg
        if away:
            leg.away = asyncio.get_running_loop().create_future()
        else:
            leg.entered.set()
        if bridge_id is not None:
            if self._ids.kind(bridge_id) == "hold":
                self._bridges.resume(bridge_id, channel.id)
            leg.bridge_id = bridge_id
        return leg

    def presume_ended(self, leg: Leg) -> None:
        """Treat a leg's channel as ended although no event has reported it."""
        self._forget(leg, leg.cause, ended=True)

    async def bridge_together(self, leg: Leg, other: Leg) -> Partners:
        """Move ``other`` into the bridge of ``leg``, to connect them."""
        bridge_id = await leg.hold_in_bridge()
        await other.move_to(bridge_id)
        return Partners(leg, other, bridge_id)

    def together(self, leg: Leg, other: Leg) -> Partners | None:
        """Return two legs that are in one bridge already; None: they are not."""
        bridge_id = leg.bridge_id
        return None if bridge_id is None or bridge_id != other.bridge_id else Partners(leg, other, bridge_id)

    def entered(self, channel: Channel, args: Sequence[str]) -> bool:
        """Handle a channel that entered the Stasis application; return whether it is a leg."""
        leg = self._legs.get(channel.id)
        if leg is not None:
            leg.name = channel.name
            leg.entered.set()
            if channel.state == "Up":
                leg.was_answered()
            leg.reattach()
            return True
        if self._stopping:
            return False
        if args[:1] == [CONFERENCE] and len(args) > 1 and self.on_conference is not None:
            leg = self._adopt(channel)
            call_safely(self.on_conference, leg, args[1])
            return True
        if self._ids.ours(channel.id):
            return False
        try:
            claimed = self.claim(channel, args)
        except Exception:
            log.exception("selecting a flow failed, an internal error channel=%s", channel.id)
            return False
        if claimed:
            call_safely(self.on_claimed, self._adopt(channel), args)
        return claimed

    def whereabouts(self) -> Whereabouts:
        """Return the whereabouts of each leg; call before listing channels, for `reconcile`."""
        legs = [*self._legs.values(), *self._originated.values(), *self._departed.values()]
        return Whereabouts({leg: leg.whereabouts for leg in legs}, self._records.channels)

    def reconcile(
        self,
        channels: Iterable[Channel],
        in_application: Callable[[Channel], bool],
        before: Whereabouts,
    ) -> None:
        """Synchronize with the channels of the PBX after events may have been lost.

        Args:
            channels: all channels.
            in_application: returns whether a channel is in the Stasis application.
            before: `whereabouts` from before the list. Later events about a leg are newer than the list.
        """
        existing = {channel.id: channel for channel in channels}
        for leg, whereabouts in before.legs.items():
            if leg.whereabouts != whereabouts:
                continue
            channel = existing.get(leg.id)
            if channel is None:
                # Not for a channel that is just being created: its StasisStart has not arrived.
                if leg.entered.is_set() or leg.away is not None or leg.gone.is_set():
                    self._forget(leg, 0, ended=True)
            elif in_application(channel):
                if leg.id in self._legs:
                    self.entered(channel, ())
            elif leg.entered.is_set() and leg.away is None and not leg.gone.is_set():
                self._forget(leg, 0, ended=False)
        present = {*existing, *(leg.id for leg in self._originated.values())}
        self._records.channels_there(present, before.channels)

    async def stop(self) -> None:
        """Hang up originated calls, let the others continue in the dialplan, and delete the legs' bridges."""
        self._stopping = True
        acts: list[Awaitable[object]] = [leg.hang_up() for leg in self._originated.values()]
        acts += [
            leg.continue_in_dialplan()
            for leg in self._legs.values()
            if leg.id not in self._originated and leg.away is None  # legs in the dialplan stay there
        ]
        tasks = [asyncio.ensure_future(act) for act in acts]
        # Limited, as Asterisk may be gone, and with it the events of their ends.
        done, late = await asyncio.wait(tasks, timeout=STOP_TIMEOUT_S) if tasks else (set(), set())
        for task in late:
            task.cancel()
        for result in await asyncio.gather(*done, *late, return_exceptions=True):
            if isinstance(result, BaseException) and not isinstance(result, LegEnded):
                log.warning("leg not ended at shutdown error=%s", result or type(result).__name__)
        await self._tasks.stop(STOP_TIMEOUT_S)
        await self._bridges.stop(STOP_TIMEOUT_S)

    def _new(self, channel_id: str, name: str, *, answered: bool) -> Leg:
        leg = self._legs[channel_id] = Leg(channel_id, name, self._services, answered=answered)
        return leg

    def _adopt(self, channel: Channel) -> Leg:
        leg = self._new(channel.id, channel.name, answered=channel.state == "Up")
        leg.entered.set()
        return leg

    # Events from Asterisk

    def _on_replaced(self, old: Channel, new: Channel) -> None:
        for legs in (self._legs, self._originated):
            if old.id in legs:
                legs[new.id] = legs.pop(old.id)
        leg = self._legs.get(new.id)
        if leg is None:
            return
        log.info("channel replaced another channel=%s replaced=%s", new.id, old.id)
        self._bridges.replace(old.id, new.id)
        leg.replaced(old, new)
        self._tasks.spawn(self._restore(leg))

    def _on_parked(self, bridge_id: str) -> None:
        for leg in self._legs.values():
            if leg.bridge_id == bridge_id:
                leg.parked = True

    async def _restore(self, leg: Leg) -> None:
        try:
            await leg.restore()
        except LegEnded:
            pass
        except AriError as error:
            log.warning("mute or hold failed after a transfer channel=%s error=%s", leg.id, error)

    def _on_state(self, channel: Channel, _: Event) -> None:
        leg = self._legs.get(channel.id)
        if leg is not None and channel.state == "Up":
            leg.was_answered()

    def _on_digit(self, channel: Channel, event: Event) -> None:
        leg = self._legs.get(channel.id)
        if leg is not None and isinstance(event, ChannelDtmfReceived):
            leg.digits.put(event.digit)

    def forget_digits(self, channel_ids: Iterable[str]) -> None:
        """Discard waiting digits: those of sensitive mode are not for later actions."""
        for channel_id in channel_ids:
            leg = self._legs.get(channel_id)
            if leg is not None:
                leg.digits.clear()

    def _on_left_bridge(self, channel: Channel, event: Event) -> None:
        leg = self._legs.get(channel.id)
        if leg is None or leg.moving or not isinstance(event, ChannelLeftBridge):
            return
        if leg.bridge_id == event.bridge.id:
            leg.in_bridge(None)

    def _on_end(self, channel: Channel, event: Event) -> None:
        ended = isinstance(event, ChannelDestroyed)
        leg = self._legs.get(channel.id) or self._originated.get(channel.id) or self._departed.get(channel.id)
        if leg is not None and (ended or leg.away is None):
            self._forget(leg, event.cause if isinstance(event, ChannelDestroyed) else 0, ended=ended)

    def _forget(self, leg: Leg, cause: int, *, ended: bool) -> None:
        present = self._legs.pop(leg.id, None) is not None
        if ended:
            self._originated.pop(leg.id, None)
            self._departed.pop(leg.id, None)
        elif leg.id not in self._originated:
            self._departed[leg.id] = leg
        leg.channel_gone(cause, ended=ended)
        if leg.bridge_id is not None:
            leg.in_bridge(None)
        if ended and leg.redials and not leg.given_up:
            leg.redialed = self.expect(leg.id)
        if present:
            call_safely(self.on_left, leg.id)
