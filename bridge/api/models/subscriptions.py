"""Subscriptions, as they are described. They are checked by `bridge.streams.subscription.Subscription` itself, whose
dialects know more than a schema can say; a test holds the two together."""

from __future__ import annotations

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
    """What is to change; keys that are left out stay as they are."""

    id: _Id = maybe()
    """Cannot change."""
    name: Annotated[str, Field(max_length=200)] = ""
    enabled: bool = True
    url: str = maybe()
    """Where the bridge connects to: `ws://` or `wss://`."""
    auth_key: Annotated[str, Field(max_length=63)] = "Secret"
    """The header that holds the credential; empty: none is sent."""
    auth_value: Annotated[str, Field(max_length=4096), WithJsonSchema({"type": "string", "format": "password"})] = ""
    """The credential. It is never shown; its mask, sent back, leaves it as it is."""
    verify_tls: bool = True
    ca_file: str = ""
    """A PEM file below `outbound.ca_dir` with the authority to trust instead of the system's."""
    dialect: Dialect = None  # type: ignore[assignment]
    """The wire format."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The dialect's own options."""
    sample_rate: int | None = None
    """Short for `rate` in `options`, in Hz."""
    tracks: Tracks = "auto"
    """Which directions of a call are sent, and how they are laid out."""
    window_ms: int | None = None
    """Recent audio that is kept while the connection is away; null: `streams.window_ms`."""
    extensions: Patterns = Field(default_factory=list)
    """Patterns of extensions; `@sales` means the group of that name."""
    trunks: Patterns = Field(default_factory=list)
    """Patterns of trunks."""
    dids: Patterns = Field(default_factory=list)
    """Patterns of dialled numbers."""
    ignored: Ignored = Field(default_factory=list)
    """Lists that are kept but do not count for now."""
    multiparty: Multiparty = "per_channel"
    """Whether parties beyond the second have a WebSocket each."""
    source: Source = maybe()
    """Who made it; taken so that what is shown can be sent back."""
    principal: str = maybe()
    """Likewise."""


class SubscriptionBody(SubscriptionPart):
    """Which calls go to which application by themselves; at least one of the three lists must name something."""

    id: _Id = maybe()
    """In a new one it must be given; it is part of the URL."""
    url: str
    """Where the bridge connects to: `ws://` or `wss://`."""
    dialect: Dialect
    """The wire format."""


class NewSubscription(SubscriptionBody):
    """A new subscription."""

    id: _Id
    """What it is called, also in its URL."""


class Subscription(Shown):
    """A subscription as it is now."""

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
    """Who made it: the configuration file, this API, or a vendor's settings call."""
    principal: str
    """Id of the token that owns it and its streams: that created it, or last changed more than `enabled`; `config` for
    one of the configuration file."""


class Subscriptions(Shown):
    """All of them, by id."""

    result: list[Subscription]
