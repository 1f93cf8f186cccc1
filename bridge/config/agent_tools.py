"""Tools of the user's own that a model may call: signed HTTP requests."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field, SecretStr

from bridge.config.agent_limits import BUILT_IN_TOOLS
from bridge.config.endpoint import TlsServer
from bridge.config.privacy import Announcement
from bridge.config.values import split_url
from bridge.config.webhooks import check_secret


def _check_id(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,62}", name):
        raise ValueError(f"{name[:80]!r} must be a letter and up to 62 letters, digits, dashes and underscores")
    if name in BUILT_IN_TOOLS:
        raise ValueError(f"{name!r} is a built-in tool; choose another name")
    return name


def _check_url(url: str) -> str:
    split_url(url, ("http", "https"), "https://app.example.org/tools/order", "the signature authenticates the sender")
    return url


def _check_parameters(schema: dict[str, Any]) -> dict[str, Any]:
    from bridge.json_schema import check_schema  # few configurations have tools

    check_schema(schema)
    return schema


class ToolConfig(TlsServer):
    """A tool of the user's own: a POST request, signed as Standard Webhooks specifies, while the model waits."""

    id: Annotated[str, AfterValidator(_check_id), Field(description="letters, digits, dashes and underscores")]
    """Its name, for the model and in `tools` of an agent."""
    description: Annotated[str, Field(min_length=1, max_length=1024, description="a string of 1 to 1024 characters")]
    """When to use it and what it returns, for the model."""
    parameters: Annotated[
        dict[str, Any], AfterValidator(_check_parameters), Field(description="a table: a JSON schema")
    ] = Field(default_factory=lambda: {"type": "object", "properties": {}})
    """JSON schema of the arguments, an object. The request is sent only with arguments that match. Those with
    `writeOnly = true` appear neither in events nor in records."""
    url: Annotated[str, AfterValidator(_check_url), Field(description="an http:// or https:// URL")]
    """Server that receives the request; no user name or password in it. Redirects are not followed."""
    secret: Annotated[SecretStr, AfterValidator(check_secret), Field(description="a string")]
    """Signs every request: `whsec_` and base64 of 24 to 64 bytes, or any string of at least 16 characters."""
    timeout_s: Annotated[float, Field(ge=0.1, le=120, description="a number of seconds from 0.1 to 120")] = 10.0
    """How long the response may take, connecting included; then the model gets an error."""
    max_answer_bytes: Annotated[int, Field(ge=1, le=262_144, description="a number of bytes from 1 to 262144")] = 16_384
    """Largest response; the model gets an error instead of a larger one."""
    filler: Announcement = ""
    """Played to the caller while the response takes long: `"tone"`, `"sound:FILE"` (repeated) or a sentence (once).
    Empty: nothing."""
    filler_after_s: Annotated[float, Field(ge=0, le=60, description="a number of seconds from 0 to 60")] = 1.0
    """Time until the filler begins; it waits until the model has finished speaking."""
