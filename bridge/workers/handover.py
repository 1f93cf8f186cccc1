"""Distributes calls that enter the shared Stasis application to workers.

ARI moves a channel from one application to another, invisible to the dialplan: the worker gets a StasisStart with the
dialplan's arguments. The channel's ``dialplan.app_data`` still names the shared application (seen on 22.10.1), and
``GET /applications/{app}`` does not list it, so the worker of each call is stored here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Collection, Sequence

from msgspec import Struct, field

from bridge.ari.client import AriClient
from bridge.ari.model import Channel, Event, StasisStart
from bridge.calls.journal import OF_LEGS, channels_in, journal_file
from bridge.errors import AriError
from bridge.tasks import BackgroundTasks, first_of
from bridge.workers.control import Control
from bridge.workers.worker_pool import WorkerPool, app_of

log = logging.getLogger(__name__)

WAIT_FOR_WORKER_S = 10.0
"""How long a call waits for a worker that can take it; then it continues in the dialplan."""
FIRST_WORKER_S = 60.0
"""How long calls of a previous run wait for the first worker: its start takes longer than the above on a busy
machine."""
MOVED_S = 5.0
"""How long Asterisk may take to move a channel."""


class _Waiting(Struct, eq=False):
    """A call that is being moved to a worker."""

    args: Sequence[str]
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the call has left the shared application."""
    refused: asyncio.Event = field(default_factory=asyncio.Event)
    """Asterisk could not move it."""


