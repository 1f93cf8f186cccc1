"""The section ``[outbound]``: which outgoing connections are allowed, and what is trusted and signed with."""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from bridge.config.values import FilePath, Section, as_tuple
from bridge.config.webhooks import check_optional_secret
from bridge.outbound.policy import check_rule

Rules = Annotated[
    tuple[Annotated[str, AfterValidator(check_rule)], ...],
    BeforeValidator(as_tuple),
    Field(description='a list of networks and host names, for example ["10.0.0.0/8", "*.example.org"]'),
]

Secret = Annotated[SecretStr, AfterValidator(check_optional_secret), Field(description="a string")]


class OutboundConfig(Section):
    """Connections to applications, flow servers, webhooks and sounds."""

    allow: Rules = ()
    """Addresses, networks (`"10.1.0.0/16"`) and patterns of host names (`"*.example.org"`) that may be connected to,
    whatever `deny` lists. `"localhost"` stands for loopback."""
    deny: Rules = ()
    """Addresses, networks and host names that may not be connected to."""
    ca_dir: FilePath = ""
    """Directory of the PEM files that a `ca_file` may name in a request or in a flow, relative to it. Empty: such a
    `ca_file` is rejected."""
    signing_secret: Secret = SecretStr("")
    """Signs the requests of flows whose `[[flows]]` table has no `secret`: `whsec_` and base64, or at least 16
    characters. Empty: they are not signed."""
