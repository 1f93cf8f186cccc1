"""What actions of flows ask of streams: ``external_media_start`` and ``stream``. Pure.

Making one of these checks everything, the dialect and its options too. What is wrong is told as ``key: reason``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self
from uuid import UUID

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)

from bridge import dialects
from bridge.config.values import as_tuple
from bridge.dialects.base import Dialect, Layout, Spy
from bridge.streams.subscription import AUTO, Target
from bridge.validation import explain, sentence

Direction = Literal["", "in", "out", "both"]
Transport = Literal["udp", "tcp"]

TRANSFER = "transfer"
"""The track of the party that the flow has connected with its call; all others are of the flow's own call."""
TRANSPORT_OF: Mapping[str, Transport] = {"rtp": "udp", "audiosocket": "tcp"}
"""How Asterisk sends each encapsulation of external media (``channels.json`` of ARI: other pairs are refused)."""

_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}))")


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

    start: ClassVar[str]
    """The key of `bridge.dialects.default_of`."""

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

    def _target(self, options: Mapping[str, Any], layout: str = AUTO, *, two_way: bool = True) -> FlowTarget:
        """The application; constructs its dialect, which checks the options.

        Raises:
            ValueError: ``key: reason``.
        """
        values = {
            "id": "flow",
            "url": self.url,
            "dialect": self.dialect_name,
            "options": {**self.dialect_class.flow_options, **options},
            "auth_key": self.auth_key,
            "auth_value": self.auth_value.get_secret_value(),
            "verify_tls": self.verify_tls,
            "ca_file": self.ca_file,
            "tracks": layout,
            "of_configuration": self.configured,
            "two_way": two_way,
        }
        try:
            return FlowTarget.model_validate(values)
        except ValidationError as problem:
            raise ValueError(sentence(explain(problem, FlowTarget))) from None

    @property
    def dialect_name(self) -> str:
        """The dialect, that of the action by default."""
        return self.dialect or dialects.default_of(self.start)

    @property
    def dialect_class(self) -> type[Dialect]:
        """What is known of the dialect without a stream.

        Raises:
            ValueError: the dialect does not exist.
        """
        try:
            return dialects.find(self.dialect_name)
        except LookupError as error:
            raise ValueError(f"dialect: {error.args[0]}") from None


class ExternalMedia(_Options):
    """Options of ``external_media_start``: ``url`` or ``external_host``.

    Args:
        external_host: ``host:port``: Asterisk sends the audio there by itself, and plays what comes back.
        encapsulation: the option of the dialect, if it has it; ``rtp`` (default) or ``audiosocket`` with
            ``external_host``.
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

    start: ClassVar[str] = "external_media_start"

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
    def target(self) -> FlowTarget:
        """The application that ``url`` names."""
        own = {"encapsulation": self.encapsulation} if self.encapsulation else {}
        return self._target({**own, **self.options})

    @property
    def listen(self) -> Direction:
        """What the other end hears of the party."""
        return self.direction_listen if self.url or self._directed else "both"

    @property
    def speak(self) -> Direction:
        """Who hears the other end."""
        if not self.url:
            return self.direction_speak if self._directed else "both"
        return (self.direction_speak or "both") if self.target.speaks else ""

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

    def _check_url(self) -> None:
        for key in ("transport", "transport_data", "connection_type", "format", "direction", "data"):
            if getattr(self, key):
                raise ValueError(f"{key}: goes with external_host, not with url")
        if self.encapsulation:
            if "encapsulation" not in self.dialect_class.options():
                raise ValueError(f"encapsulation: the dialect {self.dialect_name} has none")
            if self.options.get("encapsulation", self.encapsulation) != self.encapsulation:
                raise ValueError("options.encapsulation: encapsulation says something else")
        two_way = self.target.speaks
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
    """Options of ``stream``.

    Args:
        action: ``stop`` repeats the URL (or the name); without either it stops every stream of the call.
        tracks: names of tracks (`track_spies`), or of layouts of the dialect. To stop: those to
            stop, all if none is named.
        stream_data: passed on unchanged; of ``stop``: what the last message has instead.
        connect: the application may speak, and the flow waits until it closes.
        parameters: of the application, where the dialect carries them.
    """

    start: ClassVar[str] = "stream"

    action: Literal["start", "stop"] = "start"
    tracks: Annotated[tuple[str, ...], BeforeValidator(_one_or_many)] = ()
    stream_data: dict[str, Any] | None = None
    stream_name: Annotated[str, Field(max_length=200)] = ""
    connect: bool = False
    parameters: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        known = (*track_spies(), *self._layouts)
        for name in self.tracks:
            if name not in known:
                raise ValueError(f"tracks: {name[:40]!r} is none of {', '.join(known)}")
        if self.action == "start":
            self._check_start()
        return self

    @property
    def _layouts(self) -> Mapping[str, Layout]:
        """The layouts whose names stand for their tracks: those of the dialect; to stop, those of any."""
        classes = [self.dialect_class] if self.action == "start" else dialects.known().values()
        return {layout.name: layout for dialect in classes for layout in dialect.layouts}

    @cached_property
    def track_names(self) -> tuple[str, ...]:
        """The tracks that are asked for, as they are called in the stream; to stop: none means all."""
        layouts = self._layouts
        named = [each for name in self.tracks for each in (layouts[name].tracks if name in layouts else (name,))]
        if self.action == "start" and not named:
            return self.dialect_class.flow_tracks
        return tuple(dict.fromkeys(named))

    @cached_property
    def target(self) -> FlowTarget:
        """The application."""
        own = {key: value for key, value in self._given.items() if key in self.dialect_class.flow_keys}
        names = set(self.track_names)
        layout = next((name for name, each in self._layouts.items() if set(each.tracks) == names), AUTO)
        return self._target({**self.options, **own}, layout, two_way=self.connect)

    @property
    def _given(self) -> Mapping[str, Any]:
        """The keys of ``Dialect.flow_keys`` that are set."""
        keys = {"stream_data": self.stream_data, "stream_name": self.stream_name, "parameters": self.parameters}
        return {key: value for key, value in keys.items() if value or (key == "stream_data" and value is not None)}

    @property
    def speaks(self) -> bool:
        """The application may speak."""
        return self.target.speaks

    def _check_start(self) -> None:
        if not self.url:
            raise ValueError("url: is missing; expected a ws:// or wss:// URL")
        dialect = self.dialect_class
        own = {name for layout in dialect.layouts for name in layout.tracks}
        for name in self.track_names:
            if own and name not in own:
                raise ValueError(f"tracks: the dialect {dialect.name} has {', '.join(self._layouts)}; not {name!r}")
        for key in self._given:
            if key not in dialect.flow_keys and key != "stream_name":  # which also names the stream for ``stop``
                which = ", ".join(name for name, each in dialects.known().items() if key in each.flow_keys)
                raise ValueError(f"{key}: the dialect {dialect.name} has none; expected {which}")
        if dialect.track_set == "single" and len(self.track_names) > 1:
            raise ValueError("tracks: expected one: nothing in this dialect says whose audio it is")
        if self.connect and not self.speaks:
            raise ValueError(f"connect: the dialect {dialect.name} only listens")
        self.target  # noqa: B018 - its dialect checks the options


def track_spies() -> Mapping[str, Spy]:
    """Return all tracks that a stream of a flow may have, and what of its party each hears."""
    of_layouts = {name: spy for layout in dialects.layouts().values() for name, spy in layout.tracks.items()}
    return {"caller": "in", TRANSFER: "in", **of_layouts}
