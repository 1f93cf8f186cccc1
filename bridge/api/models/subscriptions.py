"""Subscriptions, as documented.

`bridge.streams.subscription.Subscription` validates them, whose dialects check more than a schema can; a test compares
the two.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from bridge import dialects
from bridge.api.models.base import Body, Shown, maybe, name_dialects
from bridge.config.vendors import RESERVED_IDS
from bridge.streams.subscription import AUTO

Patterns = list[Annotated[str, Field(min_length=1, max_length=200)]]


def _check_layout(name: str) -> str:
    if name not in (AUTO, *dialects.layouts()):
        raise ValueError("unknown layout")
    return name


def _name_layouts(schema: dict[str, Any]) -> None:
    schema["enum"] = [AUTO, *dialects.layouts()]


Tracks = Annotated[str, AfterValidator(_check_layout), Field(json_schema_extra=_name_layouts)]
Ignored = list[Literal["extensions", "trunks", "dids"]]
Multiparty = Literal["per_channel", "single"]
Source = Annotated[str, WithJsonSchema({"type": "string", "enum": ["config", "api", *sorted(RESERVED_IDS)]})]
_Id = Annotated[str, Field(max_length=63, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]


Dialect = Annotated[str, Field(json_schema_extra=name_dialects)]


class SubscriptionPart(Body):
    """Values to change; omitted keys keep their values."""

    id: _Id = maybe()
    """Cannot change."""
    name: Annotated[str, Field(max_length=200)] = ""
    enabled: bool = True
    url: str = maybe()
    """The WebSocket URL to connect to: `ws://` or `wss://`."""
    auth_key: Annotated[str, Field(max_length=63)] = "Secret"
    """The header that holds the credential; empty: none is sent."""
    auth_value: Annotated[str, Field(max_length=4096), WithJsonSchema({"type": "string", "format": "password"})] = ""
    """The credential. Never returned; if its mask is sent back, it stays unchanged."""
    verify_tls: bool = True
    ca_file: str = ""
    """A PEM file below `outbound.ca_dir` with the authority to trust instead of the system's."""
    dialect: Dialect = None  # type: ignore[assignment]
    """The wire format."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The dialect's own options."""
    sample_rate: int | None = None
    """Shorthand for `rate` in `options`, in Hz."""
    tracks: Tracks = "auto"
    """Which directions of a call are sent, and in which layout."""
    window_ms: int | None = None
    """How much recent audio is buffered while disconnected; null: `streams.window_ms`."""
    extensions: Patterns = Field(default_factory=list)
    """Patterns of extensions; `@sales` refers to the group of that name."""
    trunks: Patterns = Field(default_factory=list)
    """Patterns of trunks."""
    dids: Patterns = Field(default_factory=list)
    """Patterns of dialed numbers."""
    ignored: Ignored = Field(default_factory=list)
    """Lists that are stored but not used at present."""
    multiparty: Multiparty = "per_channel"
    """Whether each party beyond the second has a WebSocket of its own."""
    source: Source = maybe()
    """The origin of the subscription; accepted to allow sending a response back."""
    principal: str = maybe()
    """Accepted to allow sending a response back."""


class SubscriptionBody(SubscriptionPart):
    """The calls to stream, and the application; at least one of the three lists must have an entry."""

    id: _Id = maybe()
    """Required for a new subscription; part of its URL."""
    url: str
    """The WebSocket URL to connect to: `ws://` or `wss://`."""
    dialect: Dialect
    """The wire format."""


class NewSubscription(SubscriptionBody):
    """A new subscription."""

    id: _Id
    """Its id, also in its URL."""


class Subscription(Shown):
    """A subscription and its current state."""

    id: str
    name: str
    enabled: bool
    url: str
    auth_key: str
    auth_value: str
    """A mask, or empty."""
    verify_tls: bool
    ca_file: str
    dialect: str
    options: dict[str, Any]
    sample_rate: int | None
    tracks: Tracks
    window_ms: int | None
    extensions: list[str]
    trunks: list[str]
    dids: list[str]
    ignored: Ignored
    multiparty: Multiparty
    source: Source
    """Its origin: the configuration file, this API, or a vendor's settings API."""
    principal: str
    """Id of the token that owns it and its streams: the one that created it, or last changed more than `enabled`;
    `config` for one of the configuration file."""


class Subscriptions(Shown):
    """All subscriptions, by id."""

    result: list[Subscription]
