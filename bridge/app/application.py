"""The composition root: builds and connects all components, and stops them in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Any

from bridge.access import CONFIGURATION, Principal
from bridge.api.backend import Backend, ConferenceServices
from bridge.api.events import EventSockets
from bridge.api.server import HttpServer
from bridge.api.tokens import principal_of
from bridge.app.addresses import log_audiosocket, log_http
from bridge.app.call_subsystem import CallSubsystem
from bridge.app.cluster_node import in_cluster
from bridge.app.configured import Configured, waiting_for_restart
from bridge.app.inbound_admission import InboundAdmission
from bridge.app.resuming import Resuming
from bridge.app.revoking import Revoking
from bridge.app.suspending import Suspending
from bridge.app.synchronization import Synchronization
from bridge.app.worker_share import WorkerShare
from bridge.ari.client import AriClient
from bridge.ari.model import ChannelDtmfReceived, Event
from bridge.audio.adaptive_lead import AdaptiveLead
from bridge.audio.cut_budget import CutBudget
from bridge.audio.format import AudioFormat
from bridge.audio.playout import Playout
from bridge.audit import AuditLog
from bridge.calls.call_json import full_call_json
from bridge.calls.call_record import CallRecord
from bridge.calls.ids import OwnIds
from bridge.calls.journal import Journal, journal_file
from bridge.calls.participants import Participants
from bridge.calls.party_events import PartyEvents
from bridge.calls.records import Records
from bridge.calls.tracker import CallTracker
from bridge.conferences.remote import RemoteConferences
from bridge.config import Config
from bridge.control.legs import Legs
from bridge.control.recording_archive import Archive
from bridge.control.sensitive import SensitiveMode
from bridge.control.stasis import StasisCalls
from bridge.errors import ConfigError
from bridge.events.hub import Events
from bridge.events.webhooks import Webhooks
from bridge.media.admission import AddressAdmission
from bridge.media.call_admission import CallAdmission
from bridge.media.counters import Counters
from bridge.media.listener import Listener
from bridge.media.loop_lag import LoopLag
from bridge.outbound.gate import Gate
from bridge.outbound.policy import Policy
from bridge.streams.agent_session import Agents
from bridge.streams.agent_usage import AgentUsage
from bridge.streams.claims import Claims
from bridge.streams.client_streams import ClientStreams
from bridge.streams.inbound import InboundCalls
from bridge.streams.media_stream_endpoint import MediaStreamEndpoint
from bridge.streams.registry import Streams
from bridge.streams.subscription import routes_of, subscriptions_of
from bridge.streams.subscription_catalog import SubscriptionCatalog
from bridge.streams.subscription_store import SubscriptionStore
from bridge.streams.subscriptions import Subscriptions, starting
from bridge.taps.renewal import Renewal
from bridge.taps.taps import Taps

log = logging.getLogger(__name__)

REVOKED = (1008, "the token is no longer valid")
SHUTDOWN_S = 4.0
"""Time for removing objects from the PBX at a stop. Together with the HTTP server's time, an Asterisk that hangs then
costs less than the 10 s after which Docker kills the process; what is left behind is swept by the next run."""


class Application:
    """All of asterisk-bridge in one process; an asynchronous context manager, or ``start`` and ``stop``.

    Args:
        config: the configuration.
        claims: decides which process starts what a subscription wants, if others see the same calls; without it, this
            one starts all of it. With ``[cluster]`` the nodes decide together.
        sharing: the share of one of several workers; None: there are no others.
    """

    ended = None
    """Only a signal ends it."""

    def __init__(self, config: Config, claims: Claims | None = None, sharing: WorkerShare | None = None) -> None:
        self.config = config
        self.counters = Counters()
        self._cuts = CutBudget(time.monotonic)
        node, worker = config.cluster.node_name(config.ari), sharing.number if sharing else 0
        self.audit = AuditLog(config.audit, node=node, worker=worker)
        remote = sharing.conferences if sharing else RemoteConferences()
        app, shared_app = (sharing.app, config.ari.app) if sharing else (config.ari.app, "")
        self.admission = CallAdmission(
            config.media.max_streams,
            (sharing.number, sharing.count) if sharing else (1, 1),
            late_ms=config.media.refuse_late_ms,
            late_from=config.media.refuse_from,
            counters=self.counters,
        )
        self.admission.load = lambda: max(self.admission.open, len(self.stasis) + len(self.legs))
        self.admission.on_free = self._reconsider
        self._lag = LoopLag(self.counters.loop_lag, self.admission.measured)
        self.ids = OwnIds(app)
        self.listener = Listener(
            self.counters,
            handshake_timeout_s=config.audiosocket.handshake_timeout_s,
            admission=AddressAdmission(config.audiosocket.allowed, config.audio_host),
        )
        ari = config.ari
        self.client = AriClient(ari.url, ari.user, ari.password.get_secret_value(), app, ca_file=ari.ca_file)
        self.events = sharing.events if sharing else Events()
        self.tracker = CallTracker(
            self.client, shared_app=shared_app, withholds=not config.privacy.show_withheld_numbers
        )
        naming = config.pbx
        self.participants = Participants(self.tracker, lambda identity: self.records.get(identity), naming)
        self.tracker.subscribe(self.participants.on_change)  # before what publishes events of calls
        self.journal = Journal(sharing.journal if sharing else journal_file(config.streams.state_file))
        self.client.on_replaced(lambda old, new: self.journal.renamed(old.id, new.id))
        self.records = Records(self.events, time.time, self.journal)
        self.tracker.subscribe(self.records.on_change)
        self.tracker.subscribe(PartyEvents(self.events, self.records).on_change)
        self.client.on_event("*", self.records.on_event)
        self.sensitive = SensitiveMode(self.client, self.tracker, self.records, self.events, self.journal)
        self.records.is_sensitive = self.sensitive.covers
        self.legs = Legs(self.client, self.ids, self.records, context=config.calling.context)
        self.stasis = StasisCalls(self.client, self.ids, self.legs, shared_app=shared_app)
        context = config.calling.context
        self.taps = Taps(self.client, self.listener, self.ids, self._advertised, context=context)
        self._renewal = Renewal(self.taps, self.tracker, self.counters, rejoin=self.stasis.rejoin)
        gate = Gate(Policy(config.outbound.allow, config.outbound.deny), config.outbound.ca_dir)
        usage = AgentUsage(config.streams.state_file)
        self._agents = Agents(gate, usage, lambda *prompt: self.calling.announcements.sound(*prompt))
        self.streams = Streams(
            config,
            taps=self.taps,
            counters=self.counters,
            new_playout=self._new_playout,
            admission=self.admission,
            send_dtmf=self.client.channels.send_dtmf,
            get_variable=self.client.channels.get_variable,
            gate=gate,
            events=self.events,
            sensitive=self.sensitive,
            audit=self.audit,
            agents=self._agents,
        )
        self.tracker.on_lost = self.streams.asterisk_lost
        self.client_streams = ClientStreams(self.streams, self.tracker, self.stasis, self.sensitive, naming)
        self.calling = CallSubsystem(
            config,
            client=self.client,
            ids=self.ids,
            tracker=self.tracker,
            records=self.records,
            legs=self.legs,
            taps=self.taps,
            counters=self.counters,
            events=self.events,
            audit=self.audit,
            streams=self.streams,
            naming=naming,
            admission=self.admission,
            gate=gate,
            new_playout=self._new_playout,
            remote_conferences=remote,
            sensitive=self.sensitive,
            journal=self.journal,
            archive=Archive(
                self.client,
                self.ids,
                config.recording,
                app=config.ari.app,
                worker=sharing.number if sharing else 0,
                workers=sharing.count if sharing else 1,
            ),
        )
        self._agents.toolbox = self.calling.toolbox
        self.sensitive.on_change.append(self.streams.review)
        self.records.show = self._show
        self.legs.on_moved = self._on_moved
        conferences = self.calling.conferences
        endpoint = MediaStreamEndpoint(
            *(self.client_streams, self.stasis, self.counters, config, self.admission),
            conferences=conferences,
            accepts=lambda principal: self.http.accepts(principal),
        )
        store = SubscriptionStore(config.streams.state_file)
        self.catalog = SubscriptionCatalog(subscriptions_of(config), store, config.pbx.groups, gate=gate)
        self.cluster = in_cluster(self, app, sharing.number if sharing else None) if config.cluster.enabled else None
        claims = self.cluster.claims if self.cluster else claims
        self.subscriptions = Subscriptions(self.catalog, self.tracker, naming, starting(self.streams), claims)
        self.inbound = InboundCalls(
            routes_of(config),
            client=self.client,
            calls=self.tracker,
            still_held=lambda channel_id: not self.admission.closing and self.stasis.bridge_of(channel_id) is not None,
            naming=naming,
            streams=self.streams,
            max_unordered=config.audiosocket.max_unordered,
        )
        self.tracker.subscribe(self.subscriptions.on_change)
        self.catalog.on_change(self._reconsider)
        self.stasis.on_held = self.inbound.held
        self.stasis.refusal = InboundAdmission(self.admission, self.inbound, self.calling.flow_manager).refusal
        self.listener.unexpected = self.inbound.unexpected
        self.stasis.on_released = self.inbound.left
        self.calling.call_control.before_transfer.append(self.inbound.before_transfer)
        self.client.on_event("ChannelDtmfReceived", self._on_key)
        self.webhooks = Webhooks(config.webhooks, self.events, self.counters, gate=gate)
        self._event_sockets = EventSockets(sharing.heard if sharing else self.events)
        self.http = HttpServer(
            config.http,
            Backend(
                calls=self.tracker,
                streams=self.describe_streams,
                accept_stream=endpoint.accept,
                counters=self.counters,
                ari_connected=lambda: self.synchronized,
                listening=lambda: self.listener.listening,
                ari_trouble=lambda: self.client.trouble,
                ari_undecodable=lambda: self.client.undecodable,
                draining=lambda: self.admission.draining,
                accepting=self.admission.may_start,
                busy=lambda: self.admission.overload.busy,
                subscriptions=self.catalog,
                channels=self.client.channels,
                twilio=config.twilio,
                vendors=config,
                calling=self.calling.services(),
                conferences=ConferenceServices(conferences, endpoint.accept_conference, remote.has),
                events=self._event_sockets.handle,
                owns=sharing.owns if sharing else lambda _: True,
                leads=sharing.leads if sharing else lambda: True,
                cluster=self.cluster,
                participants=self.participants.of,
                audit=self.audit,
            ),
            tables=config.tokens,
            shared=sharing.port if sharing else None,
        )
        self._revoking = Revoking(self.http.tokens, self._revoked)
        self._suspending = Suspending(
            self.journal, config.restart, client=self.client, legs=self.legs, stasis=self.stasis
        )
        self._resuming = Resuming(
            self.journal,
            client=self.client,
            ids=self.ids,
            legs=self.legs,
            stasis=self.stasis,
            records=self.records,
            sensitive=self.sensitive,
            calling=self.calling,
            context=config.calling.context,
            principal_of=lambda fact: principal_of(self.http.tokens, fact),
            extension=config.restart.extension,
        )
        self._synchronization = Synchronization(
            self.client,
            tracker=self.tracker,
            stasis=self.stasis,
            sensitive=self.sensitive,
            recordings=self.calling.recordings,
            ids=self.ids,
            in_use=self._object_ids,
            resume=self._resuming.resume,
        )

    @property
    def synchronized(self) -> bool:
        """Whether the state of the PBX is known, and calls are served."""
        return self._synchronization.synchronized

    @property
    def settled(self) -> asyncio.Event:
        """Set once calls are served, or once calls wait to be served."""
        return self._synchronization.settled

    @property
    def load(self) -> int:
        """The number of open streams, controlled calls, and calls that are originated or run a flow."""
        return self.admission.open + len(self.stasis) + len(self.legs)

    @property
    def http_port(self) -> int:
        """The port of the HTTP server."""
        return self.http.port

    @property
    def audiosocket_port(self) -> int:
        """The port that Asterisk dials."""
        return self.listener.port

    def log_addresses(self) -> None:
        """Log both ports."""
        log_http(self.config, self.http_port)
        log_audiosocket(self.config, self.audiosocket_port)

    async def drain(self) -> None:
        """Accept nothing new, and wait until calls and streams have ended, for at most ``restart.drain_s``."""
        self.admission.draining = True
        await self._suspending.drain(lambda: self.load)

    def abandon(self) -> None:
        """Do nothing: the next start removes what is left on the PBX."""

    async def start(self) -> None:
        """Open both ports and begin to connect to Asterisk, which may become available later.

        Raises:
            OSError: a port cannot be bound.
            ConfigError: the audit log or the file of subscriptions cannot be used.
        """
        try:
            self.audit.start()
            self._lag.start()
            self.catalog.load()
            await self.webhooks.start()
            await self.calling.start()
            self._renewal.start()
            await self.listener.start(self.config.audiosocket.bind_host, self.config.audiosocket.bind_port)
            await self.http.start()
            self._revoking.start()
            if self.cluster is not None:
                await self.cluster.start()
            await self.journal.start()
            self.records.restore()
            await self.client.start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Close every stream, remove this instance's objects from the PBX, and release everything."""
        self.admission.closing = True
        self._synchronization.prevent()
        self.client.finish_within(SHUTDOWN_S)
        suspended = await self._suspending.suspend()
        await self._revoking.stop()
        await self._renewal.stop()
        await self.subscriptions.stop()
        await asyncio.gather(self.streams.stop(), self.calling.stop(suspended=suspended))
        await self._agents.close()
        if self.cluster is not None:
            await self.cluster.stop()
        await self._synchronization.stop()
        await self.taps.stop()
        await self._resuming.stop()
        await self.sensitive.close()
        await self.stasis.stop(suspended=suspended)
        await asyncio.gather(self.webhooks.stop(), self._event_sockets.close())
        await self.http.stop()
        await self.client.stop()
        await self.tracker.close()
        await self.listener.stop()
        self._lag.stop()
        await self.journal.stop()
        await self.audit.stop()

    async def reload(self, config: Config) -> None:
        """Apply the settings that can change at run time (`Configured`), reload TLS files, reopen the audit log.

        Raises:
            ConfigError: the configuration is invalid; nothing has changed.
        """
        found = await Configured.of(config)
        await self.catalog.configure(found.subscriptions, config.pbx.groups)
        self.inbound.configure(found.routes)
        self.calling.configure(found.flows, found.signing_keys, config.tools, found.routes)
        await self.webhooks.configure(config.webhooks)
        self.audit.reopen()
        if config.http.authentication and self.config.http.authentication:
            self._revoking.take(found.tokens)
            self.audit.record("tokens.reload", CONFIGURATION)
        with contextlib.suppress(ConfigError):  # it is logged, and the previous certificate stays
            await self.http.reload_tls()
        if waiting := waiting_for_restart(self.config, config):
            log.warning("changed configuration keys require a restart keys=%s", ",".join(waiting))

    def _revoked(self, principal_id: str) -> None:
        self._event_sockets.end_of_principal(principal_id)
        ended = self.end_of_principal(principal_id, *REVOKED)
        log.info("token revoked, its streams end token=%s count=%d", principal_id, ended)

    async def __aenter__(self) -> Application:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def end_of_principal(self, principal_id: str, code: int, reason: str) -> int:
        """End every stream that a principal caused: its token was revoked.

        Args:
            principal_id: as in `bridge.access.Principal`.
            code: WebSocket close code.
            reason: part of the Close, the log line and the event ``stream_ended``.

        Returns:
            How many streams end.
        """
        streams = self.streams.end_of_principal(principal_id, code, reason)
        self.audit.record("tokens.revoke", Principal(principal_id), reason=reason, streams=streams)
        return streams

    def _reconsider(self) -> None:
        self.subscriptions.reconsider(tuple(self.tracker.calls.values()))

    def _new_playout(self, fmt: AudioFormat) -> Playout:
        media = self.config.media
        lead_ms = media.playout_lead_ms
        if isinstance(lead_ms, int):
            return Playout(fmt, media.max_queued_ms, lead_ms)
        lead = AdaptiveLead(lead_ms["min"], lead_ms["max"], time.monotonic, self._cuts)
        return Playout(fmt, media.max_queued_ms, lead=lead)

    def _on_key(self, event: Event) -> None:
        if isinstance(event, ChannelDtmfReceived) and not self.sensitive.covers(event.channel.id):
            self.streams.key_pressed(event.channel.id, event.digit)

    def _on_moved(self, channel_id: str) -> None:
        self.client_streams.party_moved(channel_id)
        self.calling.streams.moved(channel_id)

    def _show(self, record: CallRecord) -> dict[str, Any]:
        return full_call_json(record, self.tracker.calls.get(record.id), self.streams.count_of(record.id))

    def describe_streams(self) -> list[Mapping[str, object]]:
        """Return descriptions of all streams for lists."""
        return [stream.describe() for stream in self.streams]

    def _advertised(self) -> str:
        return self.config.audiosocket.advertised_address(self.listener.port)

    def _object_ids(self) -> Collection[str]:
        return {*self.taps.object_ids, *self.stasis.object_ids, *self.calling.object_ids}
