"""The life of a conversation with a model, beside its stream: settings and secrets, limits, prompts, and failure."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from bridge.agent_tools.voice import Voice
from bridge.audio.sound import Sound
from bridge.config.agents import AgentConfig
from bridge.config.webhooks import signing_key
from bridge.dialects.agent import AgentSettings, ToolSpec
from bridge.dialects.base import CallInfo, CallTool
from bridge.dialects.model import ModelDialect
from bridge.errors import BridgeError
from bridge.events.signing import signed_headers
from bridge.json_shape import check_shape, strict_json
from bridge.logs import Fields, cause
from bridge.masking import MASK
from bridge.media.dial import LinkFailed, LinkRefused
from bridge.media.response_head import SECRET_CHARS
from bridge.media.websocket import Link
from bridge.outbound.gate import Gate
from bridge.outbound.http import RequestFailed, Requests
from bridge.streams.agent_usage import AgentUsage
from bridge.streams.dialing import read_secret
from bridge.streams.origin import Origin
from bridge.streams.subscription import settings_of
from bridge.tasks import first_of
from bridge.tls import Trust

if TYPE_CHECKING:  # few configurations have tools
    from bridge.agent_tools.running import RunningTools
    from bridge.agent_tools.toolbox import Toolbox

log = logging.getLogger(__name__)

TICK_S = 0.5
"""Interval of the checks of limits, in seconds."""
COUNT_S = 30.0
"""Interval of counting the seconds of a day, in seconds."""
MAX_UNREADY = 2
"""Connections in a row on which the model did not become ready before the conversation fails."""
MAX_COMMANDS = 600
"""Transcripts, tool calls and errors of one model within a minute: each may become an event for every receiver."""
COMMANDS_S = 60.0
MAX_SETTINGS_BYTES = 256 * 1024
MAX_SETTINGS_VALUES, MAX_SETTINGS_DEPTH = 10_000, 50
"""Values in the response of ``settings_url``, and how deep they are nested."""
SETTINGS_TIMEOUT_S = 5.0
PROMPT_MARGIN_S = 1.0
"""Time for a prompt to be played, besides its duration."""
REPLACED = {
    "instructions": str,
    "greeting": str,
    "voice": str,
    "language": str,
    "model": str,
    "parameters": dict,
}
"""Settings that the response of ``settings_url`` may hold."""


class AgentStream(Voice, Protocol):
    """The stream of a conversation (`bridge.streams.stream.Stream`)."""

    origin: Origin
    link: Link | None
    connects: int

    @property
    def name(self) -> Fields:
        """The stream's fields in log lines."""

    @property
    def ended(self) -> bool:
        """Whether the stream has ended, or is about to."""

    def tool_result(self, id: str, output: str) -> None:
        """Send the result of a tool to the model."""

    def reconnect(self, reason: str) -> None:
        """Drop the connection, as if it had broken."""

    async def disconnect(self) -> None:
        """Close the connection of an ended stream."""

    def end(self, reason: str, error: str | None = None) -> None:
        """End the stream."""

    def fail(self) -> None:
        """End the stream because of an internal error."""


class Agents:
    """Shared by all conversations with models in this process: connections, minutes, prompts and tools.

    Args:
        gate: which hosts may be connected to.
        usage: counts minutes by day.
        sound: returns a prompt, given whether it is from the configuration; raises BridgeError if it cannot be played.
    """

    def __init__(self, gate: Gate, usage: AgentUsage, sound: Callable[[str, bool], Awaitable[Sound]]) -> None:
        self.requests = Requests(gate)
        self.usage = usage
        self.sound = sound
        self.toolbox: Callable[[], Toolbox] | None = None
        """Returns what creates the tools of models; None: they have none."""

    async def close(self) -> None:
        """Close the connections to servers of settings."""
        await self.requests.close()


