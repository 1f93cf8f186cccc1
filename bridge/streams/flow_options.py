"""Streams that flows request, as values that `bridge.flows.actions.streams` builds from checked options. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from msgspec import Struct
from pydantic import PrivateAttr, model_validator

from bridge import dialects
from bridge.dialects.base import Spy
from bridge.streams.subscription import DialplanRoute, Target, values_of

FlowDirection = Literal["", "in", "out", "both"]
Transport = Literal["udp", "tcp"]

TRANSFER = "transfer"
"""The track of the party that the flow has connected to its call; all others are tracks of the flow's own call."""
TRANSPORT_OF: Mapping[str, Transport] = {"rtp": "udp", "audiosocket": "tcp"}
"""Transport of each encapsulation of external media; ARI refuses other pairs (``channels.json``)."""


def track_spies() -> Mapping[str, Spy]:
    """Return all tracks that a stream of a flow may have, and the audio of each."""
    of_layouts = {name: spy for layout in dialects.layouts().values() for name, spy in layout.tracks.items()}
    return {"caller": "in", TRANSFER: "in", **of_layouts}


class FlowTarget(Target):
    """An application in an action of a flow."""

    of_configuration: bool = False
    two_way: bool = True
    """The application may send audio, if its dialect supports it."""
    owner: str = ""
    """Who defines its model: ``dialplan:ID``, ``flow:ID`` or ``token:ID``; calls of one owner share the minutes of a
    day."""

    _sends_audio: bool = PrivateAttr()

    @model_validator(mode="after")
    def _dialect_takes_options(self) -> Self:
        self._sends_audio = self._check_dialect(two_way=self.two_way).two_way
        return self

    def _check_templates(self) -> None:
        """Accept any name: flows have variables of their own, and what is unknown here stays as it is."""

    @property
    def sends_audio(self) -> bool:
        """Whether the application may send audio."""
        return self._sends_audio

    @property
    def host_configured(self) -> bool:
        """Whether the configuration file determines the host of the URL."""
        return self.of_configuration

    @property
    def counted_as(self) -> str:
        """The key by which the minutes of a model are counted; empty: the stream's origin."""
        return self.owner


class ExternalApplication(Struct, frozen=True):
    """External media to an application that asterisk-bridge connects to.

    Args:
        target: the application.
        listen: audio of the party that it receives.
        speak: who receives its audio.
    """

    target: FlowTarget
    listen: FlowDirection
    speak: FlowDirection

    @property
    def track(self) -> str:
        """The name of its only track."""
        return self.target.dialect_class.caller_track or self.listen or "both"


class ExternalServer(Struct, frozen=True):
    """External media between Asterisk and another server.

    Args:
        host: ``host:port``: Asterisk itself sends audio there, and plays what it receives.
        encapsulation: ``rtp`` or ``audiosocket``.
        format: Asterisk's name of the codec.
        data: the first message of AudioSocket, a UUID; empty: any.
        listen: audio of the party that the server receives.
        speak: who receives the server's audio.
        configured: the configuration determines the host.
    """

    host: str
    encapsulation: str
    format: str
    data: str
    listen: FlowDirection
    speak: FlowDirection
    configured: bool = False


class StreamStart(Struct, frozen=True):
    """A stream to start, or tracks to add to one.

    Args:
        target: the application.
        tracks: the audio of each track, by the track's name.
        name: identifies the stream for ``stop``.
        data: sent unchanged.
    """

    target: FlowTarget
    tracks: Mapping[str, FlowDirection]
    name: str = ""
    data: Mapping[str, Any] | None = None


class StreamStop(Struct, frozen=True):
    """Streams, or tracks of them, to stop.

    Args:
        url: of the application; empty: `name` decides.
        name: of the stream; if both are empty: all streams of the call.
        tracks: those to stop; empty: all.
        data: replaces the data in the last message.
    """

    url: str = ""
    name: str = ""
    tracks: frozenset[str] = frozenset()
    data: Mapping[str, Any] | None = None


def model_target(route: DialplanRoute, language: str = "") -> FlowTarget:
    """Return the model of a route, for an action of a flow.

    Args:
        route: the route.
        language: of the conversation; empty: as configured.
    """
    values = values_of(route)
    if language:
        values["agent"] = {**values.get("agent", {}), "language": language}
    kept = FlowTarget.model_fields.keys() & values.keys()
    of_route = {"of_configuration": True, "owner": f"dialplan:{route.id}"}
    return FlowTarget.model_validate({key: values[key] for key in kept} | of_route)
