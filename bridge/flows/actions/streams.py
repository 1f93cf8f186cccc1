"""Actions that send the call's audio to applications: external_media_start, external_media_stop, and STREAM."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self
from uuid import UUID

from pydantic import Field, ValidationError, model_validator

from bridge import dialects
from bridge.dialects.base import Dialect, Layout
from bridge.flows.action_registry import DEFINITIONS, REOPEN, Openable, Opened, action
from bridge.flows.actions.sound import NoOptions, SwitchOption
from bridge.flows.options import OR_VARIABLE, Options, holds_variables
from bridge.streams.flow_options import (
    TRANSPORT_OF,
    ExternalApplication,
    ExternalServer,
    FlowTarget,
    StreamStart,
    StreamStop,
    track_spies,
)
from bridge.streams.subscription import AUTO
from bridge.validation import KeyedError, explain, sentence

if TYPE_CHECKING:
    from bridge.flows.interpreter import Run
    from bridge.streams.stream import Stream

LongText = Annotated[str, Field(max_length=4096, description="a string")]
ObjectOption = Annotated[dict[str, Any], Field(description="an object")]
Texts = Annotated[dict[str, str], Field(description="an object of strings")]
DirectionOption = Annotated[Literal["", "in", "out", "both"], Field(description='"in", "out" or "both"'), OR_VARIABLE]
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}))")


class ApplicationOptions(Options):
    """Connection to an application: URL, credentials, dialect; the same keys as in subscriptions."""

    url: LongText = ""
    dialect: LongText = ""
    options: ObjectOption = Field(default_factory=dict)
    auth_key: LongText = "Secret"
    auth_value: Annotated[str, Field(max_length=4096, description="a string", repr=False)] = ""
    verify_tls: SwitchOption = True
    ca_file: LongText = ""

    untouched: ClassVar[frozenset[str]] = frozenset({"url", "external_host"})
    start: ClassVar[str]
    """The key of `bridge.dialects.default_of`."""

    def urls(self) -> Iterable[tuple[str, str]]:
        """Return the application's URL, or the server that Asterisk sends audio to."""
        return [(key, place) for key in ("url", "external_host") if (place := getattr(self, key, ""))]

    @property
    def _dialect(self) -> type[Dialect]:
        try:
            return dialects.find(self.dialect or dialects.default_of(self.start))
        except LookupError as error:
            raise KeyedError(f"dialect: {error.args[0]}") from None

    def filled(self, run: Run) -> tuple[Self, bool]:
        """Fill the variables into the URLs; return the options, and whether the configuration determines the host."""
        variables = run.variables
        urls = {key: variables.fill_url(place) if key == "url" else variables.fill(place) for key, place in self.urls()}
        configured = all(run.names_host(place) for _, place in self.urls())
        return self.model_copy(update=urls), configured

    def _target(
        self,
        options: Mapping[str, Any],
        *,
        configured: bool,
        layout: str = AUTO,
        two_way: bool = True,
        agent: Mapping[str, Any] | None = None,
    ) -> FlowTarget:
        """Construct the target, with its dialect, which checks the options.

        Raises:
            KeyedError: an option is invalid; the message names its key.
        """
        values = {
            **self.model_dump(include={"url", "auth_key", "auth_value", "verify_tls", "ca_file"}),
            "id": "flow",
            "dialect": self._dialect.name,
            "options": {**self._dialect.flow_options, **options},
            "tracks": layout,
            "of_configuration": configured,
            "two_way": two_way,
            "agent": agent or {},
        }
        try:
            return FlowTarget.model_validate(values)
        except ValidationError as problem:
            raise KeyedError(sentence(explain(problem, FlowTarget))) from None


