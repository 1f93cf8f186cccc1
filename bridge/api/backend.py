"""The services behind the HTTP API, provided by `bridge.app.application.Application`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aiohttp import web
from msgspec import Struct, field

from bridge.access import PartyNames, Principal
from bridge.ari.resources import Channels
from bridge.audit import NO_AUDIT, Audit
from bridge.calls.call import Call, Party
from bridge.calls.records import Records
from bridge.calls.tracker import CallTracker
from bridge.conferences.conferences import Conferences
from bridge.config import FlowConfig, TwilioConfig, Vendors, VoxologyConfig
from bridge.control.call_control import CallControl
from bridge.control.outbound_calls import OutboundCalls
from bridge.control.recording import Recordings
from bridge.control.sensitive import SensitiveMode
from bridge.flows.manager import FlowManager
from bridge.flows.status_callbacks import StatusCallbacks
from bridge.media.counters import Counters
from bridge.speech.engine import Speech
from bridge.speech.fetch import SoundFetcher
from bridge.streams.flow_streams import FlowStreams
from bridge.streams.media_stream_endpoint import MediaStreamOptions
from bridge.streams.registry import OnRequest
from bridge.streams.subscription_catalog import SubscriptionCatalog

if TYPE_CHECKING:
    from bridge.cluster.cluster import Cluster

AcceptStream = Callable[
    [web.Request, Call, Party, MediaStreamOptions, Principal, OnRequest], Awaitable[web.StreamResponse]
]
"""Upgrades a request that was checked to a stream of a call (`MediaStreamEndpoint.accept`).

The response is for aiohttp only, and is not sent if the connection was taken over. Raises, before the upgrade,
Overloaded (503) or AriError (404 or 503).
"""
AcceptConferenceStream = Callable[[web.Request, str, MediaStreamOptions, Principal], Awaitable[web.StreamResponse]]
"""The same for a stream of a conference, given its id. Also raises NoSuchConference and NotControlled."""


class CallServices(Struct, frozen=True):
    """Services of the routes that originate calls and control them.

    Args:
        records: the record of every call.
        call_control: controls calls.
        outbound_calls: originates calls that HTTP requests control.
        flow_manager: originates calls that run a flow.
        speech: converts text to speech.
        sounds: fetches sounds.
        recordings: recordings of calls.
        sensitive: sensitive mode of calls.
        flows: returns the configured flows.
        status_callbacks: sends the changes of calls' status to servers.
        streams: starts streams of controlled calls.
        voxology: its ``api_key`` opens ``/v1/Dials/Connect``; without a key the route does not exist.
    """

    records: Records
    call_control: CallControl
    outbound_calls: OutboundCalls
    flow_manager: FlowManager
    speech: Speech
    sounds: SoundFetcher
    recordings: Recordings
    sensitive: SensitiveMode
    flows: Callable[[], Sequence[FlowConfig]] = tuple
    status_callbacks: StatusCallbacks | None = None
    streams: FlowStreams | None = None
    voxology: VoxologyConfig | None = None


class ConferenceServices(Struct, frozen=True):
    """Services of the routes for conferences.

    Args:
        conferences: the conferences of this process.
        accept_stream: takes over a WebSocket request.
        elsewhere: whether another worker has a conference; streams of this process can still join it.
    """

    conferences: Conferences
    accept_stream: AcceptConferenceStream
    elsewhere: Callable[[str], bool] = lambda _: False


class Backend(Struct, frozen=True):
    """Services behind the routes.

    Args:
        calls: the call tracker.
        streams: describes each open stream; every description has at least ``id`` and ``call_id``.
        accept_stream: takes over a WebSocket request.
        counters: the process's counters.
        ari_connected: whether ARI is connected and the PBX's calls have been read.
        listening: whether Asterisk can connect to the AudioSocket port.
        ari_trouble: why ARI is not connected, as a message for an administrator, if the reason is known.
        ari_undecodable: how many of ARI's events could not be decoded.
        draining: whether the process stops when its calls and streams have ended.
        accepting: whether new calls and streams may start.
        busy: the fraction of the last second in which the event loop was busy, 0 to 1.
        subscriptions: the subscriptions; None: their routes do not exist.
        channels: ends and redirects channels.
        twilio: the account of voice-agent frameworks; without it, or without ``channels``, its routes do not exist.
        vendors: credentials of other vendors' requests; without one, or without ``channels``, its routes do not exist.
        calling: originates calls and controls them; None: those routes do not exist.
        conferences: services for conferences; None: their routes do not exist.
        events: answers ``GET /v1.0/events`` with a WebSocket; None: the route does not exist.
        cluster: all nodes that share a store; None: its routes do not exist.
        owns: whether this process reports a call, by its id; workers divide the calls among them (`bridge.workers`).
        leads: whether this process reports what no worker owns.
        participants: the extensions and trunks that take part in a call, by its id or a channel's.
        audit: the audit log of requests that have an effect.
    """

    calls: CallTracker
    streams: Callable[[], Iterable[Mapping[str, object]]]
    accept_stream: AcceptStream
    counters: Counters
    ari_connected: Callable[[], bool]
    listening: Callable[[], bool]
    ari_trouble: Callable[[], str | None] = lambda: None
    ari_undecodable: Callable[[], int] = lambda: 0
    draining: Callable[[], bool] = lambda: False
    accepting: Callable[[], bool] = lambda: True
    busy: Callable[[], float] = lambda: 0.0
    subscriptions: SubscriptionCatalog | None = None
    channels: Channels | None = None
    twilio: TwilioConfig | None = None
    vendors: Vendors = field(default_factory=Vendors)
    calling: CallServices | None = None
    conferences: ConferenceServices | None = None
    events: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
    cluster: Cluster | None = None
    owns: Callable[[str], bool] = lambda _: True
    leads: Callable[[], bool] = lambda: True
    participants: Callable[[str], PartyNames] = lambda _: PartyNames()
    audit: Audit = NO_AUDIT


Operate = Callable[[Principal, str, str, Mapping[str, object]], Awaitable[tuple[int, Any] | None]]
"""Executes an operation on a call that another process controls: by principal, the id of the call or a channel, the end
of the operation's path and the body. Returns status and body of the response; None: this process controls the call."""

BACKEND = web.AppKey("backend", Backend)
OPERATE: web.AppKey[Operate] = web.AppKey("operate")
"""Set where several processes divide the calls among them."""
SUBSCRIPTIONS: web.AppKey[SubscriptionCatalog] = web.AppKey("subscriptions")
TWILIO: web.AppKey[tuple[TwilioConfig, Channels]] = web.AppKey("twilio")
"""The account, and the control of its calls' channels."""
ACCEPTS: web.AppKey[Callable[[Principal], bool]] = web.AppKey("accepts")
"""Whether a principal still has a valid token; a WebSocket whose token was revoked is closed."""
MAX_READERS = 8
"""Recordings that are fetched at the same time: each uses one of the few connections to Asterisk."""
READERS = web.AppKey("readers", asyncio.Semaphore)
"""One slot for each recording that is being fetched."""
PRINCIPAL = web.RequestKey("principal", Principal)
"""The principal of the request; `bridge.access.ANONYMOUS` on public paths, where no credential is needed."""
