"""What flows ask of streams: values that `bridge.flows.actions.streams` builds of options that it has checked. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from pydantic import PrivateAttr, model_validator

from bridge import dialects
from bridge.dialects.base import Spy
from bridge.streams.subscription import Target

Direction = Literal["", "in", "out", "both"]
Transport = Literal["udp", "tcp"]

TRANSFER = "transfer"
"""The track of the party that the flow has connected with its call; all others are of the flow's own call."""
TRANSPORT_OF: Mapping[str, Transport] = {"rtp": "udp", "audiosocket": "tcp"}
"""How Asterisk sends each encapsulation of external media (``channels.json`` of ARI: other pairs are refused)."""


def track_spies() -> Mapping[str, Spy]:
    """Return all tracks that a stream of a flow may have, and what of its party each hears."""
    of_layouts = {name: spy for layout in dialects.layouts().values() for name, spy in layout.tracks.items()}
    return {"caller": "in", TRANSFER: "in", **of_layouts}


class FlowTarget(Target):
    """An application that an action of a flow names."""

    of_configuration: bool = False
    two_way: bool = True
    """The application may speak, if its dialect can carry that."""

    _speaks: bool = PrivateAttr()

    @model_validator(mode="after")
    def _dialect_takes_options(self) -> Self:
        self._speaks = self._check_dialect(two_way=self.two_way).two_way
        return self

    @property
    def speaks(self) -> bool:
        """Whether the application may speak."""
        return self._speaks

    @property
    def host_configured(self) -> bool:
        """Whether the configuration file names the host of its URL."""
        return self.of_configuration


@dataclass(frozen=True, slots=True)
class ExternalApplication:
    """External media to an application, which we dial.

    Args:
        target: the application.
        listen: what it hears of the party.
        speak: who hears it.
    """

    target: FlowTarget
    listen: Direction
    speak: Direction

    @property
    def track(self) -> str:
        """The name of its one track."""
        return self.target.dialect_class.caller_track or self.listen or "both"


@dataclass(frozen=True, slots=True)
class ExternalServer:
    """External media between Asterisk and another server.

    Args:
        host: ``host:port``: Asterisk sends the audio there by itself, and plays what comes back.
        encapsulation: ``rtp`` or ``audiosocket``.
        format: Asterisk's name of the codec.
        data: the UUID with which AudioSocket begins; empty: any.
        listen: what the server hears of the party.
        speak: who hears it.
        configured: the configuration names the host.
    """

    host: str
    encapsulation: str
    format: str
    data: str
    listen: Direction
    speak: Direction
    configured: bool = False


@dataclass(frozen=True, slots=True)
class StreamStart:
    """A stream to start, or tracks to add to one.

    Args:
        target: the application.
        tracks: what is to be heard, by the track's name.
        name: by which ``stop`` may name it.
        data: passed on unchanged.
    """

    target: FlowTarget
    tracks: Mapping[str, Direction]
    name: str = ""
    data: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class StreamStop:
    """Streams, or tracks of them, to stop.

    Args:
        url: of the application; empty: `name` decides.
        name: of the stream; if both are empty: all streams of the call.
        tracks: those to stop; none: all.
        data: what the last message has instead.
    """

    url: str = ""
    name: str = ""
    tracks: frozenset[str] = field(default_factory=frozenset)
    data: Mapping[str, Any] | None = None
