"""What actions of flows ask of streams: ``external_media_start`` (VoIPBIN) and ``STREAM`` (Voxology). Pure.

Making one of these checks everything, the dialect and its options too. What is wrong is told as ``key: reason``
(`bridge.streams.subscription.reason_of` takes that apart).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

Direction = Literal["", "in", "out", "both"]


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    url: str = ""
    dialect: str = ""
    options: Mapping[str, Any] = Field(default_factory=dict)
    auth_key: str = ""
    auth_value: SecretStr = SecretStr("")
    verify_tls: bool = True
    ca_file: str = ""


class ExternalMedia(_Options):
    """Options of ``external_media_start``: ``url`` or ``external_host``."""

    external_host: str = ""
    encapsulation: str = "rtp"
    transport: str = ""
    transport_data: str = ""
    connection_type: str = ""
    format: str = ""
    direction: Direction = ""
    direction_listen: Direction = ""
    direction_speak: Direction = ""
    data: str = ""


class StreamOptions(_Options):
    """Parameters of ``STREAM``, for start and stop."""

    action: Literal["start", "stop"] = "start"
    tracks: tuple[str, ...] = ()
    stream_data: Mapping[str, Any] | None = None
    stream_name: str = ""
    connect: bool = False
    parameters: Mapping[str, str] = Field(default_factory=dict)