class ExternalMediaStartOptions(ApplicationOptions):
    """Options of external_media_start. ``url``: asterisk-bridge connects there; ``external_host``: Asterisk does."""

    start: ClassVar[str] = "external_media_start"

    external_host: LongText = ""
    """``host:port``; Asterisk also plays the audio that it returns."""
    type: Annotated[Literal["", "normal", "websocket"], Field(description='"normal" or "websocket"')] = ""
    encapsulation: LongText = ""
    """With ``url``: the dialect's option; with ``external_host``: ``rtp`` (default) or ``audiosocket``."""
    transport: LongText = ""
    """``udp`` for rtp, ``tcp`` for audiosocket; optional."""
    transport_data: LongText = ""
    """Must be empty: only Asterisk's own WebSockets use it."""
    connection_type: LongText = ""
    """``client``: Asterisk connects."""
    format: LongText = ""
    """With ``external_host``: Asterisk's name of the codec; by default ``ulaw`` under rtp, else ``slin``."""
    direction: DirectionOption = ""
    """``both``; other values apply to Asterisk's own WebSockets only."""
    direction_listen: DirectionOption = ""
    """Audio that the application receives. With ``url``, none by default."""
    direction_speak: DirectionOption = ""
    """Parties that receive the application's audio; with ``url`` and a two-way dialect, ``both`` by default."""
    data: LongText = ""
    """With ``external_host`` and audiosocket: the UUID of the connection."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not holds_variables(self.model_dump()):
            self.media()
        return self

    def media(self, *, configured: bool = False) -> ExternalApplication | ExternalServer:
        """Return the validated request.

        Args:
            configured: the configuration determines the host.

        Raises:
            KeyedError: an option is invalid; the message names its key.
        """
        if bool(self.url) == bool(self.external_host):
            raise KeyedError("url: give either url or external_host" + (", not both" if self.url else ""))
        return self._application(configured) if self.url else self._server(configured)

    def _application(self, configured: bool) -> ExternalApplication:
        for key in ("transport", "transport_data", "connection_type", "format", "direction", "data"):
            if getattr(self, key):
                raise KeyedError(f"{key}: requires external_host; not supported with url")
        name = self._dialect.name
        options = self.options
        if self.encapsulation:
            if "encapsulation" not in self._dialect.options():
                raise KeyedError(f"encapsulation: not an option of the dialect {name}")
            options = {"encapsulation": self.encapsulation, **options}
            if options["encapsulation"] != self.encapsulation:
                raise KeyedError("options.encapsulation: conflicts with encapsulation")
        target = self._target(options, configured=configured)
        if not target.sends_audio and self.direction_speak:
            raise KeyedError(f"direction_speak: the dialect {name} is one-way")
        if not target.sends_audio and not self.direction_listen:
            raise KeyedError(f"direction_listen: required, as the dialect {name} is one-way; expected in, out or both")
        speak: DirectionOption = (self.direction_speak or "both") if target.sends_audio else ""
        return ExternalApplication(target, self.direction_listen, speak)

    def _server(self, configured: bool) -> ExternalServer:
        for key in ("dialect", "options", "auth_value"):
            if getattr(self, key):
                raise KeyedError(f"{key}: requires url; not supported with external_host")
        if not _is_host(self.external_host):
            raise KeyedError("external_host: expected host:port, for example 192.0.2.10:4000 (IPv6 in brackets)")
        encapsulation = self.encapsulation or "rtp"
        if encapsulation not in TRANSPORT_OF:
            raise KeyedError(f"encapsulation: expected {' or '.join(TRANSPORT_OF)} with external_host")
        transport = TRANSPORT_OF[encapsulation]
        if self.transport not in ("", transport):
            raise KeyedError(f"transport: Asterisk carries {encapsulation} over {transport} only")
        if self.transport_data:
            raise KeyedError("transport_data: not supported. For a WebSocket, give url")
        if self.connection_type not in ("", "client"):
            raise KeyedError("connection_type: expected client, as Asterisk connects over udp and tcp")
        if not re.fullmatch(r"[a-z0-9_]{0,40}", self.format):
            raise KeyedError("format: expected Asterisk's name of a codec, for example ulaw or slin16")
        if self.direction not in ("", "both"):
            raise KeyedError("direction: expected both; for one direction, use direction_listen or direction_speak")
        if self.data and encapsulation == "audiosocket" and not _is_uuid(self.data):
            raise KeyedError("data: expected a UUID, the first message of AudioSocket")
        codec = self.format or ("ulaw" if encapsulation == "rtp" else "slin")
        listen, speak = self.direction_listen, self.direction_speak
        if not listen and not speak:
            listen = speak = "both"
        return ExternalServer(self.external_host, encapsulation, codec, self.data, listen, speak, configured)


@action("external_media_start", options=ExternalMediaStartOptions, needs_audio=True)
async def external_media_start(run: Run, options: ExternalMediaStartOptions) -> None:
    """Send audio to an application or a server; continue immediately."""
    await _open(run, "external_media_start", *options.filled(run))


@action("external_media_stop", options=NoOptions)
async def external_media_stop(run: Run, _: NoOptions) -> None:
    """End all external media of the call."""
    await run.services.streams.external_media_stop(run.leg)


async def reopen(run: Run, fact: Mapping[str, Any]) -> None:
    """Reopen a stream that the flow had open before a restart."""
    options = DEFINITIONS[fact["does"]].options.model_validate(fact["options"], context={"runs": True})
    assert isinstance(options, ApplicationOptions)
    await _open(run, fact["does"], options, bool(fact["configured"]))


async def _open(run: Run, does: str, filled: ApplicationOptions, configured: bool) -> None:
    """Open a stream; the flow does not wait for its end."""
    if isinstance(filled, ExternalMediaStartOptions):
        media = filled.media(configured=configured)
        opened: Openable = await run.services.streams.external_media_start(run.leg, media, run.principal)
    else:
        assert isinstance(filled, FlowStreamOptions)
        request = filled.request(configured=configured)
        assert isinstance(request, StreamStart)
        opened = await _start(run, filled, request)
    fact = {"does": does, "options": filled.model_dump(mode="json", by_alias=True), "configured": configured}
    run.opened = [each for each in run.opened if not each.stream.ended and each.fact != fact]
    run.opened.append(Opened(fact, opened))
    run.keep(run)


async def _start(run: Run, options: FlowStreamOptions, request: StreamStart) -> Stream:
    stream = await run.services.streams.stream_start(run.leg, request, run.principal)
    options.started(run, stream)
    return stream


REOPEN["external_media_start"] = REOPEN["stream"] = reopen


class FlowStreamOptions(ApplicationOptions):
    """Options of a stream action: which stream to start or stop, and its audio."""

    start: ClassVar[str] = "stream"

    action: Annotated[Literal["start", "stop"], Field(description='"start" or "stop"'), OR_VARIABLE] = "start"
    """``stop`` repeats the URL (or the name); without both it stops every stream of the call."""
    tracks: Annotated[list[LongText] | str, Field(description="a list of tracks")] = Field(default_factory=list)
    """Names of tracks (`track_spies`), or of layouts of the dialect. With ``stop``: those to stop, by default all."""
    stream_data: ObjectOption | None = None
    """Sent unchanged; with ``stop``: replaces it in the last message."""
    stream_name: Annotated[str, Field(max_length=200, description="a string of at most 200 characters")] = ""
    connect: SwitchOption = False
    """The application may send audio, and the flow waits until it disconnects."""
    parameters: Texts = Field(default_factory=dict)
    """Values for the application, if the dialect carries them."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not holds_variables({**self.model_dump(), "stream_data": None}):
            self.request()
        return self

    def started(self, run: Run, stream: Stream) -> None:
        """Handle the start of the stream, also its next one after a restart."""

    def request(self, *, configured: bool = False) -> StreamStart | StreamStop:
        """Return the validated request.

        Args:
            configured: the configuration determines the host.

        Raises:
            KeyedError: an option is invalid; the message names its key.
        """
        stops = self.action == "stop"
        layouts = _layouts_of(dialects.known().values() if stops else [self._dialect])
        spies = track_spies()
        named: dict[str, None] = {}
        for name in [self.tracks] if isinstance(self.tracks, str) else self.tracks:
            if name not in layouts and name not in spies:
                raise KeyedError(f"tracks: {name[:40]!r} is not one of {', '.join((*spies, *layouts))}")
            named |= dict.fromkeys(layouts[name].tracks if name in layouts else (name,))
        if stops:
            return StreamStop(self.url, self.stream_name, frozenset(named), self.stream_data)
        tracks = tuple(named) or self._dialect.flow_tracks
        target = self._started(tracks, layouts, configured)
        return StreamStart(target, {name: spies[name] for name in tracks}, self.stream_name, self.stream_data)

    def _started(self, tracks: tuple[str, ...], layouts: Mapping[str, Layout], configured: bool) -> FlowTarget:
        if not self.url:
            raise KeyedError("url: is missing; expected a ws:// or wss:// URL")
        dialect = self._dialect
        own = {name for layout in layouts.values() for name in layout.tracks}
        strange = [name for name in tracks if own and name not in own]
        if strange:
            raise KeyedError(f"tracks: the dialect {dialect.name} has {', '.join(layouts)}, not {strange[0]!r}")
        if dialect.track_set == "single" and len(tracks) > 1:
            raise KeyedError("tracks: expected one, as messages of this dialect do not name the track")
        keys = {"stream_data": self.stream_data, "stream_name": self.stream_name, "parameters": self.parameters}
        given = {key: value for key, value in keys.items() if value or (key == "stream_data" and value is not None)}
        for key in (
            given.keys() - dialect.flow_keys - {"stream_name"}
        ):  # stream_name also identifies the stream for ``stop``
            which = ", ".join(name for name, each in dialects.known().items() if key in each.flow_keys)
            raise KeyedError(f"{key}: not supported by the dialect {dialect.name}; expected {which}")
        options = {**self.options, **{key: given[key] for key in given.keys() & dialect.flow_keys}}
        layout = next((name for name, each in layouts.items() if set(each.tracks) == set(tracks)), AUTO)
        target = self._target(options, configured=configured, layout=layout, two_way=self.connect)
        if self.connect and not target.sends_audio:
            raise KeyedError(f"connect: the dialect {dialect.name} is one-way")
        return target


@action("stream", options=FlowStreamOptions, needs_audio=True, internal=True)
async def stream(run: Run, options: FlowStreamOptions) -> None:
    """Start or stop a stream (`run_stream`)."""
    await run_stream(run, "stream", options)


async def run_stream(run: Run, does: str, options: FlowStreamOptions) -> None:
    """Start or stop a stream; continue immediately, or with ``connect`` when the application has closed it.

    Args:
        run: the flow.
        does: the name of the action.
        options: its options.
    """
    filled, configured = options.filled(run)
    request = filled.request(configured=configured)
    if isinstance(request, StreamStop):
        await run.services.streams.stream_stop(run.leg, request)
        return
    if not request.target.two_way:
        await _open(run, does, filled, configured)
        return
    await run.stop_playback()
    await (await _start(run, filled, request)).wait()


def _is_host(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(_HOST.fullmatch(host) and re.fullmatch(r"[0-9]{1,5}", port)) and 0 < int(port) < 65536


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _layouts_of(classes: Iterable[type[Dialect]]) -> Mapping[str, Layout]:
    return {layout.name: layout for dialect in classes for layout in dialect.layouts}
