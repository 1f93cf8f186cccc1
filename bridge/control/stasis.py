"""Calls in the Stasis application: each is answered and held in its own mixing bridge, which streams join.

Except legs (`bridge.control.legs`), which flows control.

The bridge is deleted when the caller leaves. Channels that the dialplan sent to another application are ignored. A
channel that replaces a held one (its phone transfers the call) is held instead, in the same bridge. A failed hold is
retried while the caller is present: without it the caller neither receives nor sends audio.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import re
from collections.abc import Callable, Collection, Sequence
from typing import Literal

import msgspec
from msgspec import Struct, field

from bridge.ari.client import AriClient
from bridge.ari.dispatch import call_safely
from bridge.ari.model import Channel, Event, StasisStart
from bridge.calls.ids import OwnIds
from bridge.control.bridges import delete_bridge
from bridge.control.legs import HeldCall, LegEnded, Legs
from bridge.errors import AriError
from bridge.logs import cause
from bridge.tasks import BackgroundTasks

log = logging.getLogger(__name__)

Refusal = tuple[Literal["hangup", "continue"], str]
"""Action for a call that is not accepted, and the reason."""
HOLD_TIMEOUT_S = 3.0
"""Time that a stream waits for a call that is just being held, in seconds."""
REPLACED_S = 3.0
"""Maximum time in seconds that a phone takes to end a call that it has transferred."""
RETRY_S = (0.2, 0.5, 1.0, 2.0)
"""Waits between attempts to hold a call, in seconds; the last one repeats."""
_DIGITS = re.compile(r"\d+")


class _Held(Struct, eq=False):
    """One call in the Stasis application."""

    channel: Channel
    """Its ``dialplan`` is where the call left the dialplan, whichever channel it has now."""
    bridge_id: str
    replaced: bool = False
    """Whether the channel that left the dialplan was a different one."""
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the call is in its bridge."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the call has left."""
    rejoining: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while it leaves its bridge and joins it again."""
    task: asyncio.Task[None] | None = None


class StasisCalls:
    """Holds the calls that entered the Stasis application.

    Args:
        client: ARI.
        ids: generates the ids of bridges.
        legs: first gets each entering channel; its legs are not held here. None: every call is held.
        shared_app: the application that hands calls over to the Stasis application; their ``dialplan`` still has its
            name.
    """

    def __init__(self, client: AriClient, ids: OwnIds, legs: Legs | None = None, *, shared_app: str = "") -> None:
        self._client = client
        self._ids = ids
        self._legs = legs
        self._shared_app = shared_app
        self._handed: set[str] = set()
        """Calls that were handed over to the Stasis application, and are in it."""
        self.held_elsewhere: Callable[[str], str | None] = lambda _: None
        """Returns the bridge of a call that another worker holds."""
        self.refusal: Callable[[Channel, Sequence[str]], Refusal | None] = lambda *_: None
        """Returns what happens to a call that cannot be accepted, and why; None: it is accepted."""
        self._held: dict[str, _Held] = {}
        self._left: set[str] | None = None
        """Channels that leave or end while `adopt` lists channels; None: it does not."""
        self._tasks = BackgroundTasks("held calls")
        self._stopping = False
        self.on_held: Callable[[Channel, str], object] = lambda *_: None
        """Called with the channel and the bridge of each call from when it is held."""
        self.on_released: Callable[[str], object] = lambda _: None
        """Called with the channel's id of each call that has left the Stasis application, or is not held in it."""
        if legs is not None:
            legs.take_held = self._hand_over
            legs.on_left = self._leg_left
        client.on_replaced(self._on_replaced)
        client.on_channel_event("StasisStart", self._on_start)
        client.on_channel_event("StasisEnd", self._on_gone)
        client.on_channel_event("ChannelDestroyed", self._on_gone)

    def __len__(self) -> int:
        return len(self._held)

    @property
    def object_ids(self) -> Collection[str]:
        """Ids of the bridges in use, and of originated channels."""
        return {*(held.bridge_id for held in self._held.values()), *(self._legs.object_ids if self._legs else ())}

    def bridge_of(self, channel_id: str) -> str | None:
        """Return the mixing bridge of a channel; None outside the Stasis application, or if it is not held yet."""
        leg = self._legs.get(channel_id) if self._legs else None
        if leg is not None:
            return leg.bridge_id
        held = self._held.get(channel_id)
        if held is None:
            return self.held_elsewhere(channel_id)
        return held.bridge_id if held.ready.is_set() else None

    async def rejoin(self, channel_id: str) -> None:
        """Remove a channel from the bridge that holds it and add it again; do nothing for any other channel.

        Asterisk begins to decode its audio from scratch then.

        Raises:
            AriError: Asterisk failed.
        """
        leg = self._legs.get(channel_id) if self._legs else None
        if leg is not None:
            with contextlib.suppress(LegEnded):
                await leg.rejoin()
            return
        held = self._held.get(channel_id)
        if held is None or not held.ready.is_set():
            return
        async with held.rejoining:
            if self._held.get(held.channel.id) is not held:
                return  # left, or taken over, since the previous time
            await self._client.bridges.remove_channel(held.bridge_id, held.channel.id)
            while not held.gone.is_set():
                try:
                    await self._client.bridges.add_channel(held.bridge_id, held.channel.id)
                    return
                except AriError as error:
                    log.warning("holding failed, trying again channel=%s error=%s", held.channel.id, error)
                    await asyncio.sleep(RETRY_S[-1])

    async def settled(self, channel_id: str) -> None:
        """Wait until a call that has just entered Stasis is in its mixing bridge; return immediately for any other.

        Raises:
            AriError: the call is not in the bridge in time.
        """
        held = self._held.get(channel_id)
        if held is None:
            return
        try:
            async with asyncio.timeout(HOLD_TIMEOUT_S):
                await held.ready.wait()
        except TimeoutError:
            raise AriError(0, "POST", f"/bridges/{held.bridge_id}", "the call could not be answered yet") from None

    async def adopt(self) -> None:
        """Hold the calls that are in the Stasis application already, and release those that are no longer.

        Raises:
            AriError: Asterisk refused to list the channels.
        """
        before = set(self._held)  # later ones arrive by events, and may be missing in the list
        legs_before = self._legs.whereabouts() if self._legs is not None else None
        left: set[str] = set()
        self._left = left
        try:
            channels = {channel.id: channel for channel in await self._client.channels.list()}
        finally:
            self._left = None
        if self._legs is not None and legs_before is not None:
            self._legs.reconcile(channels.values(), self._is_here, legs_before)
        here = {channel.id for channel in channels.values() if self._is_ours_to_hold(channel)} - left
        for gone in before - here:
            self._release(gone)
        for channel_id in here:
            if self._legs is not None and self._legs.get(channel_id) is not None:
                continue  # reconciled, or later than the list
            channel = channels[channel_id]
            if channel_id in self._held or not self._is_leg(channel, channel.dialplan.app_data.split(",")[1:]):
                self._hold(channel)

    @property
    def held_ids(self) -> Collection[str]:
        """Ids of the held channels."""
        return tuple(self._held)

    async def stop(self, *, suspended: bool = False) -> None:
        """Stop holding calls, and delete the bridges, for the end of the process. The calls stay in the application.

        Args:
            suspended: keep the bridges as well, until the next run replaces them.
        """
        self._stopping = True
        for channel_id in () if suspended else tuple(self._held):
            self._release(channel_id)
        await self._tasks.stop(grace_s=5)

    def resume(self, channel: Channel) -> bool:
        """Return whether a channel that a previous run controlled is still in the Stasis application."""
        dialplan = channel.dialplan
        if dialplan.app_name == "Stasis" and self._shared_app == dialplan.app_data.split(",", 1)[0] != "":
            self._handed.add(channel.id)
        return self._is_here(channel)

    def _is_ours_to_hold(self, channel: Channel) -> bool:
        return not self._ids.ours(channel.id) and self._is_here(channel)

    def _is_here(self, channel: Channel) -> bool:
        dialplan = channel.dialplan
        app = dialplan.app_data.split(",", 1)[0]
        return dialplan.app_name == "Stasis" and (app == self._ids.app or channel.id in self._handed)

    def _is_leg(self, channel: Channel, args: Sequence[str]) -> bool:
        return self._legs is not None and self._legs.entered(channel, args)

    def _on_replaced(self, old: Channel, new: Channel) -> None:
        self._tasks.spawn(self._end_replaced(old.id))
        if old.id in self._handed:
            self._handed.add(new.id)
        held = self._held.pop(old.id, None)
        if held is not None:
            log.info("channel replaced another channel=%s replaced=%s", new.id, old.id)
            held.channel = msgspec.structs.replace(new, dialplan=held.channel.dialplan)
            held.replaced = True
            self._held[new.id] = held

    def _on_start(self, channel: Channel, event: Event) -> None:
        if event.application != self._ids.app:
            return
        if self._shared_app and channel.dialplan.app_data.split(",", 1)[0] == self._shared_app:
            self._handed.add(channel.id)
        if channel.id in self._held:
            return
        started = event if isinstance(event, StasisStart) else None
        if started is not None and self._is_new(channel, started):
            refusal = self.refusal(channel, started.args)
            if refusal is not None:
                self._tasks.spawn(self._refuse(channel, *refusal))
                return
        if self._is_leg(channel, started.args if started else ()):
            return
        if self._is_ours_to_hold(channel):
            self._hold(channel)
        else:
            call_safely(self.on_released, channel.id)  # admitted: release its reservation

    def _is_new(self, channel: Channel, started: StasisStart) -> bool:
        known = self._legs is not None and self._legs.get(channel.id) is not None
        return not known and started.replace_channel is None and not self._ids.ours(channel.id)

    async def _refuse(self, channel: Channel, then: Literal["hangup", "continue"], why: str) -> None:
        """Reject an unanswered call, as Asterisk does without circuits, or return it to the dialplan."""
        log.warning(
            "call refused channel=%s then=%s reason=%s", channel.id, then, why, extra=cause(_DIGITS.sub("", why))
        )
        try:
            if then == "hangup":
                await self._client.channels.hangup(channel.id, "congestion")
            else:
                await self._client.channels.continue_in_dialplan(channel.id)
        except AriError as error:
            log.warning("rejecting a call failed channel=%s error=%s", channel.id, error, extra=cause(error.message))

    async def _end_replaced(self, channel_id: str) -> None:
        """Hang up a replaced channel if its phone does not end the call that it has transferred.

        Asterisk leaves it in the Stasis application, outside all bridges.
        """
        with self._client.expect("StasisEnd", channel_id) as left:
            with contextlib.suppress(AriError):
                await left.wait(REPLACED_S)
                return
            try:
                await self._client.channels.hangup(channel_id)
            except AriError as error:
                log.warning("hangup failed channel=%s error=%s", channel_id, error)

    def _hand_over(self, channel_id: str) -> HeldCall | None:
        """Hand a held call over to `Legs`; return None if none with this id is in its bridge."""
        held = self._held.get(channel_id)
        if held is None or not held.ready.is_set() or held.rejoining.locked():
            return None
        del self._held[channel_id]
        return HeldCall(held.channel, held.bridge_id, held.replaced)

    def _leg_left(self, channel_id: str) -> None:
        call_safely(self.on_released, channel_id)

    def _on_gone(self, channel: Channel, _: Event) -> None:
        self._handed.discard(channel.id)
        if self._left is not None:
            self._left.add(channel.id)
        self._release(channel.id)

    def _hold(self, channel: Channel) -> None:
        if self._stopping or channel.id in self._held:
            return  # adopted before its StasisStart arrived
        held = self._held[channel.id] = _Held(channel, self._ids.new("hold"))
        held.task = self._tasks.spawn(self._keep_trying(held))

    async def _keep_trying(self, held: _Held) -> None:
        for wait_s in itertools.chain(RETRY_S, itertools.repeat(RETRY_S[-1])):
            if held.gone.is_set():
                return
            try:
                await self._client.channels.answer(held.channel.id)
                await self._client.bridges.create(bridge_id=held.bridge_id, type="mixing", name=held.bridge_id)
                await self._client.bridges.add_channel(held.bridge_id, held.channel.id)
            except AriError as error:
                if held.gone.is_set():
                    return
                log.warning(
                    "holding failed, retrying channel=%s error=%s",
                    held.channel.id,
                    error,
                    extra=cause(error.message),
                )
                await delete_bridge(self._client, held.bridge_id)  # for the next attempt
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await held.gone.wait()
                continue
            held.ready.set()
            log.info("call answered and held channel=%s mixing_bridge=%s", held.channel.id, held.bridge_id)
            call_safely(self.on_held, held.channel, held.bridge_id)
            return

    def _release(self, channel_id: str) -> None:
        held = self._held.pop(channel_id, None)
        if held is not None:
            log.info("call left the application channel=%s", channel_id)
            self._tasks.spawn(self._let_go(held))
            call_safely(self.on_released, channel_id)

    async def _let_go(self, held: _Held) -> None:
        held.gone.set()
        if held.task is not None:
            # Not cancelled: a half-finished request could create the bridge just after its deletion.
            await asyncio.gather(held.task, return_exceptions=True)
        await delete_bridge(self._client, held.bridge_id)
