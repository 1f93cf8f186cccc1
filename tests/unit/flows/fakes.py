"""Stand-ins for what actions work with.

Digits, records, events, variables and programs are real. A stand-in records what was requested, with the time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from bridge.access import Principal
from bridge.ari.model import Caller, Channel, Dialplan
from bridge.audio.sound import Sound
from bridge.calls.addresses import Address
from bridge.calls.call_record import HangupReason
from bridge.calls.records import Records
from bridge.config import Config, VoxologyConfig
from bridge.control.dial_policy import NotAllowed
from bridge.control.dtmf import DigitQueue
from bridge.control.legs import LegEnded
from bridge.control.originate import NotAnswered
from bridge.control.outbound_calls import OutboundCalls
from bridge.errors import Overloaded
from bridge.events.hub import Event, Events
from bridge.flows.action_settings import ActionSettings
from bridge.flows.flow_config import Flow
from bridge.flows.interpreter import Run
from bridge.flows.manager import FlowManager
from bridge.flows.program import End
from bridge.flows.services import FlowServices
from bridge.flows.status_callbacks import StatusCallbacks
from bridge.flows.syntax import parse
from bridge.flows.twiml_requests import TwimlAccount
from bridge.flows.variables import Variables
from bridge.flows.web import ServerResponse, WebFailed
from bridge.speech.engine import SpeechFailed, Utterance
from bridge.speech.fetch import SoundUnavailable
from tests.fakes.virtual_time import now, pass_time

RATE = 8000
TOKEN = Principal("crm", "192.0.2.7")
"""The requester of the calls, whose requests start their flows."""
SAID_S = 2.0
"""Duration of everything that is spoken."""


class FakeLeg:
    """A leg; ``did`` lists the requests to it as (time, what, ...)."""

    def __init__(self, channel_id: str = "call-1", *, answered: bool = True) -> None:
        self.id = channel_id
        self.name = f"PJSIP/{channel_id}"
        self.answered = answered
        self.gone = asyncio.Event()
        self.departure = "the call ended"
        self.cause = 0
        self.bridge_id: str | None = None
        self.digits = DigitQueue()
        self.did: list[tuple[Any, ...]] = []
        self.variables: dict[str, str] = {}
        self.visit_s = 3.0
        self.answered_at = -1.0  # long ago
        self.away: asyncio.Future[None] | None = None

    def note(self, *what: Any) -> None:
        if self.gone.is_set():
            raise LegEnded("gone")
        self.did.append((now(), *what))

    def leave(self) -> None:
        """Hang up as the party does."""
        self.gone.set()

    async def press(self, digits: str, *, after_s: float = 0, between_s: float = 0.1) -> None:
        await pass_time(after_s)
        for digit in digits:
            self.digits.put(digit)
            await pass_time(between_s)

    async def answer(self) -> None:
        self.note("answer")
        self.answered = True

    async def hold_in_bridge(self) -> str:
        if self.gone.is_set():
            raise LegEnded("gone")
        if self.bridge_id is None:
            self.note("hold_in_bridge")
            self.bridge_id = f"bridge-of-{self.id}"
        self.answered = True
        return self.bridge_id

    async def hang_up(self, reason: str = "normal", *, recorded: HangupReason = "") -> None:
        if not self.gone.is_set():
            self.note("hang_up", reason, recorded)
            self.gone.set()
            for _ in range(5):  # the event arrives before the request's response
                await asyncio.sleep(0)

    async def continue_in_dialplan(
        self,
        context: str | None = None,  # noqa: ARG002
        extension: str | None = None,  # noqa: ARG002
        priority: int | None = None,  # noqa: ARG002
    ) -> None:
        self.note("continue")
        self.gone.set()

    async def ring(self) -> None:
        self.note("ring")

    async def ring_stop(self) -> None:
        self.note("ring_stop")

    async def mute(self, direction: str = "in") -> None:
        self.note("mute", direction)

    async def send_digits(self, digits: str, *, duration_ms: int | None = None, between_ms: int | None = None) -> None:
        self.note("send_digits", digits, duration_ms, between_ms)

    async def unless_gone(self, act: Awaitable[Any]) -> Any:
        return await act

    async def visit_dialplan(self, extension: str) -> None:
        self.note("visit_dialplan", extension)
        await pass_time(self.visit_s)

    async def get_variable(self, name: str) -> str:
        return self.variables.get(name, "")


class FakePlayer:
    """Takes as long to play as it sounds."""

    def __init__(self, leg: FakeLeg, heard: list[tuple[Any, ...]]) -> None:
        self._leg = leg
        self._heard = heard
        self._stopped = asyncio.Event()
        self.closed = False

    async def play(self, pcm: bytes, rate: int) -> None:
        began = now()
        self._stopped.clear()
        try:
            async with asyncio.timeout(len(pcm) / 2 / rate):
                await self._stopped.wait()
        except TimeoutError:
            pass
        finally:
            self._heard.append((self._leg.id, began, now(), bytes(pcm[:1])))
        if self._leg.gone.is_set():
            raise LegEnded("gone")

    def stop(self) -> None:
        self._stopped.set()

    async def close(self) -> None:
        self.closed = True
        self.stop()


class FakePlayers:
    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []
        """(leg, from, to, first byte): what was heard when."""
        self.made: list[FakePlayer] = []

    def of(self, leg: FakeLeg) -> FakePlayer:
        self.made.append(FakePlayer(leg, self.heard))
        return self.made[-1]


class FakeSpeech:
    def __init__(self) -> None:
        self.said: list[Utterance] = []

    async def say(self, utterance: Utterance) -> Sound:
        if utterance.text == "unspeakable":
            raise SpeechFailed("it cannot be said")
        self.said.append(utterance)
        return Sound(b"s" * int(RATE * SAID_S) * 2, RATE)


class FakeSounds:
    async def get(self, url: str, *, configured: bool = False) -> Sound:  # noqa: ARG002
        if "missing" in url:
            raise SoundUnavailable(f"{url} is not there")
        return Sound(url[-1:].encode() * RATE * 2, RATE)  # one second


class FakeOutboundCall:
    def __init__(self, leg: FakeLeg, after_s: float, reason: str) -> None:
        self.id = leg.id
        self.leg = leg
        self._after_s = after_s
        self._reason = reason
        self.cancelled_at: float | None = None

    async def answered(self) -> FakeLeg:
        await pass_time(self._after_s)
        if self._reason:
            raise NotAnswered(self._reason)  # type: ignore[arg-type]
        self.leg.answered = True
        return self.leg

    async def cancel(self, *, answered_elsewhere: bool = False) -> None:
        self.cancelled_at = now()
        self.answered_elsewhere = answered_elsewhere
        self.leg.gone.set()


class FakeOriginator:
    """Answers as in ``outcomes`` for a target: (seconds, "" or the reason that nobody answers)."""

    def __init__(self, records: Records) -> None:
        self.outcomes: dict[str, tuple[float, str]] = {}
        self.rung: list[FakeOutboundCall] = []
        self.asked: list[tuple[float, Address, dict[str, Any]]] = []
        self.limit = 100
        self._records = records

    def check(self, destination: Address, source: Address | None = None) -> None:
        if destination.target == "bad":
            raise ValueError("cannot be dialed")
        if source is not None and source.target == "forged":
            raise NotAllowed("source is not allowed")

    async def originate(self, destination: Address, *, groupcall_id: str = "", flow_id: str = "", **how: Any) -> Any:
        self.check(destination)
        if len(self.rung) >= self.limit:
            raise Overloaded("no more")
        self.asked.append((now(), destination, how))
        leg = FakeLeg(f"placed-{len(self.rung) + 1}", answered=False)
        self._records.originated(
            leg.id,
            source=how.get("source") or Address(),
            destination=destination,
            groupcall_id=groupcall_id,
            flow_id=flow_id,
        )
        call = FakeOutboundCall(leg, *self.outcomes.get(destination.target, (1.0, "")))
        self.rung.append(call)
        return call


class FakePartners:
    def __init__(self, leg: FakeLeg, other: FakeLeg) -> None:
        self.leg, self.other = self._legs = (leg, other)

    async def peer_left(self) -> FakeLeg:
        waits = [asyncio.ensure_future(each.gone.wait()) for each in self._legs]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return next(each for each in self._legs if each.gone.is_set())


class FakeLegs:
    def __init__(self) -> None:
        self.known: dict[str, FakeLeg] = {}

    def get(self, channel_id: str) -> FakeLeg | None:
        return self.known.get(channel_id)

    def take(self, channel_id: str) -> FakeLeg | None:  # noqa: ARG002
        return None

    async def bridge_together(self, leg: FakeLeg, other: FakeLeg) -> FakePartners:
        other.bridge_id = leg.bridge_id
        return FakePartners(leg, other)


class FakeRecording:
    def __init__(self, number: int, call_id: str = "", direction: str = "both") -> None:
        self.call_id, self.direction, self.tm_start = call_id, direction, now()
        self.id = f"recording-{number}"
        self.format = "wav"
        self.duration_s = 3.2
        self.trouble = ""
        self.over = asyncio.Event()

    @property
    def status(self) -> str:
        return "ended" if self.over.is_set() else "recording"

    async def finished(self) -> None:
        await self.over.wait()


class FakeRecordings:
    def __init__(self) -> None:
        self.made: list[FakeRecording] = []
        self.principals: list[Principal] = []
        self.did: list[tuple[Any, ...]] = []

    async def start(self, channel_id: str, *, principal: Principal, **how: Any) -> FakeRecording:
        self.principals.append(principal)
        self.did.append(("start", channel_id, how))
        self.made.append(FakeRecording(len(self.made) + 1, channel_id, how["direction"]))
        return self.made[-1]

    def get(self, recording_id: str) -> FakeRecording:
        return next(each for each in self.made if each.id == recording_id)

    async def stop(self, recording_id: str) -> FakeRecording:
        self.did.append(("stop", recording_id))
        found = next((each for each in self.made if each.id == recording_id), None)
        if found is None or found.over.is_set():
            raise KeyError(recording_id)
        found.over.set()
        return found


class FakeConferences:
    def __init__(self) -> None:
        self.did: list[tuple[Any, ...]] = []
        self.members: dict[str, int] = {}
        self.joined_s = 5.0

    def get(self, conference_id: str) -> Any:
        if conference_id not in self.members:
            return None
        return type("Conference", (), {"participants": (None,) * self.members[conference_id]})()

    async def join(self, leg: FakeLeg, conference_id: str, *, muted: bool = False, create: bool = False) -> str:
        self.did.append(("join", leg.id, conference_id, create, muted))
        await pass_time(self.joined_s)
        return "kicked"

    async def delete(self, conference_id: str) -> None:
        self.did.append(("delete", conference_id))


class FakeStream:
    agent = None

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def wait(self) -> None:
        await self.ended.wait()


class FakeStreams:
    def __init__(self) -> None:
        self.did: list[tuple[Any, ...]] = []
        self.started: list[FakeStream] = []
        self.principals: list[Principal] = []

    async def external_media_start(self, leg: FakeLeg, wanted: Any, principal: Principal) -> Any:  # noqa: ARG002
        self.principals.append(principal)
        self.did.append((now(), "external_media_start", wanted))
        return SimpleNamespace(ended=False)

    async def external_media_stop(self, leg: FakeLeg) -> None:  # noqa: ARG002
        self.did.append((now(), "external_media_stop"))

    async def external_media_over(self, leg: FakeLeg) -> None:
        pass

    async def stream_start(
        self,
        leg: FakeLeg,  # noqa: ARG002
        wanted: Any,
        principal: Principal,
        label: str = "",  # noqa: ARG002
    ) -> FakeStream:
        self.principals.append(principal)
        self.did.append((now(), "stream_start", wanted))
        self.started.append(FakeStream())
        return self.started[-1]

    async def stream_stop(self, leg: FakeLeg, wanted: Any) -> None:  # noqa: ARG002
        self.did.append((now(), "stream_stop", wanted))

    def transfer_joined(self, leg: FakeLeg, other: FakeLeg) -> None:  # noqa: ARG002
        self.did.append((now(), "transfer_joined", other.id))

    def transfer_left(self, leg: FakeLeg) -> None:  # noqa: ARG002
        self.did.append((now(), "transfer_left"))

    async def stop(self, leg: FakeLeg, reason: str = "") -> None:  # noqa: ARG002
        self.did.append((now(), "stop"))


class FakeSensitive:
    def __init__(self) -> None:
        self.did: list[tuple[Any, ...]] = []
        self.covered: set[str] = set()
        """Channels of calls in sensitive mode."""

    def covers(self, identity: str) -> bool:
        return identity in self.covered

    async def start(self, identity: str, timeout_s: float = 0) -> None:
        if identity == "unknown":
            raise KeyError(identity)
        self.did.append(("start", identity, timeout_s))

    async def stop(self, identity: str) -> None:
        self.did.append(("stop", identity))


class FakeEchoes:
    def __init__(self) -> None:
        self.echoed: list[float] = []

    async def echo(self, leg: FakeLeg, seconds: float) -> None:  # noqa: ARG002
        self.echoed.append(seconds)
        await pass_time(seconds)


class FakeWeb:
    """Answers as in ``answers`` for a URL: an `ServerResponse`, or an exception."""

    def __init__(self) -> None:
        self.answers: dict[str, ServerResponse | Exception | Callable[[], Awaitable[ServerResponse]]] = {}
        self.asked: list[tuple[str, str, bytes | None, Mapping[str, str]]] = []
        self.configured: list[bool] = []
        self.signed_for: list[str] = []

    async def ask(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Any = None,
        secrets: Any = None,
        trust: Any = None,  # noqa: ARG002
        configured: bool = False,
        flow_id: str = "",
    ) -> ServerResponse:
        self.signed_for.append(flow_id)
        self.configured.append(configured)
        self.asked.append((method, url, body, {**(headers or {}), **(secrets or {})}))
        answer = self.answers.get(url, WebFailed("nobody there"))
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, ServerResponse) else await answer()


EVERYTHING = ActionSettings.of(
    Config.model_validate(
        {
            "calling": {
                "context": "media-tap",
                "tel_endpoint": "PJSIP/{number}@trunk",
                "sip_endpoint": "PJSIP/sip-out/{uri}",
                "sip_hosts": ["*"],
            },
            "voxology": {"flow": "dialed"},
            "speech": {"sounds_dir": "/var/lib/sounds"},
            "dialplan": [
                {
                    "id": "reception",
                    "match": "800",
                    "url": "wss://model.example.org/",
                    "dialect": "openai_realtime",
                    "agent": {"key_file": "/etc/key", "language": "en"},
                }
            ],
        }
    )
)
"""All that actions may need is configured, but flows."""


ACCOUNT = TwimlAccount("AC" + "7" * 32, "a-token-for-the-tests", "https://bridge.example.org", originate=True)


class World:
    """Everything, with handles on the stand-ins."""

    def __init__(self) -> None:
        self.happened: list[Event] = []
        self.events = Events(lambda: now())
        self.events.subscribe(self.happened.append)
        self.records = Records(self.events, lambda: now())
        self.legs = FakeLegs()
        self.originator = FakeOriginator(self.records)
        self.outbound_calls = OutboundCalls(self.originator, self.records)  # type: ignore[arg-type]
        self.players = FakePlayers()
        self.recordings = FakeRecordings()
        self.conferences = FakeConferences()
        self.streams = FakeStreams()
        self.speech = FakeSpeech()
        self.sounds = FakeSounds()
        self.echo = FakeEchoes()
        self.web = FakeWeb()
        self.sensitive = FakeSensitive()
        stand_ins: Any = self
        self.status_callbacks = StatusCallbacks(self.events, self.records, stand_ins.web, ACCOUNT, lambda: now())
        self.services = FlowServices(
            legs=stand_ins.legs,
            originator=stand_ins.originator,
            players=stand_ins.players,
            recordings=stand_ins.recordings,
            conferences=stand_ins.conferences,
            streams=stand_ins.streams,
            records=self.records,
            events=self.events,
            speech=stand_ins.speech,
            sounds=stand_ins.sounds,
            echo=self.echo,  # type: ignore[arg-type]
            web=stand_ins.web,
            sensitive=stand_ins.sensitive,
            facilities=EVERYTHING,
            status_callbacks=self.status_callbacks,
            account=ACCOUNT,
        )

    def leg(self, channel_id: str = "call-1", *, answered: bool = True) -> FakeLeg:
        leg = self.legs.known[channel_id] = FakeLeg(channel_id, answered=answered)
        self.records.originated(channel_id, source=Address("tel", "+4930111"), destination=Address("extension", "1001"))
        return leg

    def run(self, flow: Any, leg: FakeLeg | None = None, session_data: Any = None, **variables: str) -> Run:
        some: Any = leg or self.leg()
        known = Variables(variables, session_data)
        return Run(
            some, parse(flow), principal=TOKEN, services=self.services, flows=self.flow_manager(), variables=known
        )

    async def done(self, flow: Any, leg: FakeLeg | None = None, **variables: str) -> tuple[Run, End]:
        run = self.run(flow, leg, **variables)
        return run, await run.run()

    def flow_manager(self, flows: Sequence[Flow] = (), voxology: VoxologyConfig | None = None) -> FlowManager:
        return FlowManager(flows, self.services, self.outbound_calls, voxology)

    async def close(self, manager: FlowManager) -> None:
        """Stop as a process does."""
        await self.outbound_calls.close()
        await manager.close()

    def told(self, kind: str) -> list[Mapping[str, Any]]:
        return [event.data for event in self.happened if event.type == kind]

    def failures(self) -> list[tuple[int, str]]:
        return [(data["index"], data["reason"]) for data in self.told("flow_action") if data["reason"]]


def channel(channel_id: str = "call-1", exten: str = "760", number: str = "1001") -> Channel:
    return Channel(
        id=channel_id,
        name=f"PJSIP/{number}-1",
        state="Ring",
        caller=Caller(name="Alice", number=number),
        dialplan=Dialplan(context="from-internal", exten=exten, priority=1),
    )


def step(kind: str, action_id: Any = "", next_id: Any = "", **option: Any) -> dict[str, Any]:
    """Return an action in VoIPBIN's syntax."""
    made: dict[str, Any] = {"type": kind}
    if option:
        made["option"] = option
    if action_id:
        made["id"] = action_id
    if next_id:
        made["next_id"] = next_id
    return made
