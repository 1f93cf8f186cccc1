"""What a bridge is told that shares its work with other processes (`bridge.workers`); without this it is alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bridge.api.ports import SharedPort
from bridge.conferences.remote import RemoteConferences
from bridge.events.hub import Events
from bridge.streams.claims import Claims


@dataclass(frozen=True)
class WorkerShare:
    """One worker's share.

    Args:
        number: which worker it is, from 1.
        count: how many there are.
        app: its own Stasis application.
        claims: who starts what a subscription wants.
        events: tells only what is this worker's to tell.
        heard: what its clients of events hear: also what other workers tell.
        port: how it listens for HTTP.
        conferences: those of the others.
        journal: its file of facts about calls; "": none is kept.
        owns: whether a call (or a channel's) is this worker's to tell of and to act on.
        leads: whether it tells of what belongs to nobody.
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
