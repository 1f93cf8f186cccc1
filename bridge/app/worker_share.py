"""The share of one of several workers (`bridge.workers`)."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from bridge.api.ports import SharedPort
from bridge.conferences.remote import RemoteConferences
from bridge.events.hub import Events
from bridge.streams.claims import Claims


class WorkerShare(Struct, frozen=True):
    """One worker's share.

    Args:
        number: which worker it is, from 1.
        count: how many workers exist.
        app: its own Stasis application.
        claims: decides which worker starts what a subscription wants.
        events: publishes only the events that this worker owns.
        heard: the events for its clients: also those of other workers.
        port: how it listens for HTTP.
        conferences: those of the other workers.
        journal: its file of facts about calls; "": nothing is stored.
        owns: returns whether this worker reports and controls a call, by its id or a channel's.
        leads: returns whether this worker reports what no worker owns.
    """

    number: int
    count: int
    app: str
    claims: Claims
    events: Events
    heard: Events
    port: SharedPort
    conferences: RemoteConferences
    journal: str
    owns: Callable[[str], bool]
    leads: Callable[[], bool]
