"""The tools of one stream, while they run: in the background, never on the path of audio."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.access import Principal
from bridge.agent_tools.tool import AgentCall, Tool, ToolFailed, ToolRefused, ToolServices
from bridge.agent_tools.voice import Voice
from bridge.audit import FAILED, OK, REJECTED, LineValue
from bridge.calls.call_record import ToolOutcome, ToolUse
from bridge.config.agent_limits import AgentLimits
from bridge.control.legs import LegEnded
from bridge.errors import BridgeError
from bridge.json_schema import faults, secret_names
from bridge.json_shape import check_shape, strict_json
from bridge.logs import Fields, cause
from bridge.masking import MASK, mask
from bridge.tasks import BackgroundTasks

log = logging.getLogger(__name__)

MAX_RUNNING = 8
"""Tools of one stream that may run at the same time."""
MAX_PER_MINUTE = 60
"""Tools of one stream that may start within a minute: a model may get into a loop."""
PERIOD_S = 60.0
CLEANUP_S = 3.0
"""Longest wait for canceled tools to undo what they have changed, in seconds."""
MAX_ARGUMENT_CHARACTERS = 32 * 1024
MAX_VALUES, MAX_DEPTH = 1000, 20
MAX_USES = 50
"""Uses of tools that a call's record has, the latest."""
AUDITED = ("extension", "conference", "name")
"""Arguments of built-in tools that the audit log shows."""
_AUDIT: Mapping[ToolOutcome, str] = {"ok": OK, "failed": FAILED, "refused": REJECTED, "canceled": FAILED}


class RunningTools:
    """Runs the tools that the model of one stream calls.

    Args:
        voice: the stream.
        tools: those that the model may call, by name.
        limits: what they may do.
        principal: who started the stream.
        services: the parts of asterisk-bridge that tools use.
        report: passes a result to the model: the id of the call of a tool, and the output.
        tasks: outlives the stream.
    """

    def __init__(
        self,
        voice: Voice,
        tools: Mapping[str, Tool],
        *,
        limits: AgentLimits,
        principal: Principal,
        services: ToolServices,
        report: Callable[[str, str], object],
        tasks: BackgroundTasks,
    ) -> None:
        self._tools = tools
        self._services = services
        self._report: Callable[[str, str], object] | None = report
        self._tasks = tasks
        self._running: set[asyncio.Task[None]] = set()
        self._started: deque[float] = deque()
        self._call = AgentCall(voice, limits, principal, services, tasks)

    def __len__(self) -> int:
        return len(self._running)

    @property
    def busy(self) -> bool:
        """Whether a tool runs, or has put the caller on hold: nobody is expected to speak."""
        held = self._call.held
        return bool(self._running) or (held is not None and not held.done())

    def start(self, use_id: str, name: str, arguments: str) -> None:
        """Run a tool in the background; its result is reported, whatever happens.

        Args:
            use_id: the model's id of this use.
            name: of the tool.
            arguments: a JSON object as the model wrote it, perhaps invalid.
        """
        if self._report is None:
            return
        now = asyncio.get_running_loop().time()
        while self._started and now - self._started[0] >= PERIOD_S:
            self._started.popleft()
        if len(self._running) >= MAX_RUNNING or len(self._started) >= MAX_PER_MINUTE:
            stream_id = self._call.voice.stream_id
            log.warning(
                "tool call rejected, too many calls stream=%s tool=%s",
                stream_id,
                name[:64],
                extra=cause(stream_id),
            )
            self._report(use_id, _error("too many tools are running; wait, then try again"))
            return
        self._started.append(now)
        task = self._tasks.spawn(self._run(use_id, name, arguments))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def close(self) -> None:
        """Cancel all tools at the end of the stream, except for one that hands the call to something else.

        Returns when what they had changed is undone: a caller on hold is resumed.
        """
        self._report = None
        tasks = (self._call.helpers | self._running) - {self._call.leaving}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLEANUP_S)
        self._call.held = None  # the traceback of its cancellation refers to the call

    async def _run(self, use_id: str, name: str, arguments: str) -> None:
        use = _Use(use_id, name[:64], self._tools.get(name))
        self._publish("tool_called", use, {})
        try:
            if use.tool is None:
                raise ToolRefused(f"unknown tool {use.name!r}; available: {', '.join(self._tools) or 'none'}")
            use.arguments = _parse(arguments)
            if wrong := faults(use.arguments, use.tool.parameters):
                raise ToolFailed("wrong arguments: " + "; ".join(wrong))
            use.result = await use.tool.run(self._call, use.arguments)
            use.outcome = "ok"
        except ToolRefused as problem:
            use.outcome, use.result = "refused", str(problem)
        except LegEnded:
            use.outcome, use.result = "failed", "the call has ended"
        except BridgeError as problem:
            use.outcome, use.result = "failed", str(problem)
        except Exception:
            log.exception("tool failed, an internal error stream=%s tool=%s", self._call.voice.stream_id, use.name)
            use.outcome, use.result = "failed", "internal error"
        finally:
            self._note(use)
        if self._report is not None:
            self._report(use_id, use.result if use.outcome == "ok" else _error(use.result))

    # What others see

    def _note(self, use: _Use) -> None:
        voice, duration_ms = self._call.voice, (time.monotonic() - use.began) * 1000
        call_id = voice.call.call_id
        where = Fields(stream=voice.stream_id, call=call_id, tool=use.name)
        if use.outcome == "ok":
            log.info("tool ended %s outcome=%s duration_ms=%.0f", where, use.outcome, duration_ms)
        else:
            log.warning(
                "tool ended %s outcome=%s duration_ms=%.0f error=%s",
                *(where, use.outcome, duration_ms, use.result or "the stream ended"),
                extra=cause(f"{voice.stream_id} {use.name}"),
            )
        values = {"outcome": use.outcome, "duration_ms": round(duration_ms)}
        self._publish("tool_ended", use, values | {"arguments": use.shown, "result": use.result})
        record = self._services.records.get(call_id)
        if record is not None:
            uses = (*record.tools, ToolUse(use.name, use.outcome, round(duration_ms / 1000, 3)))
            self._services.records.update(record.id, tools=uses[-MAX_USES:])
        audited: dict[str, LineValue] = {key: str(use.arguments[key]) for key in AUDITED if key in use.arguments}
        audited |= {"tool": use.name, "call": call_id, "stream": voice.stream_id}
        audited |= {"reason": use.result} if use.outcome != "ok" else {}
        self._services.audit.record("tool.call", self._call.principal, _AUDIT[use.outcome], **audited)

    def _publish(self, event: str, use: _Use, values: Mapping[str, Any]) -> None:
        voice = self._call.voice
        if self._services.is_sensitive(voice.call.call_id):
            values = {key: MASK if key in ("arguments", "result") else value for key, value in values.items()}
        ids = {"id": use.id, "call_id": voice.call.call_id, "stream_id": voice.stream_id, "tool": use.name}
        self._services.events.publish(event, ids | dict(values))


