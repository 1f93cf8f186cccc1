"""An instance's part in a cluster: what it reports to the other nodes through the shared store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from bridge.api.views import streams_of_calls, summaries
from bridge.calls.records import Records
from bridge.calls.tracker import CallTracker
from bridge.config import Config
from bridge.events.hub import Events
from bridge.media.call_admission import CallAdmission

if TYPE_CHECKING:
    from bridge.cluster.cluster import Cluster


class ClusterNode(Protocol):
    """A node (`bridge.app.application.Application`)."""

    config: Config
    tracker: CallTracker
    records: Records
    events: Events
    admission: CallAdmission

    @property
    def synchronized(self) -> bool:
        """Whether calls are served."""

    def describe_streams(self) -> Iterable[Mapping[str, object]]:
        """Return descriptions of all streams for lists."""


def in_cluster(member: ClusterNode, app: str, worker: int | None) -> Cluster:
    """Return the cluster from the view of one node, or of one worker of it."""
    from bridge.cluster import cluster as shared  # not needed without [cluster]

    tracker, admission = member.tracker, member.admission
    cluster = shared.Cluster(
        member.config,
        app=app,
        worker=worker,
        ready=lambda: member.synchronized and admission.may_start(),
        synchronized=lambda: member.synchronized,
        calls=lambda ids: summaries(
            ids, tracker.calls, streams_of_calls(member.describe_streams(), tracker.find), member.records
        ),
        count=lambda: (len(tracker.calls), admission.open),
    )
    tracker.subscribe(cluster.directory.on_change)
    member.events.subscribe(cluster.directory.on_event)
    return cluster