class AgentSession:
    """One conversation.

    Args:
        agents: shared by all.
        name: what its minutes are counted by.
        config: of the model.
        dialect: of the stream.
        configured: the configuration determines the model; otherwise the policy decides about hosts of its prompts.
    """

    def __init__(
        self, agents: Agents, name: str, config: AgentConfig, dialect: ModelDialect, *, configured: bool = False
    ) -> None:
        self.failed = False
        """Whether the model was unavailable: `AgentConfig.on_failure` follows."""
        self._agents = agents
        self._name = name
        self._config = config
        self._dialect = dialect
        self._configured = configured
        self._settings: AgentSettings | None = None
        self._toolbox = agents.toolbox() if agents.toolbox is not None and config.tools else None
        self._tools = self._toolbox.tools(config.tools, config) if self._toolbox is not None else ()
        self._running: RunningTools | None = None
        self._watching: asyncio.Task[None] | None = None
        self._counted_at: float | None = None
        self._was_ready = False
        self._connects = self._unready = self._turns = 0
        self._connected_at = self._active_at = 0.0
        self._began: float | None = None
        self._commands, self._commands_since = 0, float("-inf")
        self._spoke = False
        self._prompted = True  # no prompt before the first connection
        self._abandoned = asyncio.Event()

    @property
    def was_ready(self) -> bool:
        """Whether the model has been ready at any time."""
        return self._was_ready or self._dialect.ready

    # Before a connection

    async def prepare(self, call: CallInfo) -> None:
        """Give the dialect its settings for the next connection.

        Args:
            call: sent to the server of settings.

        Raises:
            LinkRefused: the minutes of the day are used up.
            LinkFailed: there is no key, or there are no settings.
        """
        if self._config.max_minutes_per_day and await self._left_s() <= 0:
            raise LinkRefused(0, self._day_is_over)
        if self._settings is None:
            specs = [ToolSpec(each.name, each.description, each.parameters) for each in self._tools]
            base = settings_of(self._config, specs)
            self._settings = await self._asked(call, base) if self._config.settings_url else base
        self._dialect.agent = replace(self._settings, key=await asyncio.to_thread(read_key, self._config))

    async def _asked(self, call: CallInfo, base: AgentSettings) -> AgentSettings:
        """Return the settings with those of the user's server."""
        config = self._config
        body = json.dumps({"agent": self._name, **call.parameters}).encode()
        headers = {"Content-Type": "application/json"}
        if secret := config.settings_secret.get_secret_value():
            headers |= signed_headers(signing_key(secret), f"agent_{uuid4().hex}", time.time(), body)
        try:
            response = await self._agents.requests.fetch(
                "POST",
                config.settings_url,
                configured=True,
                trust=Trust(),
                timeout_s=SETTINGS_TIMEOUT_S,
                max_bytes=MAX_SETTINGS_BYTES,
                body=body,
                headers=headers,
            )
        except RequestFailed as problem:
            raise LinkFailed(f"agent.settings_url: {problem}") from None
        if response.status != 200:
            raise LinkFailed(f"agent.settings_url: status {response.status}; expected 200")
        return replace(base, **_replaced(response.body))

    # Beside the stream

    def watch(self, stream: AgentStream) -> None:
        """Begin to check limits, until the stream ends."""
        if self._toolbox is not None:
            self._running = self._toolbox.open(
                stream, self._tools, self._config, principal=stream.origin.principal, report=stream.tool_result
            )
        self._watching = asyncio.create_task(self._watch(stream), name=f"agent of stream {stream.stream_id}")

    def admits(self, stream: AgentStream) -> bool:
        """Count a command of the model; return False if there are too many, which ends the conversation."""
        now = asyncio.get_running_loop().time()
        if now - self._commands_since >= COMMANDS_S:
            self._commands, self._commands_since = 0, now
        self._commands += 1
        if self._commands <= MAX_COMMANDS:
            return True
        if not stream.ended:
            self.failed = True
            self._limit(stream, f"more than {MAX_COMMANDS} transcripts, tool calls and errors within a minute")
        return False

    def hidden(self, text: str) -> str:
        """Return a string of the model without its key, which some servers repeat in errors."""
        key = self._dialect.agent.key
        return text.replace(key, MASK) if len(key) >= SECRET_CHARS else text

    def spoke(self) -> None:
        """Record that a party has spoken: the conversation is alive."""
        self._spoke = True

    def use_tool(self, command: CallTool) -> bool:
        """Run a tool for the model, in the background; return False if it has none."""
        if self._running is None:
            return False
        self._running.start(command.id, command.name, command.arguments)
        return True

    async def ended(self, stream: AgentStream, error: str | None) -> None:
        """Handle the end of the stream, before its tracks are closed: play the prompt of a failure.

        Args:
            stream: the stream.
            error: as in `Dialect.closed`.
        """
        # Dropped, as both refer to the stream: a cycle would wait for the garbage collector.
        watching, self._watching = self._watching, None
        running, self._running = self._running, None
        if watching is not None:
            watching.cancel()
        if running is not None:
            await running.close()
        await self._count(final=True)
        self.failed = self.failed or error == "connect_failed"
        if self.failed and self._config.failure_prompt:
            await stream.disconnect()  # which clears the playout
            await first_of(self._abandoned.wait(), self._play(stream, self._config.failure_prompt, wait=True))

    def abandon(self) -> None:
        """Stop the prompt of a failure, as the call has ended or another part of asterisk-bridge controls it."""
        self._abandoned.set()

    async def _watch(self, stream: AgentStream) -> None:
        try:
            while not stream.ended:
                await asyncio.sleep(TICK_S)
                now = asyncio.get_running_loop().time()
                self._check_connection(stream, now)
                if not stream.ended and stream.link is None and not self._prompted:
                    self._prompted = True
                    await self._play(stream, self._config.reconnect_prompt)
                await self._check_limits(stream, now)
        except Exception:
            stream.fail()

    def _check_connection(self, stream: AgentStream, now: float) -> None:
        """Replace a connection on which the model does not become ready; fail after `MAX_UNREADY` of them."""
        if stream.connects != self._connects:
            self._connects, self._connected_at = stream.connects, now
            self._unready += 1
            self._prompted = not self._config.reconnect_prompt
        waits_s = self._config.ready_timeout_s
        if self._dialect.ready:
            self._unready, self._was_ready = 0, True
        elif stream.link is None and self._unready >= MAX_UNREADY and not self._was_ready:
            stream.end("the model closes each connection before it is ready", "connect_failed")
        elif stream.link is not None and now - self._connected_at >= waits_s:
            if self._unready >= MAX_UNREADY:
                stream.end(f"the model was not ready within {waits_s:g} s", "connect_failed")
            else:
                stream.reconnect(f"the model was not ready within {waits_s:g} s")

    async def _check_limits(self, stream: AgentStream, now: float) -> None:
        """End a conversation that exceeds a limit."""
        config, dialect = self._config, self._dialect
        busy = stream.queued_ms > 0 or (self._running is not None and self._running.busy)
        if busy or self._spoke or dialect.turns != self._turns or self._began is None or not dialect.ready:
            self._began = self._began or now
            self._turns, self._spoke, self._active_at = dialect.turns, False, now
        if config.silence_s and now - self._active_at >= config.silence_s:
            self._limit(stream, f"nobody has spoken for {config.silence_s:g} s")
        elif config.max_minutes and now - self._began >= config.max_minutes * 60:
            self._limit(stream, f"the limit of {config.max_minutes:g} minutes of a conversation is reached")
        elif await self._count() <= 0:
            self.failed = True
            self._limit(stream, self._day_is_over)

    def _limit(self, stream: AgentStream, reason: str) -> None:
        if stream.ended:
            return
        log.warning("conversation with a model ends %s reason=%s", stream.name, reason, extra=cause(self._name))
        stream.end(reason)

    # Minutes of the day

    @property
    def _day_is_over(self) -> str:
        return f"the limit of {self._config.max_minutes_per_day:g} minutes of a day is reached"

    async def _left_s(self, seconds: float = 0.0) -> float:
        return self._config.max_minutes_per_day * 60 - await self._agents.usage.add(self._name, seconds)

    async def _count(self, *, final: bool = False) -> float:
        """Count the seconds since the last time; return how many are left, 1 if unlimited or not yet due."""
        if not self._config.max_minutes_per_day:
            return 1.0
        now, before = time.monotonic(), self._counted_at
        if before is None:
            self._counted_at = now if self._dialect.ready else None
            return 1.0
        if now - before < COUNT_S and not final:
            return 1.0
        self._counted_at = now
        return await self._left_s(now - before)

    # Prompts

    async def _play(self, stream: AgentStream, prompt: str, *, wait: bool = False) -> None:
        if not stream.playout_rate:
            return
        try:
            found = await self._agents.sound(prompt, self._configured)
        except BridgeError as problem:
            log.warning("prompt not played %s error=%s", stream.name, problem, extra=cause(self._name))
            return
        sound = await asyncio.to_thread(found.at, stream.playout_rate)  # a minute of sound takes a few frames' time
        stream.play(sound.pcm)
        if wait:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(sound.seconds + PROMPT_MARGIN_S):
                    while stream.queued_ms > 0:  # noqa: ASYNC110 - the frame path reports nothing
                        await asyncio.sleep(0.05)


