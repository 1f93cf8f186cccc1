"""One trial: connects to an application as a stream does, and runs the script of the caller."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TextIO

from bridge import dialects
from bridge.dialects.base import (
    AgentCommand,
    CallInfo,
    CallRequest,
    CallTool,
    Dialect,
    Message,
    ReportedError,
    TrackInfo,
    Transcript,
)
from bridge.media import websocket_library
from bridge.media.counters import Counters
from bridge.media.destination import Destination
from bridge.media.dial import LinkFailed, LinkRefused, dial
from bridge.media.playout_clock import PlayoutClock
from bridge.media.pump import Pump
from bridge.media.websocket import CLOSE_TIMEOUT_S, Link
from bridge.outbound.gate import Gate
from bridge.streams.invalid_messages import describe
from bridge.trial import CHECKS, checks
from bridge.trial.checks import FAILED, NOT_JUDGED, PASSED, Check
from bridge.trial.exchange import Exchange, ObservedLink
from bridge.trial.handset import Handset
from bridge.trial.script import Ended, Plan, Script

MAX_UNSENT_MS = 3000
PING_INTERVAL_S = 20.0
MAX_MESSAGE_BYTES = 16 << 20
NO_PBX = '{"error": "this is a trial without a PBX: no tool is available"}'


class Trial:
    """A conversation with an application.

    Args:
        dialect: the wire format, newly created.
        destination: where to connect.
        call: facts about the call.
        plan: what the caller does.
        connect_timeout_s: limit for connection and handshake, in seconds.
        out: where the exchange is printed; None: nowhere.
    """

    def __init__(
        self,
        dialect: Dialect,
        destination: Destination,
        call: CallInfo,
        plan: Plan,
        *,
        connect_timeout_s: float = 5.0,
        out: TextIO | None = None,
    ) -> None:
        self._dialect = dialect
        self._destination = destination
        self._call = call
        self._plan = plan
        self._connect_timeout_s = connect_timeout_s
        self._exchange = Exchange(out)
        self._tracks = _tracks_of(dialect)
        self._discarded: list[tuple[str, str]] = []
        self._checks: list[Check] = []
        self._pump = Pump(dialect, Counters(), on_dtmf=self._on_dtmf, on_agent=self._on_agent)
        self._handset = Handset(dialect.rate, self._on_frame)
        self._end: tuple[int, str] | None = None  # the code and reason of the end of the connection
        self._closed = asyncio.Event()

    async def run(self) -> Sequence[Check]:
        """Hold the conversation; return all judgments, in the order of `bridge.trial.CHECKS`."""
        link = await self._connect()
        if link is not None:
            clock = PlayoutClock(Counters())
            observed = self._begin(link)
            clock.add(self._handset.leg)
            try:
                await self._converse()
                await self._hang_up(observed)
            finally:
                clock.remove(self._handset.leg)
                link.abort(1000, "the trial has ended")
        judged = {check.name: check for check in self._checks}
        missing = "no connection" if link is None else "the stream ended before"
        return [judged.get(name, Check(name, NOT_JUDGED, missing)) for name in CHECKS]

    async def _connect(self) -> Link | None:
        await websocket_library.loaded()  # its import is not the application's time
        self._exchange.began = began = time.monotonic()
        try:
            link = await dial(
                self._destination,
                Counters(),
                gate=Gate(),
                connect_timeout_s=self._connect_timeout_s,
                max_unsent_ms=MAX_UNSENT_MS,
                ping_interval_s=PING_INTERVAL_S,
                max_message_bytes=MAX_MESSAGE_BYTES,
            )
        except (LinkFailed, LinkRefused) as error:
            self._exchange.note(str(error))
            self._checks.append(Check("connect", FAILED, str(error)))
            return None
        took = f"{(time.monotonic() - began) * 1000:.0f} ms"
        self._exchange.note(f"connected to {self._destination} after {took}")
        self._checks.append(Check("connect", PASSED, f"the handshake took {took}"))
        return link

    def _begin(self, link: Link) -> ObservedLink:
        """Send the dialect's first messages, in the order of a stream."""
        dialect, pump, handset = self._dialect, self._pump, self._handset
        dialect.on_discarded = self._on_discarded
        link.on_closed = self._on_closed
        observed = ObservedLink(link, self._exchange, lambda: handset.playout.offered_ms)
        if dialect.two_way:
            pump.play_on(handset.leg)
        if not dialect.replays:
            pump.attach(observed)
        pump.opened(self._call, list(self._tracks))
        if dialect.replays:
            pump.attach(observed)
        for name in self._tracks:
            caller = self._call.caller
            info = TrackInfo(name, "trial", "PJSIP/trial-00000001", caller, self._call.callee, caller)
            pump.track_started(info)
        handset.leg.attach(handset)
        return observed

    async def _converse(self) -> None:
        script = Script(self._plan, self._handset, self._exchange, self._send_digit, lambda: self._end is not None)
        try:
            await script.run(self._checks.append)
        except Ended:
            code, reason = self._end or (1006, "")
            words = f"the application ended the stream ({code}{f' {reason}' * bool(reason)})"
            self._exchange.note(words)
            judged = {check.name for check in self._checks}
            open_checks = [name for name in checks.CONVERSATION if name not in judged]
            if self._plan.two_way and open_checks:
                self._checks.append(Check(open_checks[0], FAILED, words))

    async def _hang_up(self, link: ObservedLink) -> None:
        if self._dialect.two_way:
            expected = f"audio at {self._dialect.rate} Hz as in {self._dialect.expected}"
            conversation_s = time.monotonic() - self._exchange.began
            self._checks.append(
                checks.rate(self._handset.playout.pace.longest, conversation_s, self._dialect.rate, expected)
            )
        self._checks.append(checks.messages(self._discarded, self._exchange.received))
        if self._end is not None:
            self._checks.append(Check("hangup", NOT_JUDGED, "the application ended the stream"))
            return
        self._exchange.note("the caller hangs up")
        for name in self._tracks:
            self._pump.track_stopped(name)
        self._pump.closed("the call ended")
        began = time.monotonic()
        link.close(1000, "the call ended")
        await self._closed.wait()
        took_s = time.monotonic() - began
        self._checks.append(checks.hangup(took_s if took_s < CLOSE_TIMEOUT_S else None, CLOSE_TIMEOUT_S))

    # Callbacks

    def _on_frame(self, spoken: bytes, heard: bytes) -> None:
        for name, spy in self._tracks.items():
            pcm = {"in": spoken, "out": heard}.get(spy) or _mixed(spoken, heard)
            self._pump.from_call(name, pcm)

    def _send_digit(self, digit: str) -> bool:
        sent = self._exchange.sent
        self._pump.key_pressed(next(iter(self._tracks)), digit)
        return self._exchange.sent > sent

    def _on_discarded(self, message: Message, expected: str) -> None:
        what = describe(message)
        self._discarded.append((what, expected))
        self._exchange.note(f"discarded: {what}; expected {expected}")

    def _on_closed(self, code: int, reason: str) -> None:
        self._end = (code, reason)
        self._closed.set()
        self._pump.detach()

    def _on_dtmf(self, digits: str) -> None:
        self._exchange.note(f"the application sends the digits {digits}")

    def _on_agent(self, command: AgentCommand | CallRequest) -> None:
        if isinstance(command, Transcript):
            self._exchange.note(f"{command.party}: {command.text}")
        elif isinstance(command, ReportedError):
            self._exchange.note(f"the application reports: {command.text}")
        elif isinstance(command, CallTool):
            self._exchange.note(f"the model calls {command.name}({command.arguments})")
            self._pump.tool_result(command.id, NO_PBX)
        else:
            self._exchange.note(f"the application requests {command.name}")
            self._pump.request_answered(command.name, {"reason": "STATE_INVALID"}, NO_PBX)


def _tracks_of(dialect: Dialect) -> dict[str, str]:
    """Return the names of the tracks of a call in the dialplan, and the audio of each."""
    if dialect.two_way and dialect.caller_track:
        return {dialect.caller_track: "in"}
    layout = dialects.layouts()[dialect.default_layout]
    return dict(layout.tracks) or {"PJSIP/trial-00000001": "in"}


def _mixed(first: bytes, second: bytes) -> bytes:
    """Return the sum of two frames of s16le."""
    pairs = zip(memoryview(first).cast("h"), memoryview(second).cast("h"), strict=True)
    return b"".join(max(-32768, min(32767, a + b)).to_bytes(2, "little", signed=True) for a, b in pairs)
