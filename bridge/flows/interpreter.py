"""Run a program on a leg: one action after the other, until the list or the call ends.

A failed action is logged and published (event ``flow_action`` with a reason), and the flow continues with the next one:
after a failed announcement the caller may still send digits. Only the end of the call ends a flow early, and
immediately: the running action is cancelled, and everything that the flow has opened is closed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol
from uuid import uuid4

from msgspec import Struct

from bridge.access import Principal
from bridge.audit import OK, LineValue
from bridge.audit import AuditAction as Audited
from bridge.calls.call_record import CallRecord
from bridge.control.legs import Leg, LegEnded
from bridge.control.playback import Player
from bridge.errors import BridgeError
from bridge.flows.action_registry import DEFINITIONS, REOPEN, ActionFailed, Opened
from bridge.flows.program import Action, End, Enter, Jump, Program, Step
from bridge.flows.services import FlowServices
from bridge.flows.substitution import authority_of, server_of
from bridge.flows.variables import Variables
from bridge.tasks import shield_until_done

log = logging.getLogger(__name__)

MAX_ACTIONS_RUN = 10_000
"""Limit of actions of one flow, which ends endless loops."""
SILENT = frozenset({"mark", "enter_flow"})
"""Internal actions, for which no event is published."""
MAX_BESIDE = 100
"""Limit of concurrent background work of a flow: requests and speech that it does not wait for."""
MAX_BESIDE_BYTES = 4 << 20
"""Limit of the data held by that work: request bodies, and sound (95 s at 22,050 Hz). One item may exceed it."""
AUDIO_OPENS_S = 0.2
"""Delay of the first audio after the answer: phones clip what they receive earlier (34 ms observed)."""
MAX_DEPTH = 20
"""Limit of nested lists: flows that fetch flows."""


class Frame(Struct):
    """A running list, and the position in it."""

    program: Program
    at: int = 0
    loops: dict[str, int] = {}
    """Jumps of each ``goto`` in it, by the action's id."""


def _nothing(run: Run) -> None:
    """Store nothing."""


class Flows(Protocol):
    """The other flows, for actions that enter or start them (`FlowManager`)."""

    async def program_of(self, flow_id: str, run: Run) -> Program:
        """Return the program of a configured flow; raise LookupError, WebFailed or InvalidFlow."""

    async def parse(self, load: Callable[[], Any]) -> Program:
        """Load and check a program in a thread; raise InvalidFlow."""

    async def dial_connect(
        self,
        number: str,
        *,
        principal: Principal,
        caller_id: str = "",
        session_data: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
    ) -> CallRecord:
        """Originate a call that runs the flow ``voxology.flow``."""


