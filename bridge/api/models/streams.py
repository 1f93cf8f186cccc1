"""Streams: what a client may ask for, and what is shown of those that are open."""

from __future__ import annotations

from typing import Annotated, ClassVar, get_args

from pydantic import ConfigDict, Field, PrivateAttr, WithJsonSchema, model_validator

from bridge.api.models.base import Query, Shown, maybe, name_dialects
from bridge.streams.media_stream_endpoint import WHOLE, MediaStreamOptions
from bridge.streams.wanted import ClientDirection

# The dialect knows what goes together; these are texts here, and what the document says of them.
Dialect = Annotated[str, Field(json_schema_extra=name_dialects)]
Encapsulation = Annotated[str, WithJsonSchema({"type": "string", "enum": ["rtp", "sln", "audiosocket"]})]
Codec = Annotated[str, WithJsonSchema({"type": "string", "enum": ["ulaw", "alaw", "slin"]})]
Rate = Annotated[str, WithJsonSchema({"type": "integer", "minimum": 8000, "maximum": 192_000})]
Headers = Annotated[str, WithJsonSchema({"type": "boolean"})]
_DIRECTION = WithJsonSchema({"type": "string", "enum": list(get_args(ClientDirection))})
_WHOLE = WithJsonSchema({"type": "string", "enum": list(WHOLE)})


class _AnyStreamQuery(Query):
    """The options of the dialect; another dialect's are parameters of the same names."""

    model_config = ConfigDict(extra="allow")

    reason: ClassVar[str] = "INVALID_STREAM_OPTIONS"

    dialect: Dialect = ""
    """The wire format; left out: bare audio, as the parameters here describe it."""
    encapsulation: Encapsulation = ""
    """How audio is packed into WebSocket messages; bare audio needs it."""
    codec: Codec = ""
    """How it is encoded; left out: the encapsulation's default."""
    rate: Rate = ""
    """Sampling rate in Hz; left out: 8000."""
    headers: Headers = ""
    """Whether you receive AudioSocket headers (`audiosocket` only); left out: as in your first message."""

    _options: MediaStreamOptions = PrivateAttr()

    @property
    def options(self) -> MediaStreamOptions:
        """As streams know them."""
        return self._options


class StreamQuery(_AnyStreamQuery):
    """How the audio is carried, and whose it is."""

    direction_listen: Annotated[str, _DIRECTION] = "both"
    """Whom you hear, seen from the party: `in` what it says, `out` what it hears, `both`, `none`."""
    direction_speak: Annotated[str, _DIRECTION] = "both"
    """Who hears you: `out` the party, `in` those it speaks with, `both`, `none` (the cheapest)."""

    @model_validator(mode="after")
    def _fit_together(self) -> StreamQuery:
        self._options = MediaStreamOptions.from_query(self.model_dump(exclude_unset=True))
        return self


class ConferenceStreamQuery(_AnyStreamQuery):
    """How the audio is carried. You hear everybody else and are heard by all, or one of the two."""

    direction_listen: Annotated[str, _WHOLE] = "both"
    """`none`: the conference's audio is not sent to you."""
    direction_speak: Annotated[str, _WHOLE] = "both"
    """`none`: nobody hears you."""

    @model_validator(mode="after")
    def _fit_together(self) -> ConferenceStreamQuery:
        self._options = MediaStreamOptions.for_conference(self.model_dump(exclude_unset=True))
        return self


class Track(Shown):
    """One audio direction of a stream."""

    name: str
    channel_id: str


class Stream(Shown):
    """A stream that is open."""

    id: str
    call_id: str
    channel_id: str = maybe()
    """The party that a client opened it on."""
    conference_id: str = maybe()
    """The conference that a client opened it on."""
    started_by: str
    """`client`, or for example `subscription:sales`."""
    principal: str
    """Id of the token that opened it, owns its subscription, or started its flow; `config` for what the
    configuration file starts."""
    dialect: str
    """The wire format."""
    direction_listen: str
    """What of the party or conference the client asked for."""
    tracks: list[Track] = maybe()
    live: bool
    """Whether the WebSocket is open and the audio of every track flows."""
    trouble: str | None = maybe()
    """Why the application cannot be reached."""
    connects: int = maybe()
    """How many times it has been connected."""
    sensitive: bool
    """Whether it carries silence in the place of the call's audio: the call is in sensitive mode."""
    opened_at: float
    """Seconds since 1970."""
    queued_ms: float
    """Audio that waits to be played into the call."""
    unsent_ms: float
    """Audio that waits for a slow WebSocket."""
    dropped_to_application_ms: float
    """Audio that the application did not receive: it read too slowly, or there was no connection."""
    dropped_from_application_ms: float
    """Audio of the application beyond `media.max_queued_ms`."""
    discarded_messages: int
    """Messages of the application that were not understood."""
    missed_messages: int = maybe()
    """Messages that the application did not receive, as there was no connection."""
    padded_frames: int = maybe()
    """Frames that silence completed, as the application's audio ended within them: one for each utterance, more if it
    sends too slowly."""
    filled_ms: float = maybe()
    """Silence in the place of audio that Asterisk did not send."""
    skipped_ms: float = maybe()
    """Audio of the call that was left out, as it came faster than real time."""


class Streams(Shown):
    """All streams."""

    result: list[Stream]
