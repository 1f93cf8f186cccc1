"""What actions of flows ask of streams: ``external_media_start`` (VoIPBIN) and ``STREAM`` (Voxology). Pure.

Making one of these checks everything, the dialect and its options too. What is wrong is told as ``key: reason``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, model_validator

from bridge.config.values import as_tuple
from bridge.dialects.voipbin import ENCAPSULATIONS
from bridge.streams.subscription import Target
from bridge.validation import explain, sentence

Direction = Literal["", "in", "out", "both"]
Transport = Literal["udp", "tcp"]

TRANSFER = "transfer"
TRACKS: Mapping[str, Literal["in", "out", "both"]] = {
    "caller": "in", TRANSFER: "in", "far": "in", "near": "out", "inbound": "in", "outbound": "out", "mix": "both",
}  # fmt: skip
"""Tracks that ``STREAM`` may ask for, and what of its party each hears. ``transfer`` is of the party that the flow has
connected with its call, all others of the flow's own call."""
DEFAULT_TRACKS: Mapping[str, tuple[str, ...]] = {
    "voxology": ("caller",),
    "yeastar": ("caller", "transfer"),
    "twilio": ("inbound",),
}
"""By dialect; ``mix`` for all others."""
EXTERNAL_TRACK: Mapping[str, str] = {"twilio": "inbound", "voxology": "caller"}
"""What a dialect calls the one track of an external media; for others the name says what is heard."""
TRANSPORT_OF: Mapping[str, Transport] = {"rtp": "udp", "audiosocket": "tcp"}
"""How Asterisk sends each encapsulation of external media (``channels.json`` of ARI: other pairs are refused)."""

_TWILIO_TRACKS = {
    "inbound_track": ("inbound",),
    "outbound_track": ("outbound",),
    "both_tracks": ("inbound", "outbound"),
}
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}))")


class FlowTarget(Target):
    """An application that an action of a flow names."""

    of_configuration: bool = False

    @property
    def host_configured(self) -> bool:
        """Whether the configuration file names the host of its URL."""
        return self.of_configuration