class Run:
    """One flow on one call.

    Args:
        leg: the call.
        program: the actions.
        principal: who started it: the client that created the call, or the configuration.
        services: the parts of asterisk-bridge that actions use.
        flows: the other flows.
        variables: initial variables.
        flow_id: id of the ``[[flows]]`` table, if any.
        facts: of the call, for callbacks: ``direction``, ``caller``, ``callee``, ``start_time`` (seconds since 1970).
    """

    def __init__(
        self,
        leg: Leg,
        program: Program,
        *,
        principal: Principal,
        services: FlowServices,
        flows: Flows,
        variables: Variables,
        flow_id: str = "",
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.id = str(uuid4())
        self.leg = leg
        self.call_id = leg.id
        self.principal = principal
        self.services = services
        self.flows = flows
        self.variables = variables
        self.flow_id = flow_id
        self.facts = dict(facts or {})
        self.key_presses: list[dict[str, str]] = []
        """Voxology: digits collected since the last request to its server."""
        self.recordings: list[str] = []
        """Ids of recordings that this flow started and has not stopped."""
        self.opened: list[Opened] = []
        """Streams that the flow does not wait for."""
        self.to_reopen: list[Mapping[str, Any]] = []
        """Facts of the streams that were open before a restart."""
        self.resumed = False
        """The current action was running before a restart."""
        self.keep: Callable[[Run], object] = _nothing
        """Called after each change that resuming depends on."""
        self.programs_kept: tuple[int, ...] = ()
        """Lists that were stored last, by identity."""
        self.hanging_up = ""
        """Why the flow itself has just hung up: ChannelDestroyed arrives before the response to the request."""
        self.frames = [Frame(program)]
        self._player: Player | None = None
        self._speaking = asyncio.Lock()
        self._background: set[asyncio.Task[None]] = set()
        self._beside_bytes = 0
        self._count = 0
        self._closing = False

    @property
    def frame(self) -> Frame:
        """The running list."""
        return self.frames[-1]

    async def run(self) -> End:
        """Run until the flow or the call ends; then close what the flow has opened."""
        main = asyncio.ensure_future(self._execute())
        gone = asyncio.ensure_future(self.leg.gone.wait())
        try:
            await asyncio.wait({main, gone}, return_when=asyncio.FIRST_COMPLETED)
            return main.result() if main.done() else self._ended()
        finally:
            # Also if this task's canceller is cancelled: the process may stop while a call is being transferred.
            await shield_until_done(self._close(main, gone))

    async def _close(self, *tasks: asyncio.Future[Any]) -> None:
        self._closing = True  # no further action after one that fails while it is cancelled
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._clean_up()

    def _ended(self) -> End:
        return End(self.hanging_up or self.leg.departure)

    # Methods for actions

    def names_host(self, template: str) -> bool:
        """Return whether the configuration, without variables, determines the host of a URL of the current action.

        Args:
            template: the URL or ``host:port``, with its variables not yet filled in.
        """
        program = self.frame.program
        if program.server and program.server == server_of(template):
            return True
        return program.configured and "${" not in authority_of(template)

    async def speak(self, pcm: bytes, rate: int, *, until_key: bool = False) -> bool:
        """Play a sound to the caller after those in progress; return when it has been played.

        Args:
            pcm: s16le mono samples.
            rate: sampling rate in Hz.
            until_key: stop at a DTMF digit (which remains in ``leg.digits``); do not begin if one is waiting.

        Returns:
            Whether it was played completely.
        """
        async with self._speaking:
            digits = self.leg.digits
            if until_key and len(digits):
                return False
            if self._player is None:
                self._player = self.services.players.of(self.leg)
                await self._let_audio_open()
            player = self._player
            pressed: list[str] = []

            def stop(digit: str) -> None:
                pressed.append(digit)
                player.stop()

            unwatch = digits.watch(stop) if until_key else None
            try:
                await player.play(pcm, rate)
            except asyncio.CancelledError:
                player.stop()
                raise
            finally:
                if unwatch is not None:
                    unwatch()
            return not pressed

    async def _let_audio_open(self) -> None:
        await self.leg.hold_in_bridge()
        await asyncio.sleep(max(self.leg.answered_at + AUDIO_OPENS_S - asyncio.get_running_loop().time(), 0))

    async def stop_playback(self) -> None:
        """Stop and close the player, before the leg moves to another bridge or to the dialplan."""
        player, self._player = self._player, None
        if player is not None:
            player.stop()
            await player.close()

    def spawn(self, act: Coroutine[Any, Any, object], what: str, size: int) -> None:
        """Start a background task of the flow, which is canceled when the flow ends.

        Args:
            act: the coroutine.
            what: name of the action, for logs.
            size: bytes that it holds until it ends.

        Raises:
            ActionFailed: `MAX_BESIDE` or `MAX_BESIDE_BYTES` is reached.
        """
        if len(self._background) >= MAX_BESIDE:
            act.close()
            raise ActionFailed(f"the limit of {MAX_BESIDE} background actions is reached")
        if self._background and self._beside_bytes + size > MAX_BESIDE_BYTES:
            act.close()
            raise ActionFailed(f"background requests and speech hold {self._beside_bytes} bytes already")

        async def guarded() -> None:
            try:
                await act
            except (ActionFailed, BridgeError) as problem:
                log.warning("background action failed call=%s type=%s error=%s", self.call_id, what, problem)
            except Exception:
                log.exception("background action failed, an internal error call=%s type=%s", self.call_id, what)

        task = asyncio.ensure_future(guarded())
        self._background.add(task)
        self._beside_bytes += size

        def over(_: asyncio.Task[None]) -> None:
            self._background.discard(task)
            self._beside_bytes -= size

        task.add_done_callback(over)

    # The loop

    async def _execute(self) -> End:
        while self.to_reopen:
            await self._reopen(self.to_reopen.pop(0))
        while self.frames and not self._closing:
            frame = self.frames[-1]
            if frame.at >= len(frame.program.actions):
                self.frames.pop()
                continue
            action = frame.program.actions[frame.at]
            self._count += 1
            if self._count > MAX_ACTIONS_RUN:
                return End(f"more than {MAX_ACTIONS_RUN} actions were run")
            after_restart = DEFINITIONS[action.does].after_restart
            if after_restart != "instant":
                self.keep(self)
            step = None if self.resumed and after_restart == "skip" else await self._perform(action)
            self.resumed = False
            if isinstance(step, End):
                return step
            self._move(frame, action, step)
            await asyncio.sleep(0)  # yield: a loop of immediate actions must not delay other calls
        if self._closing:
            return End("stopped")
        self.keep(self)
        # A flow that ends after opening external media exists for that media: the call lasts as long.
        await self.services.streams.external_media_over(self.leg)
        return End("the last action was done")

    async def _reopen(self, fact: Mapping[str, Any]) -> None:
        try:
            await REOPEN[fact["does"]](self, fact)
        except LegEnded:
            pass  # the call has ended, and so will the flow
        except (BridgeError, ValueError, KeyError) as problem:
            log.warning("stream not reopened call=%s flow=%s error=%s", self.call_id, self.flow_id or self.id, problem)

    def _move(self, frame: Frame, action: Action, step: Step | None) -> None:
        if isinstance(step, Jump):
            index = frame.program.index_of(step.action_id)
            frame.at = frame.at + 1 if index is None else index
            return
        index = frame.program.index_of(action.next_id) if action.next_id else None
        frame.at = frame.at + 1 if index is None else index
        if isinstance(step, Enter):
            if not step.returns:
                self.frames.clear()
            self.frames.append(Frame(step.program))

    async def _perform(self, action: Action) -> Step | None:
        definition = DEFINITIONS[action.does]
        if action.does not in SILENT and not (action.type == "IF" and action.does == "jump"):
            self._publish(action)
        try:
            literal = self.frame.program.literal
            options = action.options if literal else action.options.resolved(self.variables)
            if definition.needs_audio and self.leg.away is None:
                await self.leg.hold_in_bridge()
            step = await definition.function(self, options)
            if isinstance(step, Enter) and step.returns and len(self.frames) >= MAX_DEPTH:
                raise ActionFailed(f"flows are nested more than {MAX_DEPTH} levels deep")
            return step
        except LegEnded:
            return self._ended()
        except (ActionFailed, BridgeError, ValueError) as problem:
            log.warning(
                "action failed, flow continues call=%s type=%s index=%d error=%s",
                self.call_id,
                action.type,
                action.index,
                problem,
            )
            self._publish(action, f"failed: {problem}")
        except Exception as problem:
            log.exception(
                "action failed, an internal error, flow continues call=%s type=%s index=%d",
                self.call_id,
                action.type,
                action.index,
            )
            self._publish(action, f"failed: {type(problem).__name__}")
        finally:
            self.services.records.update(self.call_id, variables=self.variables.shown)
        return None

    def _publish(self, action: Action, reason: str = "") -> None:
        if not reason:
            self.services.records.update(
                self.call_id, action={"id": action.id, "type": action.type, "index": action.index}
            )
        self.services.events.publish(
            "flow_action",
            {**self.described(), "action_id": action.id, "type": action.type, "index": action.index, "reason": reason},
        )

    def audit(self, action: Audited, outcome: str = OK, **values: LineValue) -> None:
        """Write an entry in the audit log in the name of the principal who started the flow."""
        self.services.audit.record(action, self.principal, outcome, call=self.call_id, flow=self.flow_id, **values)

    def described(self) -> dict[str, Any]:
        """Return the fields of every event about this flow."""
        return {"call_id": self.call_id, "flow_id": self.flow_id, "activeflow_id": self.id}

    async def _clean_up(self) -> None:
        for task in tuple(self._background):
            task.cancel()
        closing: list[Coroutine[Any, Any, object]] = [self.stop_playback(), self.services.streams.stop(self.leg)]
        closing += [self.services.recordings.stop(recording) for recording in self.recordings]
        for result in await asyncio.gather(*self._background, *closing, return_exceptions=True):
            if isinstance(result, Exception) and not isinstance(result, BridgeError | KeyError):
                log.error("flow not cleaned up, an internal error call=%s", self.call_id, exc_info=result)