@dataclass(slots=True)
class _Use:
    """One use of a tool."""

    id: str
    name: str
    tool: Tool | None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    outcome: ToolOutcome = "canceled"
    result: str = ""
    """For the model: what the tool returned, or why it failed."""
    began: float = field(default_factory=time.monotonic)

    @property
    def shown(self) -> Any:
        """The arguments without secrets; none of an unknown tool."""
        if self.tool is None:
            return {}
        secrets = secret_names(self.tool.parameters)
        if secrets:  # a secret under a wrong name is one
            secrets |= self.arguments.keys() - self.tool.parameters.get("properties", {}).keys()
        return _hidden(mask(self.arguments), secrets)


def _parse(arguments: str) -> dict[str, Any]:
    """Return the arguments; raise ToolFailed if they are not a JSON object of bounded size."""
    expected = "expected a JSON object"
    if not arguments.strip():
        return {}
    if len(arguments) > MAX_ARGUMENT_CHARACTERS:
        raise ToolFailed(f"the arguments have {len(arguments)} characters; expected at most {MAX_ARGUMENT_CHARACTERS}")
    try:
        check_shape(arguments, MAX_VALUES, MAX_DEPTH)
    except ValueError as problem:
        raise ToolFailed(f"the JSON of the arguments {problem}") from None
    try:
        parsed = strict_json(arguments)
    except ValueError as problem:
        raise ToolFailed(f"the arguments are not valid JSON: {problem}; {expected}") from None
    if not isinstance(parsed, dict):
        raise ToolFailed(f"wrong arguments: {expected}")
    return parsed


def _hidden(value: Any, names: frozenset[str]) -> Any:
    if isinstance(value, Mapping):
        return {key: MASK if key in names else _hidden(each, names) for key, each in value.items()}
    return [_hidden(each, names) for each in value] if isinstance(value, list) else value


def _error(message: str) -> str:
    return json.dumps({"error": message})
