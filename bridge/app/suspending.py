"""An orderly stop hands the calls that asterisk-bridge controls to the next run, or to an extension."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from bridge.ari.client import AriClient
from bridge.calls.journal import Journal
from bridge.config.restart import RestartConfig
from bridge.control.legs import Legs
from bridge.control.stasis import StasisCalls
from bridge.errors import AriError, BridgeError

log = logging.getLogger(__name__)

PARKED = "parked"
"""The kind of facts of channels that wait for the next run."""
LOOK_S = 0.1
TIMEOUT = "TIMEOUT(absolute)"
_OF_TAPS = re.compile(r"-(snoop|media|mix|play)-")
"""Paths of objects that a stop still removes from the PBX; all others belong to the next run."""


class Suspending:
    """Prepares the calls for a stop.

    Args:
        journal: stores what the next run needs; without a file for it, calls end.
        config: what happens to the calls.
    """

    def __init__(
        self, journal: Journal, config: RestartConfig, *, client: AriClient, legs: Legs, stasis: StasisCalls
    ) -> None:
        self._journal = journal
        self._config = config
        self._client = client
        self._legs = legs
        self._stasis = stasis

    async def drain(self, load: Callable[[], int]) -> None:
        """Wait until the calls and streams that ``load`` counts have ended, for at most ``restart.drain_s``."""
        log.info("draining calls_and_streams=%d limit_s=%g", load(), self._config.drain_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._config.drain_s):
                while load():  # noqa: ASYNC110  # nothing reports every change of it
                    await asyncio.sleep(LOOK_S)

    async def suspend(self) -> bool:
        """Hand the calls to the next run; return whether that was done: nothing may end them any more then."""
        if self._config.extension is not None:
            extension, context = self._config.extension
            await hand_over(self._legs, extension, context)
            move = self._client.channels.continue_in_dialplan
            await _all(move(channel_id, context, extension, 1) for channel_id in self._stasis.held_ids)
            await asyncio.gather(self._legs.settled(), self._stasis.stop())
            self._only_taps()
            return True
        if not self._journal.kept:
            return False
        channel_ids = [leg.id for leg in self._legs.present if leg.answered] + list(self._stasis.held_ids)
        for channel_id in channel_ids:
            self._journal.put(PARKED, channel_id, {})
        await self._journal.freeze()
        alone = {leg.id for leg in self._legs.present if self._legs.is_alone(leg)} | set(self._stasis.held_ids)
        await _all(self._park(channel_id, channel_id in alone) for channel_id in channel_ids)
        self._only_taps()
        if channel_ids:
            log.info("calls wait for the next run seconds=%d count=%d", self._config.wait_s, len(channel_ids))
        return True

    def _only_taps(self) -> None:
        self._client.allow_only(lambda path: _OF_TAPS.search(path) is not None)

    async def _park(self, channel_id: str, alone: bool) -> None:
        await self._client.channels.set_variable(channel_id, TIMEOUT, str(self._config.wait_s))
        if alone:
            await self._client.channels.moh(channel_id)


async def unpark(client: AriClient, parked: Mapping[str, Any], channel_ids: Iterable[str]) -> None:
    """Remove the time limit and the music from calls that waited."""

    async def one(channel_id: str) -> None:
        await client.channels.set_variable(channel_id, TIMEOUT, "0")
        await client.channels.moh_stop(channel_id)

    await _all(one(channel_id) for channel_id in channel_ids if channel_id in parked)


async def end_holds(client: AriClient, held: Mapping[str, Any], channel_ids: Iterable[str]) -> None:
    """Resume callers whom a model had put on hold."""

    async def one(channel_id: str) -> None:
        await client.channels.unmute(channel_id, "in")
        await client.channels.unhold(channel_id)

    await _all(one(channel_id) for channel_id in channel_ids if channel_id in held)


async def hand_over(legs: Legs, extension: str, context: str) -> None:
    """Send calls to an extension, and hang up phones that only ring; return when they have left."""
    await _all(
        leg.continue_in_dialplan(context, extension, 1)
        if leg.answered or not legs.is_originated(leg)
        else leg.hang_up()
        for leg in legs.present
    )


async def _all(acts: Iterable[Awaitable[None]]) -> None:
    for result in await asyncio.gather(*acts, return_exceptions=True):
        if isinstance(result, AriError) and result.status == 404:
            continue  # it has ended
        if isinstance(result, BridgeError):
            log.warning("suspending or handing over a call failed error=%s", result)
        elif isinstance(result, BaseException):
            raise result
