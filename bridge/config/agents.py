"""The table ``agent``: how a model that answers a call is configured, what it may cost, and what follows a failure."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field, SecretStr

from bridge.config.agent_limits import AgentLimits
from bridge.config.privacy import Announcement
from bridge.config.values import FilePath, matching, split_url
from bridge.config.webhooks import check_optional_secret
from bridge.outbound.headers import check_header_name

HANG_UP = "hangup"
CONTINUE = "continue"
EXTENSION = "extension:"
"""The prefix of an extension to continue at, optionally with ``@`` and a context."""
FROM_OUTSIDE = ("key_file", "key_env", "settings_url", *AgentLimits.model_fields)
"""Keys that only the configuration file may set: they read secrets of this machine, send facts of calls, or act on
calls."""


def _check_on_failure(action: str) -> str:
    if action in ("", HANG_UP, CONTINUE) or re.fullmatch(r"extension:[A-Za-z0-9*#_+-]{1,40}(@[\w.-]{1,79})?", action):
        return action
    raise ValueError(f'{action[:80]!r} must be "hangup", "continue", "extension:1001" or "extension:1001@context"')


def _check_key_header(header: str) -> str:
    name, colon, value = header.partition(":")
    if header:
        if not colon or "{key}" not in value:
            raise ValueError('must be a header with {key} in it, for example "api-key: {key}"')
        check_header_name(name.strip())
    return header


def _check_settings_url(url: str) -> str:
    if url:
        split_url(url, ("http", "https"), "https://app.example.org/agent", "the signature authenticates the sender")
    return url


Line = Annotated[str, Field(max_length=200, description="a string of at most 200 characters")]
LimitSeconds = Annotated[float, Field(ge=0, le=86_400, description="a number of seconds from 0 to 86400")]


class AgentConfig(AgentLimits):
    """Settings of a model that answers calls; only for dialects of models."""

    instructions: Annotated[str, Field(max_length=100_000, description="a string of at most 100000 characters")] = ""
    """The system prompt."""
    greeting: Annotated[str, Field(max_length=2000, description="a string of at most 2000 characters")] = ""
    """The first words of the model, as soon as it is ready. Empty: it waits for the caller."""
    voice: Line = ""
    """The vendor's name of the voice."""
    language: Line = ""
    """Language of the conversation, for example `"de"`."""
    model: Line = ""
    """The vendor's name of the model."""
    parameters: dict[str, Any] = Field(default_factory=dict, description="a table")
    """Further settings of the vendor, merged into its message of settings."""
    key_file: FilePath = ""
    """File with the vendor's key, read again for each connection. Only in the configuration file."""
    key_env: Annotated[
        str,
        matching(r"([A-Za-z_][A-Za-z0-9_]{0,99})?", "is not the name of an environment variable"),
        Field(description="the name of an environment variable"),
    ] = ""
    """Environment variable with the key, if there is no file. Only in the configuration file."""
    key_header: Annotated[str, AfterValidator(_check_key_header), Field(description="a header with {key} in it")] = ""
    """How the key is sent: `"api-key: {key}"` for Azure. Empty: the vendor's usual way."""
    settings_url: Annotated[
        str, AfterValidator(_check_settings_url), Field(description="an http:// or https:// URL")
    ] = ""
    """Server that returns settings for each call: it gets the call's facts in a POST, and responds with a JSON object
    of `instructions`, `greeting`, `voice`, `language`, `model` and `parameters`, which replace those here. Only in the
    configuration file."""
    settings_secret: Annotated[SecretStr, AfterValidator(check_optional_secret), Field(description="a string")] = (
        SecretStr("")
    )
    """Signs these requests like those of webhooks. Empty: they are not signed."""
    on_failure: Annotated[
        str, AfterValidator(_check_on_failure), Field(description='"hangup", "continue" or "extension:1001"')
    ] = ""
    """What follows if the model is unavailable or its minutes of the day are used up: `"hangup"`, `"continue"` in the
    dialplan, or `"extension:1001"`, with `@context` if it is not the context that the call came from. Empty: as `then`
    of the route. In a flow, the next action follows."""
    reconnect_prompt: Announcement = ""
    """Played to the caller when the connection to the model is lost and tried again: `"tone"`, `"sound:FILE"` or a
    sentence."""
    failure_prompt: Announcement = ""
    """Played to the caller before `on_failure`."""
    ready_timeout_s: Annotated[float, Field(ge=1, le=60, description="a number of seconds from 1 to 60")] = 8.0
    """How long the model may take to accept its settings; then the connection is opened again, once."""
    silence_s: LimitSeconds = 120.0
    """The conversation ends when neither side has spoken for this time. 0: no limit."""
    max_minutes: Annotated[float, Field(ge=0, le=1440, description="a number of minutes from 0 to 1440")] = 60.0
    """Longest conversation. 0: no limit."""
    max_minutes_per_day: Annotated[float, Field(ge=0, le=1e6, description="a number of minutes from 0 to 1000000")] = (
        0.0
    )
    """Minutes of all conversations of this table's owner in a day (UTC), counted beside `streams.state_file`. 0: no
    limit."""