class _Options(BaseModel):
    """What both have: the application and how it is spoken to."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)

    url: str = ""
    """``ws://`` or ``wss://``: the application, which we dial."""
    dialect: str = ""
    options: dict[str, Any] = Field(default_factory=dict)
    """Given to the dialect as they are."""
    auth_key: str = "Secret"
    """Name of the header that holds the credential."""
    auth_value: SecretStr = SecretStr("")
    """The credential; empty: none is sent."""
    verify_tls: bool = True
    ca_file: str = ""
    configured: bool = False
    """The configuration says which host it leads to. No option of a flow: the interpreter sets it."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Make one of plain JSON.

        Raises:
            ValueError: ``key: reason``, for each thing that is wrong; ``; `` between them.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as problem:
            raise ValueError(sentence(explain(problem, cls))) from None

    def _target(self, dialect: str, options: Mapping[str, Any], tracks: str, *, two_way: bool) -> Target:
        """The application.

        Raises:
            ValueError: ``key: reason``.
        """
        values = {
            "id": "flow",
            "url": self.url,
            "dialect": dialect,
            "options": dict(options),
            "auth_key": self.auth_key,
            "auth_value": self.auth_value.get_secret_value(),
            "verify_tls": self.verify_tls,
            "ca_file": self.ca_file,
            "tracks": tracks,
        }
        try:
            target = FlowTarget.model_validate(values | {"of_configuration": self.configured})
            target.new_dialect(tracks=target.layout, connect=two_way)
        except ValidationError as problem:
            raise ValueError(sentence(explain(problem, FlowTarget))) from None
        return target


class ExternalMedia(_Options):
    """Options of ``external_media_start``: ``url`` or ``external_host``, VoIPBIN's keys and ours.

    Args:
        external_host: ``host:port``: Asterisk sends the audio there by itself, and plays what comes back.
        encapsulation: ``rtp``, ``sln`` or ``audiosocket`` of the dialect voipbin; ``rtp`` or ``audiosocket`` with
            ``external_host``; by default ``rtp``.
        transport: ``udp`` for rtp, ``tcp`` for audiosocket; need not be given.
        transport_data: refused unless empty: only Asterisk's own WebSockets have it.
        connection_type: ``client``: Asterisk connects.
        format: with ``external_host``: Asterisk's name of the codec; by default ``ulaw`` under rtp, ``slin`` under
            audiosocket.
        direction: ``both``; other values mean something for Asterisk's own WebSockets only.
        direction_listen: what the application hears. With ``url`` nothing by default.
        direction_speak: who hears it. With ``url`` all by default. With ``external_host`` both ways are open if neither
            direction is given.
        data: with audiosocket: the UUID that Asterisk says first; by default a new one.
    """

    external_host: str = ""
    encapsulation: str = ""
    transport: str = ""
    transport_data: str = ""
    connection_type: str = ""
    format: str = ""
    direction: Direction = ""
    direction_listen: Direction = ""
    direction_speak: Direction = ""
    data: str = ""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if bool(self.url) == bool(self.external_host):
            raise ValueError("url: give either url or external_host" + (", not both" if self.url else ""))
        if self.url:
            self._check_url()
        else:
            self._check_host()
        return self

    @cached_property
    def target(self) -> Target:
        """The application that ``url`` names. Made once: that constructs its dialect, which checks the options."""
        dialect = self.dialect or "voipbin"
        options = dict(self.options)
        if dialect == "voipbin":
            options.setdefault("encapsulation", self.encapsulation or "rtp")
        two_way = dialect == "twilio"
        return self._target(dialect, options, "inbound_track" if two_way else "auto", two_way=two_way)

    @property
    def listen(self) -> Direction:
        """What the other end hears of the party."""
        return self.direction_listen if self.url or self._directed else "both"

    @property
    def speak(self) -> Direction:
        """Who hears the other end."""
        if not self.url:
            return self.direction_speak if self._directed else "both"
        return (self.direction_speak or "both") if self._two_way else ""

    @property
    def asterisk_encapsulation(self) -> str:
        """With ``external_host``: ``rtp`` or ``audiosocket``."""
        return self.encapsulation or "rtp"

    @property
    def asterisk_format(self) -> str:
        """With ``external_host``: Asterisk's name of the codec."""
        return self.format or ("ulaw" if self.asterisk_encapsulation == "rtp" else "slin")

    @property
    def _directed(self) -> bool:
        return bool(self.direction_listen or self.direction_speak)

    @cached_property
    def _two_way(self) -> bool:
        return self.target.new_dialect(connect=True).two_way

    def _check_url(self) -> None:
        for key in ("transport", "transport_data", "connection_type", "format", "direction", "data"):
            if getattr(self, key):
                raise ValueError(f"{key}: goes with external_host, not with url")
        if self.encapsulation:
            if self.dialect not in ("", "voipbin"):
                raise ValueError(f"encapsulation: is of the dialect voipbin; {self.dialect[:40]!r} has none")
            if self.encapsulation not in ENCAPSULATIONS:
                raise ValueError(f"encapsulation: expected one of {', '.join(ENCAPSULATIONS)}")
            if self.options.get("encapsulation", self.encapsulation) != self.encapsulation:
                raise ValueError("options.encapsulation: encapsulation says something else")
        two_way = self._two_way
        if not two_way and self.direction_speak:
            raise ValueError(f"direction_speak: the dialect {self.dialect} only listens")
        if not two_way and not self.direction_listen:
            raise ValueError(
                f"direction_listen: the dialect {self.dialect} only listens: say to what (in, out or both)"
            )

    def _check_host(self) -> None:
        for key in ("dialect", "options"):
            if getattr(self, key):
                raise ValueError(f"{key}: goes with url, not with external_host")
        if self.auth_value.get_secret_value():
            raise ValueError("auth_value: goes with url, not with external_host")
        host, _, port = self.external_host.rpartition(":")
        if not _HOST.fullmatch(host) or not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
            raise ValueError("external_host: expected host:port, for example 192.0.2.10:4000 (IPv6 in brackets)")
        if self.encapsulation not in ("", *TRANSPORT_OF):
            raise ValueError(f"encapsulation: expected {' or '.join(TRANSPORT_OF)} with external_host")
        transport = TRANSPORT_OF[self.asterisk_encapsulation]
        if self.transport not in ("", transport):
            raise ValueError(f"transport: Asterisk carries {self.asterisk_encapsulation} over {transport} only")
        if self.transport_data:
            raise ValueError("transport_data: is of Asterisk's own WebSockets; for a WebSocket give url")
        if self.connection_type not in ("", "client"):
            raise ValueError("connection_type: expected client: over udp and tcp it is Asterisk that connects")
        if not re.fullmatch(r"[a-z0-9_]{0,40}", self.format):
            raise ValueError("format: expected Asterisk's name of a codec, for example ulaw or slin16")
        if self.direction not in ("", "both"):
            raise ValueError("direction: expected both; direction_listen and direction_speak open one way")
        if self.data and self.asterisk_encapsulation == "audiosocket":
            try:
                UUID(self.data)
            except ValueError:
                raise ValueError("data: expected a UUID: AudioSocket begins with it") from None


