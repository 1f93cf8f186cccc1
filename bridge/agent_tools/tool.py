"""A tool that a model may call, and the call that it acts on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from msgspec import Struct

from bridge.access import Principal
from bridge.agent_tools.voice import Voice
from bridge.ari.client import AriClient
from bridge.audit import NO_AUDIT, Audit
from bridge.calls.journal import ON_HOLD, Journal
from bridge.calls.records import Records
from bridge.conferences.conferences import Conferences
from bridge.config.agent_limits import AgentLimits
from bridge.control.call_control import CallControl, NotControlled
from bridge.control.dial_policy import DialPolicy
from bridge.control.legs import Leg, LegEnded
from bridge.control.playback import Players
from bridge.errors import AriError, BridgeError
from bridge.events.hub import Events
from bridge.speech.announcement import Announcements
from bridge.tasks import BackgroundTasks

log = logging.getLogger(__name__)

QUIET_S = 0.5
"""Time without queued audio after which the model has finished speaking: its audio arrives in pieces, and Asterisk and
the phone play what they have for a few frames longer."""
MAX_SPEAKING_S = 60.0
"""Longest wait for the model to finish speaking, in seconds."""
POLL_S = 0.05


class ToolFailed(BridgeError):
    """A tool failed; the message is for the model."""


class ToolRefused(ToolFailed):
    """The configuration does not allow the action of a tool; the message is for the model."""


class ToolServices(Struct, frozen=True):
    """The parts of asterisk-bridge that tools use; ``bring`` moves a call into a conference."""

    client: AriClient
    call_control: CallControl
    records: Records
    conferences: Conferences
    bring: Callable[[Leg, str], object]
    players: Players
    policy: DialPolicy
    announcements: Announcements
    events: Events
    journal: Journal
    is_sensitive: Callable[[str], bool] = lambda _: False
    audit: Audit = NO_AUDIT


@dataclass(eq=False, slots=True)
class AgentCall:
    """The call that a model is on.

    Args:
        voice: the stream.
        limits: what the model may do.
        principal: who started the stream.
        services: the parts of asterisk-bridge that tools use.
        tasks: outlives the stream.
    """

    voice: Voice
    limits: AgentLimits
    principal: Principal
    services: ToolServices
    tasks: BackgroundTasks
    helpers: set[asyncio.Task[None]] = field(default_factory=set)
    """Tasks that tools have started; the end of the stream cancels them."""
    leaving: asyncio.Task[Any] | None = None
    """The tool that hands the call to something else: the end of the stream cancels all others."""
    held: asyncio.Task[None] | None = None
    """Keeps the caller on hold until it is cancelled."""
    filling: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by the tool whose filler is played."""
    _changing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def channel_id(self) -> str:
        """The caller's channel.

        Raises:
            ToolFailed: it is unknown yet.
        """
        channel_id = self.voice.channel_id
        if not channel_id:
            raise ToolFailed("the call is not connected yet")
        return channel_id

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task that is canceled when the stream ends."""
        task = self.tasks.spawn(work)
        self.helpers.add(task)
        task.add_done_callback(self.helpers.discard)
        return task

    def leg(self, what: str) -> Leg:
        """Take control of the call.

        Args:
            what: for the error.

        Raises:
            ToolFailed: the call has ended, or is not in the Stasis application.
        """
        try:
            return self.services.call_control.leg(self.channel_id, what)
        except KeyError:
            raise ToolFailed("the call has ended") from None
        except NotControlled:
            raise ToolFailed(f"{what} is impossible: asterisk-bridge does not control this call") from None

    async def spoken(self) -> None:
        """Wait until all audio of the model has been played to the caller, at most `MAX_SPEAKING_S`."""
        await self.silence(QUIET_S)

    async def silence(self, seconds: float) -> None:
        """Wait until no audio has been queued for the caller for ``seconds``, at most `MAX_SPEAKING_S`."""
        loop = asyncio.get_running_loop()
        quiet_since = began = loop.time()
        while loop.time() - quiet_since < seconds and loop.time() - began < MAX_SPEAKING_S:
            await asyncio.sleep(POLL_S)
            if self.voice.queued_ms > 0:
                quiet_since = loop.time()

    @contextlib.asynccontextmanager
    async def changing(self) -> AsyncIterator[None]:
        """Move the call, or put the caller on hold; only one tool at a time may do so.

        Raises:
            ToolFailed: a change by another tool is in progress.
        """
        if self._changing.locked():
            raise ToolFailed("the call is being transferred or put on hold already; wait for the result")
        async with self._changing:
            yield

    @contextlib.asynccontextmanager
    async def moving(self) -> AsyncIterator[None]:
        """Move the call elsewhere; a caller on hold is resumed first.

        Raises:
            ToolFailed: as for `changing`.
        """
        async with self.changing():
            await self.end_hold()
            yield

    async def end_hold(self) -> bool:
        """Resume the caller if a tool has put them on hold; return whether one had."""
        held, self.held = self.held, None
        if held is None or held.done():
            return False
        held.cancel()
        await asyncio.wait({held})
        return True

    async def hold(self, leg: Leg) -> None:
        """Play music to the caller, and silence to the model instead of the caller's audio."""
        self.services.journal.put(ON_HOLD, leg.id, {})
        await leg.hold()
        await leg.mute("in")

    async def resume(self, leg: Leg) -> None:
        """End `hold`; ignore a call that has ended, and log other failures."""
        try:
            for undo in (partial(leg.unmute, "in"), leg.unhold):
                try:
                    await undo()
                except AriError as error:
                    log.warning("resuming the caller failed channel=%s error=%s", leg.id, error)
        except LegEnded:
            pass
        finally:
            self.services.journal.drop(ON_HOLD, leg.id)

    async def leave(self, leg: Leg) -> None:
        """End the flow or the stream of the call, because another part of asterisk-bridge takes over the call."""
        self.leaving = asyncio.current_task()
        await self.services.call_control.release(leg)


ToolFunction = Callable[[AgentCall, Mapping[str, Any]], Awaitable[str]]


class Tool(Struct, frozen=True):
    """A function that a model may call.

    Args:
        name: for the model.
        description: when to use it, for the model.
        parameters: JSON schema of its arguments (`bridge.json_schema`).
        run: does it, with arguments that match; returns what the model gets, JSON or text. Raises ToolFailed or
            another BridgeError, whose message the model gets.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    run: ToolFunction


def parameters(required: tuple[str, ...] = (), /, **properties: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the JSON schema of a tool's arguments."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}
