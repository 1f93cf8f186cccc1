"""Call control, built and stopped as one: outbound calls, control of calls, flows, speech, conferences."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bridge.api.backend import CallServices
from bridge.app.announcements import Announcer
from bridge.ari.client import AriClient
from bridge.audio.format import AudioFormat
from bridge.audio.playout import Playout
from bridge.audit import Audit
from bridge.calls.ids import OwnIds
from bridge.calls.journal import Journal
from bridge.calls.records import Records
from bridge.calls.tracker import CallTracker
from bridge.conferences.conferences import Conferences
from bridge.conferences.remote import RemoteConferences
from bridge.config import Config, PbxConfig
from bridge.config.agent_tools import ToolConfig
from bridge.control.call_control import CallControl
from bridge.control.dial_policy import DialPolicy
from bridge.control.leg import Leg
from bridge.control.legs import Legs
from bridge.control.originate import Originator
from bridge.control.outbound_calls import OutboundCalls
from bridge.control.playback import Players
from bridge.control.recording import Recordings
from bridge.control.recording_archive import Archive
from bridge.control.sensitive import SensitiveMode
from bridge.control.voice_rate import VoiceRates
from bridge.events.hub import Events
from bridge.flows.action_settings import ActionSettings
from bridge.flows.echo import EchoService
from bridge.flows.flow_config import Flow, flows_of, signing_keys
from bridge.flows.manager import FlowManager
from bridge.flows.services import FlowServices
from bridge.flows.status_callbacks import StatusCallbacks
from bridge.flows.twiml_requests import TwimlAccount
from bridge.flows.web import Web
from bridge.media.call_admission import CallAdmission
from bridge.media.counters import Counters
from bridge.outbound.gate import Gate
from bridge.speech.announcement import Announcements
from bridge.speech.engine import Speech
from bridge.speech.fetch import SoundFetcher
from bridge.streams.external_host import ExternalHost
from bridge.streams.flow_facts import Numbers
from bridge.streams.flow_streams import FlowStreams
from bridge.streams.registry import Streams
from bridge.streams.subscription import DialplanRoute
from bridge.taps.taps import Taps
from bridge.tasks import BackgroundTasks

if TYPE_CHECKING:  # few configurations have tools
    from bridge.agent_tools.toolbox import Toolbox

log = logging.getLogger(__name__)


class CallSubsystem:
    """Everything that controls calls, on top of the model of calls and the audio path.

    Raises:
        ConfigError: a configured flow cannot be run.
    """

    def __init__(
        self,
        config: Config,
        *,
        client: AriClient,
        ids: OwnIds,
        tracker: CallTracker,
        records: Records,
        legs: Legs,
        taps: Taps,
        counters: Counters,
        events: Events,
        audit: Audit,
        streams: Streams,
        naming: PbxConfig,
        admission: CallAdmission,
        gate: Gate,
        new_playout: Callable[[AudioFormat], Playout],
        sensitive: SensitiveMode,
        archive: Archive,
        journal: Journal | None = None,
        remote_conferences: RemoteConferences | None = None,
    ) -> None:
        self._records = records
        self._legs = legs
        self._sensitive = sensitive
        self._tasks = BackgroundTasks("call control")
        self._config = config
        self.speech = Speech(config.speech)
        self.sounds = SoundFetcher(config.speech, gate)
        self.announcements = Announcements(self.speech, self.sounds)
        self._web = Web(gate, keys=signing_keys(config))
        rates = VoiceRates(client)
        players = Players(taps, counters, rates)
        policy = DialPolicy(config.calling, naming, time.monotonic)
        self.originator = Originator(
            *(client, ids, legs, records, config.calling, policy),
            admission=admission,
        )
        self.recordings = Recordings(client, ids, records, events, archive, audit=audit, journal=journal)
        self.recordings.is_sensitive = sensitive.covers
        sensitive.settled = self._adopt_sensitive_mode
        sensitive.on_lifted = legs.forget_digits
        self.conferences = Conferences(
            client, tracker, ids, events, context=config.calling.context, remote=remote_conferences, journal=journal
        )
        self.streams = FlowStreams(
            calls=tracker,
            naming=naming,
            streams=streams,
            new_host=partial(
                ExternalHost,
                client=client,
                ids=ids,
                taps=taps,
                counters=counters,
                gate=gate,
                new_playout=new_playout,
            ),
            admission=admission,
            numbers=self._numbers,
            sensitive=sensitive,
        )
        self.call_control = CallControl(
            client=client,
            tracker=tracker,
            legs=legs,
            records=records,
            originator=self.originator,
            players=players,
            recordings=self.recordings,
            journal=journal,
        )
        self._announcer = Announcer(
            config.privacy,
            events=events,
            tracker=tracker,
            call_control=self.call_control,
            announcements=self.announcements,
            conferences=self.conferences,
            players=players,
        )

        def new_toolbox() -> Toolbox:
            from bridge.agent_tools.tool import ToolServices
            from bridge.agent_tools.toolbox import Toolbox

            services = ToolServices(
                client,
                self.call_control,
                records,
                self.conferences,
                self.bring,
                players,
                policy,
                self.announcements,
                events,
                journal or Journal(),
                sensitive.covers,
                audit,
            )
            return Toolbox(self._tools, services, gate)

        self._new_toolbox = new_toolbox
        self._toolbox: Toolbox | None = None
        self._tools: Sequence[ToolConfig] = config.tools
        account = TwimlAccount.of(config.twilio, config.ari.app)
        self.status_callbacks = StatusCallbacks(events, records, self._web, account, journal=journal)
        services = self._flow_services = FlowServices(
            legs=legs,
            originator=self.originator,
            players=players,
            recordings=self.recordings,
            conferences=self.conferences,
            streams=self.streams,
            records=records,
            events=events,
            audit=audit,
            speech=self.speech,
            sounds=self.sounds,
            echo=EchoService(taps, counters, rates),
            web=self._web,
            gate=gate,
            sensitive=sensitive,
            status_callbacks=self.status_callbacks,
            account=account,
            settings=replace(ActionSettings.of(config), speech_trouble=lambda: self.speech.trouble),
        )
        self.outbound_calls = OutboundCalls(self.originator, records, journal)
        self.flow_manager = FlowManager(
            flows_of(config), services, self.outbound_calls, config.voxology, journal=journal
        )
        self.call_control.before_transfer.append(self.flow_manager.before_transfer)
        legs.claim = self.flow_manager.claims
        legs.on_claimed = self.flow_manager.claimed
        legs.on_conference = self.bring

    @property
    def object_ids(self) -> Collection[str]:
        """Ids of objects on the PBX that are in use, except those of taps and controlled calls."""
        return {*self.recordings.object_ids, *self.conferences.object_ids, *self.streams.object_ids}

    def toolbox(self) -> Toolbox:
        """Return the toolbox, created when the first model needs tools."""
        if self._toolbox is None:
            self._toolbox = self._new_toolbox()
        return self._toolbox

    def services(self) -> CallServices:
        """Return the services for the API."""
        return CallServices(
            records=self._records,
            call_control=self.call_control,
            outbound_calls=self.outbound_calls,
            flow_manager=self.flow_manager,
            speech=self.speech,
            sounds=self.sounds,
            recordings=self.recordings,
            sensitive=self._sensitive,
            flows=lambda: self.flow_manager.configured,
            voxology=self._config.voxology,
            status_callbacks=self.status_callbacks,
            streams=self.streams,
        )

    def configure(
        self,
        flows: Sequence[Flow],
        keys: Mapping[str, bytes],
        tools: Sequence[ToolConfig],
        routes: Sequence[DialplanRoute],
    ) -> None:
        """Replace the configured flows, the keys of their requests, tools and models, for new runs and streams."""
        self._tools = tools
        if self._toolbox is not None:
            self._toolbox.configure(tools)
        self._flow_services.use_models(routes)
        self.flow_manager.configure(flows)
        self._web.keys = keys

    async def start(self) -> None:
        """Log which features are unavailable."""
        if self.speech.trouble is not None:
            log.warning("text-to-speech unavailable error=%s", self.speech.trouble)
        if self._config.calling.sip_endpoint and not self._config.calling.sip_hosts:
            log.warning("calls to SIP addresses are rejected because calling.sip_hosts is empty")

    async def stop(self, *, suspended: bool = False) -> None:
        """End flows and what they opened, hang up outbound calls; incoming calls continue in the dialplan.

        Args:
            suspended: whether calls, recordings and conferences stay on the PBX for the next run.
        """
        await self._announcer.stop()
        if self._toolbox is not None:
            await self._toolbox.stop()
        await self.outbound_calls.close()
        await (self.flow_manager.suspend() if suspended else self.flow_manager.close())
        await self.streams.close()
        await self.call_control.stop()
        await self.originator.stop()
        if not suspended:
            await self.recordings.close()
            await self.conferences.stop()
            await self._legs.stop()
        await self._tasks.stop()
        await self.status_callbacks.close()
        await self._web.close()

    async def _adopt_sensitive_mode(self) -> None:
        """Wait until recordings have paused or resumed, and other servers receive nothing sensitive."""
        await asyncio.gather(self.recordings.settled(), self.streams.silenced())

    def bring(self, leg: Leg, conference_id: str) -> None:
        """Add a call to a conference, if it runs nothing else."""
        self._tasks.spawn(self.conferences.bring(leg, conference_id))

    def _numbers(self, channel_id: str) -> Numbers | None:
        record = self._records.get(channel_id)
        if record is None or not record.originated:
            return None
        return Numbers(record.source.target, record.destination.target)