def _replaced(body: bytes) -> Mapping[str, Any]:
    try:
        text = body.decode()
        check_shape(text, MAX_SETTINGS_VALUES, MAX_SETTINGS_DEPTH)
        settings = strict_json(text)
    except ValueError as problem:
        raise LinkFailed(f"agent.settings_url: the response is not usable JSON: {problem}") from None
    if not isinstance(settings, dict):
        raise LinkFailed("agent.settings_url: the response is not a JSON object")
    for name, value in settings.items():
        if name not in REPLACED:
            raise LinkFailed(f"agent.settings_url: unknown setting {name[:40]!r}; expected {', '.join(REPLACED)}")
        if not isinstance(value, REPLACED[name]):
            raise LinkFailed(f"agent.settings_url: the value of {name} is not a {REPLACED[name].__name__}")
    return settings


def read_key(config: AgentConfig) -> str:
    """Return the vendor's key, empty if the model is configured without one. Blocks.

    Raises:
        LinkFailed: the file or the environment variable that should hold it does not.
    """
    if config.key_file:
        return read_secret(config.key_file, "agent.key_file")
    key = os.environ.get(config.key_env, "") if config.key_env else ""
    if config.key_env and not key:
        raise LinkFailed(f"the environment variable {config.key_env} of agent.key_env is not set")
    return key.strip()