def _one_or_many(value: Any) -> Any:
    return as_tuple([value] if isinstance(value, str) else value)


class StreamOptions(_Options):
    """Parameters of ``STREAM``, Voxology's and ours.

    Args:
        action: ``stop`` repeats the URL (or the name); without either it stops every stream of the call.
        tracks: see `TRACKS`; for twilio also ``inbound_track``, ``outbound_track``, ``both_tracks``. To stop: those to
            stop, all if none is named.
        stream_data: passed on unchanged; of ``stop``: what the last message has instead.
        connect: the application may speak, and the flow waits until it closes (twilio's ``<Connect>``).
        parameters: twilio's ``customParameters``.
    """

    action: Literal["start", "stop"] = "start"
    tracks: Annotated[tuple[str, ...], BeforeValidator(_one_or_many)] = ()
    stream_data: dict[str, Any] | None = None
    stream_name: Annotated[str, Field(max_length=200)] = ""
    connect: bool = False
    parameters: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        twilio = self.action == "stop" or self.named_dialect == "twilio"
        known = (*TRACKS, *(_TWILIO_TRACKS if twilio else ()))
        for name in self.tracks:
            if name not in known:
                raise ValueError(f"tracks: {name[:40]!r} is none of {', '.join(known)}")
        if self.action == "start":
            self._check_start()
        return self

    @property
    def named_dialect(self) -> str:
        """The dialect, ``voxology`` by default."""
        return self.dialect or "voxology"

    @property
    def track_names(self) -> tuple[str, ...]:
        """The tracks that are asked for, as they are called in the stream; to stop: none means all."""
        named = [each for name in self.tracks for each in _TWILIO_TRACKS.get(name, (name,))]
        if self.action == "start" and not named:
            return DEFAULT_TRACKS.get(self.named_dialect, ("mix",))
        return tuple(dict.fromkeys(named))

    @cached_property
    def target(self) -> Target:
        """The application. Made once: that constructs its dialect, which checks the options."""
        options, dialect = dict(self.options), self.named_dialect
        if dialect == "voxology":
            if self.stream_name:
                options["stream_name"] = self.stream_name
            if self.stream_data is not None:
                options["stream_data"] = self.stream_data
        elif dialect == "voipbin":
            options.setdefault("encapsulation", "rtp")
        elif dialect == "twilio" and self.parameters:
            options["parameters"] = self.parameters
        return self._target(dialect, options, self._layout, two_way=self.connect)

    @cached_property
    def speaks(self) -> bool:
        """The application may speak."""
        return self.target.new_dialect(connect=self.connect).two_way

    @property
    def _layout(self) -> str:
        if self.named_dialect != "twilio":
            return "auto"
        names = set(self.track_names)
        return next((layout for layout, tracks in _TWILIO_TRACKS.items() if set(tracks) == names), "auto")

    def _check_start(self) -> None:
        dialect = self.named_dialect
        if not self.url:
            raise ValueError("url: is missing; expected a ws:// or wss:// URL")
        if dialect == "twilio":
            for name in self.track_names:
                if name not in ("inbound", "outbound"):
                    raise ValueError(f"tracks: the dialect twilio has {', '.join(_TWILIO_TRACKS)}; not {name!r}")
        elif self.parameters:
            raise ValueError("parameters: only the dialect twilio has them")
        if self.stream_data is not None and dialect != "voxology":
            raise ValueError(f"stream_data: only voxology's messages have it, not those of {dialect[:40]}")
        if dialect == "voipbin" and len(self.track_names) > 1:
            raise ValueError("tracks: expected one: nothing in this dialect says whose audio it is")
        speaks = self.speaks
        if self.connect and not speaks:
            raise ValueError(f"connect: the dialect {dialect} only listens")
