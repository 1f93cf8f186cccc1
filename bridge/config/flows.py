"""The tables about flows: which calls run which list of actions, and where the list comes from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from bridge.config.endpoint import Endpoint, HeaderName
from bridge.config.streams import Slug
from bridge.config.values import FilePath, PatternList, as_tuple, split_url
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


class FlowConfig(Endpoint):
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
    auth_key: HeaderName = "Authorization"
    secret: Annotated[SecretStr, AfterValidator(check_optional_secret), Field(description="a string")] = SecretStr("")
    """Signs the requests of its runs; empty: ``outbound.signing_secret`` does."""
    then: Annotated[Literal["hangup", "continue"], Field(description='"hangup" or "continue"')] = "hangup"
    """What becomes of a call that came in when its flow is over, or cannot be had: ``continue``: in the dialplan."""
