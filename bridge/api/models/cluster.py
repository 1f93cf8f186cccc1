"""All bridges that share a store, and their calls."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bridge.api.models.base import Shown, Time
from bridge.api.models.common import MAX_TEXT, Page, Paging


class Node(Shown):
    """A bridge that is there."""

    name: str
    pbx: str
    """The Asterisk that it serves."""
    app: str
    """Its Stasis application."""
    version: str
    tm_start: Time
    asterisk: bool
    """Whether it has a connection to its Asterisk."""
    calls: int
    """Calls of its Asterisk."""
    streams: int
    """Streams that are open in it."""
    claims: int
    """Calls that it streams for subscriptions, each counted once for each subscription."""
    waiting: int
    """Those that it would take over from others."""
    cpu: float
    """How much of a core it has used in the last second or so."""


class Nodes(Shown):
    """All of them."""

    result: list[Node]


class ListClusterCalls(Paging):
    """Which calls."""

    pbx: Annotated[str, Field(max_length=MAX_TEXT)] = ""
    """Only those of this Asterisk."""
    node: Annotated[str, Field(max_length=MAX_TEXT)] = ""
    """Only those that this bridge sees."""


class ClusterParty(Shown):
    """One channel of a call."""

    id: str
    endpoint: str
    state: str


class ClusterCall(Shown):
    """A call, wherever it is."""

    id: str
    """Unique on its Asterisk."""
    pbx: str
    """The Asterisk that has it."""
    nodes: list[str]
    """The bridges that see it, and through which it can be acted upon."""
    status: str
    source: str
    """The caller's number."""
    destination: str
    tm_create: str
    """When it began; empty if Asterisk did not say."""
    parties: list[ClusterParty]
    streams: int
    """How many are open, in all bridges together."""


class ClusterCalls(Page):
    """A page of them."""

    result: list[ClusterCall]
