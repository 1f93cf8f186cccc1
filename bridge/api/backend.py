"""What the API needs of the rest of the bridge, handed to it by ``app.py``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web

from bridge.access import Names, Principal
from bridge.api.parts import (
    AcceptConferenceStream,
    AcceptStream,
    CallActs,
    CallControl,
    CallSource,
    ClusterSource,
    ConferenceSource,
    FlowSource,
    OutboundCallSource,
    RecordingSource,
    RecordSource,
    SensitiveMode,
    SoundSource,
    SpeechSource,
    SubscriptionSource,
)
from bridge.audit import NO_AUDIT, Audit
from bridge.config import FlowConfig, TwilioConfig, VoxologyConfig
from bridge.media.counters import Counters


@dataclass(frozen=True, slots=True)
class CallControlParts:
    """What the routes need that originate calls and act on them.

    Args:
        records: every call's record.
        acts: acts on calls.
        outbound_calls: originates calls that HTTP requests control.
        flow_manager: originates calls that run a flow.
        speech: says texts.
        sounds: fetches sounds.
        recordings: what was recorded.
        sensitive: sensitive mode of calls.
        flows: the configured flows.
        voxology: its ``api_key`` opens ``/v1/Dials/Connect``; without one that is not there.
    """

    records: RecordSource
    acts: CallActs
    outbound_calls: OutboundCallSource
    flow_manager: FlowSource
    speech: SpeechSource
    sounds: SoundSource
    recordings: RecordingSource
    sensitive: SensitiveMode
    flows: Sequence[FlowConfig] = ()
    voxology: VoxologyConfig | None = None


@dataclass(frozen=True, slots=True)
class ConferenceParts:
    """What the routes of conferences need.

    Args:
        conferences: those that this process knows.
        accept_stream: takes over a WebSocket request.
        elsewhere: whether another worker has a conference; streams of ours join it all the same.
    """

    conferences: ConferenceSource
    accept_stream: AcceptConferenceStream
    elsewhere: Callable[[str], bool] = lambda _: False


@dataclass(frozen=True, slots=True)
class Backend:
    """The parts behind the routes.

    Args:
        calls: the call tracker.
        streams: describes each open stream; every description has at least ``id`` and ``call_id``.
        accept_stream: takes over a WebSocket request.
        counters: the process's counters.
        ari_connected: whether ARI is connected and the calls of the PBX are known.
        listening: whether Asterisk can connect to the AudioSocket port.
        ari_trouble: why ARI is not connected, in words for an administrator, if that is known.
        subscriptions: what goes to applications by itself; None: its routes are not there.
        control: acts on calls.
        twilio: the account of voice-agent frameworks; without one, or without ``control``, its routes are not there.
        calling: originates calls and acts on them; None: those routes are not there.
        conferences: likewise.
        events: answers ``GET /v1.0/events`` with a WebSocket; likewise.
        cluster: all bridges that share a store; likewise.
        owns: whether a call is told of by this process, by its id; others tell of others' (`bridge.workers`).
        leads: whether this process tells of what is nobody's.
        participants: the extensions and trunks that take part in a call, by its id or a channel's.
        audit: where requests that have an effect are recorded.
    """

    calls: CallSource
    streams: Callable[[], Iterable[Mapping[str, object]]]
    accept_stream: AcceptStream
    counters: Counters
    ari_connected: Callable[[], bool]
    listening: Callable[[], bool]
    ari_trouble: Callable[[], str | None] = lambda: None
    subscriptions: SubscriptionSource | None = None
    control: CallControl | None = None
    twilio: TwilioConfig | None = None
    calling: CallControlParts | None = None
    conferences: ConferenceParts | None = None
    events: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
    cluster: ClusterSource | None = None
    owns: Callable[[str], bool] = lambda _: True
    leads: Callable[[], bool] = lambda: True
    participants: Callable[[str], Names] = lambda _: Names()
    audit: Audit = NO_AUDIT


BACKEND = web.AppKey("backend", Backend)
SUBSCRIPTIONS: web.AppKey[SubscriptionSource] = web.AppKey("subscriptions")
TWILIO: web.AppKey[tuple[TwilioConfig, CallControl]] = web.AppKey("twilio")
"""The account, and what acts on its calls."""
ACCEPTS: web.AppKey[Callable[[Principal], bool]] = web.AppKey("accepts")
"""Whether a principal still has a good token; one that was revoked meanwhile gets no more."""
PRINCIPAL = web.RequestKey("principal", Principal)
"""Who makes the request; `bridge.access.ANONYMOUS` on public paths, where no credential is needed."""
