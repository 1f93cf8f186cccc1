"""Everything that a flow needs, with stand-ins for what acts on calls.

Digits, records, events, variables and programs are real.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bridge.access import Principal
from bridge.ari.model import Caller, Channel, Dialplan
from bridge.calls.addresses import Address
from bridge.calls.records import Records
from bridge.config import Config, VoxologyConfig
from bridge.control.outbound_calls import OutboundCalls
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
from tests.fakes.virtual_time import now
from tests.unit.flows.fake_legs import (
    FakeLeg,
    FakeLegs,
    FakeOriginator,
    FakePlayers,
)
from tests.unit.flows.fake_services import (
    FakeConferences,
    FakeEchoes,
    FakeRecordings,
    FakeSensitive,
    FakeSounds,
    FakeSpeech,
    FakeStreams,
    FakeWeb,
)

TOKEN = Principal("crm", "192.0.2.7")
"""The requester of the calls, whose requests start their flows."""

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
            settings=EVERYTHING,
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
