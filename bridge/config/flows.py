"""The tables about flows: which calls run which list of actions, and where the list comes from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from bridge.config.streams import (
    Slug,
    Switch,
    _check_header_name,
    _check_header_value,
)
from bridge.config.values import FilePath, PatternList, Section, as_tuple, split_url
from bridge.config.webhooks import check_optional_secret
from bridge.patterns import Patterns


def _check_url(url: str) -> str:
    if url:
        split_url(
            url,
            ("http", "https"),
            "https://app.example.org/flow",
            "put the credential into auth_key and auth_value",
        )
    return url


Actions = Annotated[
    tuple[Any, ...], BeforeValidator(as_tuple), Field(description='a list of tables, each with a "type"')
]


class FlowConfig(Section):
    """A list of actions, and the calls that run it when they come in."""

    id: Slug
    match: PatternList = Patterns()
    """Patterns of the number that was dialled, or of the argument of ``Stasis()``; none: only calls that are placed
    and other flows run it."""
    actions: Actions = ()
    """The list itself. Exactly one of ``actions``, ``file`` and ``url`` is set."""
    file: FilePath = ""
    """A JSON file with the list; read at start."""
    url: Annotated[str, AfterValidator(_check_url), Field(description="an http:// or https:// URL")] = ""
    """A server that is asked for the list, for each call anew."""
    method: Annotated[Literal["POST", "GET"], Field(description='"POST" or "GET"')] = "POST"
    """How it is asked; ``GET`` sends no body."""
    spelling: Annotated[Literal["voipbin", "voxology"], Field(description='"voipbin" or "voxology"')] = "voipbin"
    """In whose words it is asked; it may answer in either."""
    auth_key: Annotated[str, AfterValidator(_check_header_name), Field(description="a text")] = "Authorization"
    """Name of the header that holds the credential."""
    auth_value: Annotated[SecretStr, AfterValidator(_check_header_value), Field(description="a text")] = SecretStr("")
    """The credential; empty: none is sent."""
    secret: Annotated[SecretStr, AfterValidator(check_optional_secret), Field(description="a text")] = SecretStr("")
    """Signs the requests of its runs; empty: ``outbound.signing_secret`` does."""
    verify_tls: Switch = True
    ca_file: FilePath = ""
    """PEM file with the authority to trust instead of those of the system."""
    then: Annotated[Literal["hangup", "continue"], Field(description='"hangup" or "continue"')] = "hangup"
    """What becomes of a call that came in when its flow is over, or cannot be had: ``continue``: in the dialplan."""
