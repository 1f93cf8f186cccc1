"""The parts of asterisk-bridge that actions use, in one value."""

from __future__ import annotations

from msgspec import Struct, field

from bridge.audit import NO_AUDIT, Audit
from bridge.calls.records import Records
from bridge.conferences.conferences import Conferences
from bridge.control.legs import Legs
from bridge.control.originate import Originator
from bridge.control.playback import Players
from bridge.control.recording import Recordings
from bridge.control.sensitive import SensitiveMode
from bridge.events.hub import Events
from bridge.flows.action_settings import ActionSettings
from bridge.flows.echo import EchoService
from bridge.flows.status_callbacks import StatusCallbacks
from bridge.flows.twiml_requests import TwimlAccount
from bridge.flows.web import Web
from bridge.outbound.gate import Gate
from bridge.speech.engine import Speech
from bridge.speech.fetch import SoundFetcher
from bridge.streams.flow_streams import FlowStreams


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
