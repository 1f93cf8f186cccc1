"""A model on a call of the fake PBX: the real tools and call control, and a stream that only counts what is queued."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from bridge.access import Principal
from bridge.agent_tools.running import RunningTools
from bridge.agent_tools.tool import ToolServices
from bridge.agent_tools.toolbox import Toolbox
from bridge.audio.sound import Sound
from bridge.audit import OK, AuditAction, LineValue
from bridge.calls.journal import Fact, Journal
from bridge.conferences.conferences import Conferences
from bridge.config.agent_limits import BUILT_IN_TOOLS, AgentLimits
from bridge.config.agent_tools import ToolConfig
from bridge.dialects.base import CallInfo
from bridge.outbound.gate import Gate
from bridge.outbound.policy import Policy
from bridge.speech.engine import SpeechFailed
from bridge.tasks import BackgroundTasks
from tests.fakes.virtual_time import now, settle, until
from tests.unit.control.house import CONTEXT, CallingHouse

RATE = 8000
SPOKEN_S = 2.0
"""How long each announcement takes."""


class CountingVoice:
    """A stream whose queue empties as time passes."""

    def __init__(self, channel_id: str) -> None:
        self.stream_id = "p1"
        self.call = CallInfo(channel_id, "internal", caller="1001", callee="750")
        self.channel_id = channel_id
        self.playout_rate = RATE
        self.played = b""
        self._until = 0.0

    @property
    def queued_ms(self) -> float:
        return max(self._until - now(), 0.0) * 1000

    def play(self, pcm: bytes) -> None:
        self.played += pcm
        self.say(len(pcm) / 2 / RATE)

    def say(self, seconds: float) -> None:
        """Queue audio of the model."""
        self._until = max(self._until, now()) + seconds


class Announced:
    """Announcements, each a sound of its own."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.speech_trouble: str | None = None

    async def sound(self, announcement: str) -> Sound:
        return await self.sentence(announcement)

    async def sentence(self, text: str) -> Sound:
        if self.speech_trouble:
            raise SpeechFailed(self.speech_trouble)
        self.asked.append(text)
        return Sound(bytes([len(self.asked), 0]) * int(SPOKEN_S * RATE), RATE)


class KeptFacts(Journal):
    """A journal in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.facts: set[tuple[str, str]] = set()

    def put(self, kind: str, identity: str, fact: Fact) -> None:  # noqa: ARG002
        self.facts.add((kind, identity))

    def drop(self, kind: str, identity: str) -> None:
        self.facts.discard((kind, identity))


class Lines:
    """An audit log in memory."""

    def __init__(self) -> None:
        self.totals: dict[str, float] = {}
        self.lines: list[dict[str, LineValue]] = []

    def record(self, action: AuditAction, principal: Principal, outcome: str = OK, /, **values: LineValue) -> None:
        self.lines.append({"action": action, "principal": principal.id, "outcome": outcome, **values})

    def reject(self, _: object, /) -> None:
        """Reject the call: unused here."""


class AgentHouse(CallingHouse):
    """A house with a model on the call of 1001, which may use all tools.

    Args:
        limits: keys of `AgentLimits`.
        own: tables of the user's tools.
    """

    def __init__(self, own: Iterable[dict[str, Any]] = (), **limits: Any) -> None:
        super().__init__(claims=False)
        self.pbx.codec = "ulaw"
        self.limits = AgentLimits.model_validate(
            {"transfer_to": ["10*"], "set_variables": ["ORDER_*"], "conferences": ["team"], **limits}
        )
        self.conferences = Conferences(self.client, self.tracker, self.ids, self.events, context=CONTEXT)
        self.announcements = Announced()
        self.audit = Lines()
        self.sensitive = False
        self.journal = KeptFacts()
        self._brought = BackgroundTasks("tests")
        configs = [ToolConfig.model_validate(table) for table in own]
        self.services = ToolServices(
            self.client,
            self.control,
            self.records,
            self.conferences,
            lambda leg, conference_id: self._brought.spawn(self.conferences.bring(leg, conference_id)),
            self.players,
            self.policy,
            self.announcements,  # type: ignore[arg-type]  # a stand-in without speech
            self.events,
            self.journal,
            lambda _: self.sensitive,
            self.audit,
        )
        self.toolbox = Toolbox(configs, self.services, Gate(Policy(allow=["127.0.0.1"])))
        self.names = (*BUILT_IN_TOOLS, *(config.id for config in configs))
        self.results: dict[str, str] = {}
        """What the model got, by the id of the use."""
        self.released: list[str] = []
        """Channels whose stream was ended for something else."""
        self.control.before_transfer.append(self._release)
        self.voice: CountingVoice
        self.tools: RunningTools

    async def answer(self) -> str:
        """Have 1001 call the model; return the id of its channel."""
        channel_id = self.pbx.call("1001", "750")
        await until(lambda: self.stasis.bridge_of(channel_id) is not None)
        await self.tracker.resync()
        self.connect(channel_id)
        return channel_id

    def connect(self, channel_id: str) -> None:
        """Connect a model to a call."""
        self.voice = CountingVoice(channel_id)
        self.tools = self.toolbox.open(
            self.voice,
            self.toolbox.tools(self.names, self.limits),
            self.limits,
            principal=Principal("config"),
            report=self.results.__setitem__,
        )

    def begin(self, name: str, /, **arguments: Any) -> None:
        """Have the model call a tool; the id of the use is the tool's name."""
        self.tools.start(name, name, json.dumps(arguments))

    async def use(self, name: str, /, **arguments: Any) -> str:
        """Have the model call a tool; return the result."""
        self.begin(name, **arguments)
        await until(lambda: name in self.results)
        return self.results.pop(name)

    async def failure(self, name: str, /, **arguments: Any) -> str:
        """Have the model call a tool that fails; return the message."""
        return str(json.loads(await self.use(name, **arguments))["error"])

    async def colleague(self) -> str:
        """Wait for a call to a colleague, which rings; return the id of its channel."""
        await until(lambda: any(self.ids.kind(each) == "call" for each in self.pbx.channels))
        (channel_id,) = [each for each in self.pbx.channels if self.ids.kind(each) == "call"]
        await settle()
        self.pbx.rings(channel_id)
        return channel_id

    def requests_of(self, channel_id: str) -> list[str]:
        """Return what was requested for a channel: ``POST hold``."""
        prefix = f"/channels/{channel_id}/"
        found = (request.split(maxsplit=2) for request in self.pbx.requests)
        return [f"{each[0]} {each[1].removeprefix(prefix)}" for each in found if each[1].startswith(prefix)]

    def ended(self) -> list[dict[str, Any]]:
        """Return the data of all events ``tool_ended``."""
        return [dict(event.data) for event in self.published if event.type == "tool_ended"]

    async def close(self) -> None:
        await self.tools.close()
        await self.toolbox.stop()
        await self._brought.stop()
        await self.conferences.stop()
        await super().close()

    async def _release(self, channel_id: str) -> None:
        self.released.append(channel_id)
        await self.tools.close()