class HandOver:
    """Moves calls to workers, and those of a worker that ends to others.

    Args:
        client: connected as the shared application.
        pool: the workers.
        control: notifies the workers which of them has a call.
        state_file: beside it, workers store what they need to resume calls after a restart.
    """

    def __init__(self, client: AriClient, pool: WorkerPool, control: Control, state_file: str = "") -> None:
        self._state_file = state_file
        self._client = client
        self._pool = pool
        self._control = control
        self._waiting: dict[str, _Waiting] = {}
        self._ready = asyncio.Event()
        self._serving = asyncio.Event()
        """A worker has been ready since the start."""
        self._tasks = BackgroundTasks("handover")
        self.stopping = False
        self.draining = False
        """The process stops when its calls and streams have ended: inbound calls continue in the dialplan."""
        client.on_channel_event("StasisStart", self._on_start)
        client.on_channel_event("StasisEnd", self._on_left)
        client.on_channel_event("ChannelDestroyed", self._on_left)
        client.on_event("ApplicationMoveFailed", self._on_refused)
        client.on_connected(lambda: self._tasks.spawn(self._settle()))

    def worker_ready(self) -> None:
        """Handle that a worker can take calls."""
        self._ready.set()
        self._serving.set()

    def worker_gone(self, number: int) -> None:
        """Move the calls of a worker that has ended to others."""
        if not self.stopping:
            self._tasks.spawn(self._rescue(number))

    async def stop(self) -> None:
        """Stop moving calls."""
        self.stopping = True
        await self._tasks.stop()

    def _on_start(self, channel: Channel, event: Event) -> None:
        if not isinstance(event, StasisStart) or event.application != self._client.app:
            return
        if self.draining:
            self._tasks.spawn(self._client.channels.continue_in_dialplan(channel.id))
        else:
            self._take(channel.id, event.args)

    def _on_left(self, channel: Channel, _: Event) -> None:
        waiting = self._waiting.get(channel.id)
        if waiting is not None:
            waiting.left.set()

    def _on_refused(self, event: Event) -> None:
        waiting = self._waiting.get(event.channel.id) if event.channel is not None else None
        if waiting is not None:
            waiting.refused.set()

    def _take(self, channel_id: str, args: Sequence[str]) -> None:
        if not self.stopping and channel_id not in self._waiting:
            self._waiting[channel_id] = waiting = _Waiting(args)
            self._tasks.spawn(self._hand_over(channel_id, waiting))

    async def _hand_over(self, channel_id: str, waiting: _Waiting) -> None:
        try:
            await first_of(self._serving.wait(), timeout_s=FIRST_WORKER_S)
            async with asyncio.timeout(WAIT_FOR_WORKER_S):
                while not await self._move(channel_id, waiting):
                    pass
        except TimeoutError:
            log.error("no worker can take the channel, it continues in the dialplan channel=%s", channel_id)
            await self._client.channels.continue_in_dialplan(channel_id)
        except AriError as error:
            if error.status != 404:  # otherwise the call has just ended
                log.warning("handover failed channel=%s error=%s", channel_id, error)
        finally:
            del self._waiting[channel_id]

    async def _move(self, channel_id: str, waiting: _Waiting) -> bool:
        refused: set[int] = set()
        while (number := self._pool.assign(channel_id, waiting.args, refused)) is not None:
            waiting.left.clear()
            waiting.refused.clear()
            self._pool.settle(channel_id, number, waiting.args)
            self._control.settle(channel_id, number)  # before the move: all workers must know its worker
            self._pool.given(number)
            started = asyncio.get_running_loop().time()
            await self._client.channels.move(channel_id, app_of(self._client.app, number), waiting.args)
            if await self._moved(waiting):
                took_ms = (asyncio.get_running_loop().time() - started) * 1000
                log.info("handed over channel=%s worker=%d ms=%.0f", channel_id, number, took_ms)
                return True
            log.warning("worker is not connected to Asterisk channel=%s worker=%d", channel_id, number)
            refused.add(number)
        self._ready.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._ready.wait()
        return False

    async def _moved(self, waiting: _Waiting) -> bool:
        """Return whether a channel has arrived."""
        await first_of(waiting.left.wait(), waiting.refused.wait(), timeout_s=MOVED_S)
        return not waiting.refused.is_set()

    async def _rescue(self, number: int) -> None:
        """Move the calls of a worker that has ended, except those that it resumes when it is restarted."""
        mine = {channel_id: args for channel_id, (home, args) in self._pool.homes.items() if home == number}
        if not mine:
            return
        try:
            there = {channel.id for channel in await self._client.channels.list() if _in_stasis(channel)}
        except AriError as error:
            log.warning("handover failed, no worker has the calls worker=%d error=%s", number, error)
            return
        resumed = await self._resumed_by(number)
        for channel_id, args in mine.items():
            if channel_id in resumed:
                continue
            if channel_id in there and self._pool.homes.get(channel_id, (0, ()))[0] == number:
                log.info("the worker of a channel has ended channel=%s worker=%d", channel_id, number)
                await self._bring_back(channel_id, args)

    async def _resumed_by(self, number: int) -> Collection[str]:
        """Return the channels that a worker resumes when it is restarted."""
        return await asyncio.to_thread(channels_in, journal_file(self._state_file, number), OF_LEGS)

    async def _bring_back(self, channel_id: str, args: Sequence[str]) -> None:
        """Move a channel from an application without a program into the shared one, as if it were new."""
        try:
            await self._client.channels.move(channel_id, self._client.app, args)
        except AriError as error:
            if error.status != 404:
                log.warning("handover failed, no worker has the channel channel=%s error=%s", channel_id, error)

    async def _settle(self) -> None:
        """Handle, after each connect, waiting calls and those of workers of a previous run."""
        try:
            channels = await self._client.channels.list()
            bridges = await self._client.bridges.list()
        except AriError as error:
            log.warning("reading the calls that wait for a worker failed error=%s", error)
            return
        resumed: dict[str, int] = {}
        for number in range(1, self._pool.count + 1):
            resumed |= dict.fromkeys(await self._resumed_by(number), number)
        for channel in channels:
            app, *args = channel.dialplan.app_data.split(",")
            if channel.id in resumed and channel.id not in self._pool.homes:
                self._pool.settle(channel.id, resumed[channel.id], args)
                self._control.settle(channel.id, resumed[channel.id])
            known = channel.id in self._pool.homes or channel.id in self._waiting or _ours(app, channel.id)
            if _in_stasis(channel) and app == self._client.app and not known:
                # It is in the shared application, or in that of a worker of a previous run; its event is lost either
                # way.
                await self._bring_back(channel.id, args)
        await self._sweep([each.id for each in channels], [each.id for each in bridges])

    async def _sweep(self, channel_ids: Sequence[str], bridge_ids: Sequence[str]) -> None:
        """Delete objects of an instance with one process, or of workers that no longer exist."""
        for object_ids, delete in (
            (channel_ids, self._client.channels.hangup),
            (bridge_ids, self._client.bridges.destroy),
        ):
            for object_id in object_ids:
                found = re.match(rf"ab-{self._client.app}(?:_w(\d+))?-", object_id)
                if found and not (found[1] and int(found[1]) <= self._pool.count):
                    try:
                        await delete(object_id)
                    except AriError as error:
                        log.warning("sweep failed, the next one tries again error=%s", error)


def _in_stasis(channel: Channel) -> bool:
    return channel.dialplan.app_name == "Stasis"


def _ours(app: str, object_id: str) -> bool:
    return re.match(rf"ab-{app}(_w\d+)?-", object_id) is not None
