"""The parts of asterisk-bridge that actions use, in one value."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct, field
from msgspec.structs import replace

from bridge.audit import NO_AUDIT, Audit
from bridge.calls.records import Records
from bridge.conferences.conferences import Conferences
from bridge.control.legs import Legs
from bridge.control.originate import Originator
from bridge.control.playback import Players
from bridge.control.recording import Recordings
from bridge.control.sensitive import SensitiveMode
from bridge.events.hub import Events
from bridge.flows.action_settings import ActionSettings, models_among
from bridge.flows.echo import EchoService
from bridge.flows.status_callbacks import StatusCallbacks
from bridge.flows.twiml_requests import TwimlAccount
from bridge.flows.web import Web
from bridge.outbound.gate import Gate
from bridge.speech.engine import Speech
from bridge.speech.fetch import SoundFetcher
from bridge.streams.flow_streams import FlowStreams
from bridge.streams.subscription import DialplanRoute


class FlowServices(Struct):
    """The parts of asterisk-bridge that actions use."""

    legs: Legs
    originator: Originator
    players: Players
    recordings: Recordings
    conferences: Conferences
    streams: FlowStreams
    records: Records
    events: Events
    speech: Speech
    sounds: SoundFetcher
    echo: EchoService
    web: Web
    sensitive: SensitiveMode
    settings: ActionSettings
    status_callbacks: StatusCallbacks
    account: TwimlAccount = field(default_factory=TwimlAccount)
    audit: Audit = NO_AUDIT
    gate: Gate = field(default_factory=Gate)

    def use_models(self, routes: Iterable[DialplanRoute]) -> None:
        """Replace the models of ``ai_talk``, for conversations from now on and flows that are checked from now on."""
        self.settings = replace(self.settings, models=models_among(routes))
