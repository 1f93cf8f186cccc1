"""Streams: the options of clients, and descriptions of open streams."""

from typing import Annotated, ClassVar, Self, get_args

from pydantic import ConfigDict, Field, PrivateAttr, WithJsonSchema, model_validator

from bridge.api.models.base import Query, Shown, maybe, name_dialects
from bridge.streams.media_stream_endpoint import WHOLE, MediaStreamOptions
from bridge.streams.wanted_tracks import ClientDirection

# The dialect checks which options fit together; here they are strings with a schema for the document.
Dialect = Annotated[str, Field(json_schema_extra=name_dialects)]
Encapsulation = Annotated[str, WithJsonSchema({"type": "string", "enum": ["rtp", "sln", "audiosocket"]})]
Codec = Annotated[str, WithJsonSchema({"type": "string", "enum": ["ulaw", "alaw", "slin"]})]
Rate = Annotated[str, WithJsonSchema({"type": "integer", "minimum": 8000, "maximum": 192_000})]
Flag = Annotated[str, WithJsonSchema({"type": "boolean"})]
_DIRECTION = WithJsonSchema({"type": "string", "enum": list(get_args(ClientDirection))})
_WHOLE = WithJsonSchema({"type": "string", "enum": list(WHOLE)})


class _AnyStreamQuery(Query):
    """The options of the dialect; those of other dialects are parameters of the same names."""

    model_config = ConfigDict(extra="allow")

    reason: ClassVar[str] = "INVALID_STREAM_OPTIONS"

    dialect: Dialect = ""
    """The wire format; omitted: bare audio, as described by the parameters here."""
    encapsulation: Encapsulation = ""
    """How audio is packed into WebSocket messages; required for bare audio."""
    codec: Codec = ""
    """The codec; omitted: the encapsulation's default."""
    rate: Rate = ""
    """Sampling rate in Hz; omitted: 8000."""
    headers: Flag = ""
    """Whether you receive AudioSocket headers (`audiosocket` only); omitted: as in your first message."""
    control: Flag = ""
    """Whether you receive text messages about the call, DTMF digits, the queue and errors, and may request hang-up and
    transfer; omitted: no."""

    _options: MediaStreamOptions = PrivateAttr()

    @property
    def options(self) -> MediaStreamOptions:
        """Return the options as the streams package takes them."""
        return self._options


class StreamQuery(_AnyStreamQuery):
    """The format and the directions of the audio."""

    direction_listen: Annotated[str, _DIRECTION] = "both"
    """The audio you receive, relative to the party: `in` from the party, `out` to the party, `both`, `none`."""
    direction_speak: Annotated[str, _DIRECTION] = "both"
    """Where your audio is played: `out` to the party, `in` to the other parties, `both`, `none` (the cheapest)."""

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        self._options = MediaStreamOptions.from_query(self.model_dump(exclude_unset=True))
        return self


class ConferenceStreamQuery(_AnyStreamQuery):
    """Format and directions of the audio. You receive the conference's mix, send audio to all participants, or both."""

    direction_listen: Annotated[str, _WHOLE] = "both"
    """`none`: the conference's audio is not sent to you."""
    direction_speak: Annotated[str, _WHOLE] = "both"
    """`none`: you send no audio to the conference."""

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        self._options = MediaStreamOptions.for_conference(self.model_dump(exclude_unset=True))
        return self


class Track(Shown):
    """One audio direction of a stream."""

    name: str
    channel_id: str


class Stream(Shown):
    """An open stream."""

    id: str
    call_id: str
    channel_id: str = maybe()
    """The party on which a client opened it."""
    conference_id: str = maybe()
    """The conference on which a client opened it."""
    started_by: str
    """`client`, or for example `subscription:sales`."""
    principal: str
    """Id of the token that opened it, owns its subscription, or started its flow; `config` for what the
    configuration file starts."""
    dialect: str
    """The wire format."""
    direction_listen: str
    """The directions that the client requested."""
    tracks: list[Track] = maybe()
    live: bool
    """Whether the WebSocket is open and audio flows on every track."""
    trouble: str | None = maybe()
    """Why the connection to the application failed."""
    connects: int = maybe()
    """How many times it has connected."""
    sensitive: bool
    """Whether it carries silence instead of audio because the call is in sensitive mode."""
    opened_at: float
    """Seconds since 1970."""
    queued_ms: float
    """Audio queued for playback into the call."""
    unsent_ms: float
    """Audio queued for a slow WebSocket."""
    dropped_to_application_ms: float
    """Audio that the application did not receive because it read too slowly or was disconnected."""
    dropped_from_application_ms: float
    """Audio from the application beyond `media.max_queued_ms`."""
    discarded_messages: int
    """Invalid messages from the application."""
    missed_messages: int = maybe()
    """Messages that the application did not receive because it was disconnected."""
    padded_frames: int = maybe()
    """Frames that were completed with silence because the application's audio ended within them: one for each
    utterance, more if it sends too slowly."""
    rate_mismatch: str | None = maybe()
    """How fast audio from the application arrives, if that is the speed of another format than agreed, for example
    `0.50 times real time, as audio at 8000 Hz would`."""
    filled_ms: float = maybe()
    """Silence inserted for audio that Asterisk did not send."""
    skipped_ms: float = maybe()
    """Audio of the call that was dropped because it arrived faster than real time."""


class Streams(Shown):
    """All streams."""

    result: list[Stream]
