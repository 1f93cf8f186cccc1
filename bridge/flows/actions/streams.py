"""Actions that send the call's audio to applications: external_media_start, external_media_stop, and STREAM."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from bridge.flows.action_registry import action
from bridge.flows.actions.sound import NoOptions, Switch
from bridge.flows.options import OR_VARIABLE, Options, holds_variables
from bridge.streams.flow_options import ExternalMedia, StreamOptions
from bridge.validation import KeyedError

if TYPE_CHECKING:
    from bridge.flows.interpreter import Run

Text = Annotated[str, Field(max_length=4096, description="a text")]
Table = Annotated[dict[str, Any], Field(description="an object")]
Texts = Annotated[dict[str, str], Field(description="an object of texts")]
Direction = Annotated[Literal["", "in", "out", "both"], Field(description='"in", "out" or "both"'), OR_VARIABLE]


class _Application(Options):
    """Where an application is, and how it is spoken to; the same keys as in subscriptions."""

    url: Text = ""
    dialect: Text = ""
    options: Table = Field(default_factory=dict)
    auth_key: Text = "Secret"
    auth_value: Annotated[str, Field(max_length=4096, description="a text", repr=False)] = ""
    verify_tls: Switch = True
    ca_file: Text = ""

    untouched: ClassVar[frozenset[str]] = frozenset({"url", "external_host"})

    def urls(self) -> Iterable[tuple[str, str]]:
        """Return the application, or the server that Asterisk sends audio to."""
        return [(key, place) for key in ("url", "external_host") if (place := getattr(self, key, ""))]


class ExternalMediaStartOptions(_Application):
    """``url``: we dial the application; ``external_host``: Asterisk sends the audio there. See `ExternalMedia`."""

    external_host: Text = ""
    type: Annotated[Literal["", "normal", "websocket"], Field(description='"normal" or "websocket"')] = ""
    encapsulation: Text = ""
    transport: Text = ""
    transport_data: Text = ""
    connection_type: Text = ""
    format: Text = ""
    direction: Direction = ""
    direction_listen: Direction = ""
    direction_speak: Direction = ""
    data: Text = ""

    @model_validator(mode="after")
    def _fits(self) -> ExternalMediaStartOptions:
        values = self.model_dump()
        if not holds_variables(values):
            _checked(ExternalMedia, values)
        return self


@action("external_media_start", options=ExternalMediaStartOptions, needs_audio=True)
async def external_media_start(run: Run, options: ExternalMediaStartOptions) -> None:
    """Open a way for audio to an application or a server; the flow goes on at once."""
    await run.parts.streams.external_media_start(run.leg, _filled(run, ExternalMedia, options), run.principal)


@action("external_media_stop", options=NoOptions)
async def external_media_stop(run: Run, _: NoOptions) -> None:
    """End every external media of the call."""
    await run.parts.streams.external_media_stop(run.leg)


class FlowStreamOptions(_Application):
    """Voxology's parameters, and those of other dialects. See `StreamOptions`."""

    action: Annotated[Literal["start", "stop"], Field(description='"start" or "stop"'), OR_VARIABLE] = "start"
    tracks: Annotated[list[Text] | str, Field(description="a list of tracks")] = Field(default_factory=list)
    stream_data: Table | None = None
    stream_name: Text = ""
    connect: Switch = False
    parameters: Texts = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits(self) -> FlowStreamOptions:
        values = self.model_dump()
        if not holds_variables({**values, "stream_data": None}):
            _checked(StreamOptions, values)
        return self


@action("stream", options=FlowStreamOptions, needs_audio=True, internal=True)
async def stream(run: Run, options: FlowStreamOptions) -> None:
    """Start or stop a stream; the flow goes on at once, or with ``connect`` when the application has closed it."""
    wanted = _filled(run, StreamOptions, options)
    if wanted.action == "stop":
        await run.parts.streams.stream_stop(run.leg, wanted)
        return
    if wanted.connect:
        await run.fall_silent()
    started = await run.parts.streams.stream_start(run.leg, wanted, run.principal)
    if wanted.connect:
        await started.wait()


def _filled(run: Run, model: Any, options: _Application) -> Any:
    """Return the value that the streams take, with the variables of its URL put in.

    Raises:
        KeyedError: it cannot be had; names the keys.
    """
    values = options.model_dump()
    host = values.get("external_host", "")
    configured = run.names_host(host or options.url)
    if host:
        values["external_host"] = run.variables.fill(host)
    values["url"] = run.variables.fill_url(options.url)
    return _checked(model, values | {"configured": configured})


def _checked(model: Any, values: dict[str, Any]) -> Any:
    """The value that the streams take.

    Raises:
        KeyedError: it cannot be had; names the keys.
    """
    values.pop("type", None)
    try:
        return model.of(values)
    except ValueError as problem:
        raise KeyedError(str(problem)) from None
