"""The tables of flows: which calls run which actions, and where the actions come from."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from bridge.config.endpoint import Endpoint, HeaderName
from bridge.config.values import FilePath, PatternList, Slug, as_tuple, split_url
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


ActionTables = Annotated[
    tuple[Any, ...], BeforeValidator(as_tuple), Field(description='a list of tables, each with a "type"')
]


class FlowConfig(Endpoint):
    """A list of actions, and the inbound calls that run it."""

    id: Slug
    """The `flow_id` of `POST /v1.0/calls` and of `fetch_flow`."""
    match: PatternList = Patterns()
    """Patterns of the number that was dialed or of the argument of `Stasis()`. Empty: only originated calls and other
    flows run it."""
    actions: ActionTables = ()
    """The list of actions."""
    file: FilePath = ""
    """JSON file with the list; read at the start and on reload."""
    url: Annotated[str, AfterValidator(_check_url), Field(description="an http:// or https:// URL")] = ""
    """Server that is queried for the list, again for each call."""
    method: Annotated[Literal["POST", "GET"], Field(description='"POST" or "GET"')] = "POST"
    """HTTP method of that request; `"GET"` has no body."""
    syntax: Annotated[
        Literal["voipbin", "voxology", "twiml"], Field(description='"voipbin", "voxology" or "twiml"')
    ] = "voipbin"
    """Syntax of that request: `"voipbin"` or `"voxology"` (`init_call`); the response may be in either. `"twiml"`:
    a form with the facts of the call, signed; the response is TwiML."""
    auth_key: HeaderName = "Authorization"
    """Header that carries the credential."""
    secret: Annotated[SecretStr, AfterValidator(check_optional_secret), Field(description="a string")] = SecretStr("")
    """Signs the requests of its runs; empty: `outbound.signing_secret` does."""
    then: Annotated[Literal["hangup", "continue"], Field(description='"hangup" or "continue"')] = "hangup"
    """What happens to an inbound call when its flow has ended or is unavailable: `"hangup"`, or `"continue"` in the
    dialplan."""
