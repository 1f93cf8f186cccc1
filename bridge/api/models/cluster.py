"""The nodes that share a store, and their calls."""

from typing import Annotated

from pydantic import Field

from bridge.api.models.base import Shown, Time
from bridge.api.models.common import MAX_TEXT, Page, Paging


class Node(Shown):
    """A node that reports regularly."""

    name: str
    pbx: str
    """The Asterisk that it is connected to."""
    app: str
    """Its Stasis application."""
    version: str
    tm_start: Time
    asterisk: bool
    """Whether it is connected to its Asterisk."""
    calls: int
    """Calls of its Asterisk."""
    streams: int
    """Its open streams."""
    claims: int
    """Calls that it streams for subscriptions, counted once for each subscription."""
    waiting: int
    """Calls that it would take over from other nodes."""
    cpu: float
    """The fraction of a core that it used in the last second."""


class Nodes(Shown):
    """All nodes."""

    result: list[Node]


class ListClusterCalls(Paging):
    """A filter for the list of calls."""

    pbx: Annotated[str, Field(max_length=MAX_TEXT)] = ""
    """Only those of this Asterisk."""
    node: Annotated[str, Field(max_length=MAX_TEXT)] = ""
    """Only those that this node sees."""


class ClusterParty(Shown):
    """One channel of a call."""

    id: str
    endpoint: str
    state: str


class ClusterCall(Shown):
    """A call on any node."""

    id: str
    """Unique on its Asterisk."""
    pbx: str
    """The Asterisk that it is on."""
    nodes: list[str]
    """The nodes that see it and can control it."""
    status: str
    source: str
    """The caller's number."""
    destination: str
    tm_create: str
    """When it began; empty if Asterisk did not report it."""
    parties: list[ClusterParty]
    streams: int
    """How many open streams it has, on all nodes together."""


class ClusterCalls(Page):
    """A page of calls."""

    result: list[ClusterCall]
