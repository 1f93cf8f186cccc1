"""The sections named after vendors whose HTTP routes are served; no other part of the configuration names a vendor."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from bridge.config.endpoint import Switch
from bridge.config.values import Section, matching, section, split_url
from bridge.errors import ConfigError

RESERVED_IDS = frozenset({"yeastar"})
"""Ids of subscriptions that a vendor's settings API create."""
RESERVED_TOKEN_IDS = frozenset({"plivo", "telnyx", "twilio", "voxology"})
"""Ids by which logs name vendors' clients."""


_DIAL_CONTEXT = matching(r"[A-Za-z0-9_.-]{0,79}", "is not the name of a dialplan context")
_AUTH_ID = matching(r"[A-Za-z0-9]{0,40}", "must be at most 40 letters and digits")
_FLOW_ID = matching(
    r"([a-z0-9]+(-[a-z0-9]+)*)?",
    "is not a flow id: lowercase letters and digits, with single dashes between them",
)


def _check_account_sid(sid: str) -> str:
    if sid and not re.fullmatch(r"AC[0-9a-f]{32}", sid):  # the message does not repeat it: it may be the secret
        raise ValueError(
            'must be "AC" and 32 lowercase hexadecimal digits; create one with: echo AC$(openssl rand -hex 16)'
        )
    return sid


def _check_public_url(url: str) -> str:
    if url:
        split_url(url, ("http", "https"), "https://bridge.example.org", "requests have the credential of [twilio]")
    return url.rstrip("/")


def _check_secret(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if text and (len(text) < 16 or not re.fullmatch(r"[\x21-\x7e]+", text)):
        raise ValueError("must be at least 16 ASCII characters without spaces; create one with: openssl rand -hex 24")
    return secret


class TwilioConfig(Section):
    """The account of agents made for Twilio: requests to them are signed with it, and they control calls with it."""

    account_sid: Annotated[str, AfterValidator(_check_account_sid), Field(description="a string")] = ""
    """An account's id that you make up: `AC` and 32 hexadecimal digits."""
    auth_token: Annotated[SecretStr, AfterValidator(_check_secret), Field(description="a string")] = SecretStr("")
    """Its secret, at least 16 characters; also signs requests to agents. Both set: the REST API exists."""
    dial_context: Annotated[str, _DIAL_CONTEXT, Field(description="a string")] = ""
    """Dialplan context into which a request with a document of one `<Dial>` redirects a call. Empty: `<Dial>` calls the
    number as every document does."""
    originate: Switch = False
    """Whether the account may create calls, and dial in documents that it sends. Documents of `twiml_url` always may
    dial. `[calling]` decides what is dialed."""
    public_url: Annotated[str, AfterValidator(_check_public_url), Field(description="an http:// or https:// URL")] = ""
    """Where agents reach asterisk-bridge, for the URLs of recordings: `"https://bridge.example.org"`."""

    @property
    def enabled(self) -> bool:
        """Whether there is an account."""
        return bool(self.account_sid and self.auth_token.get_secret_value())


class TelnyxConfig(Section):
    """The key with which voice-agent frameworks may hang up calls: ``POST /v2/calls/{id}/actions/hangup``."""

    api_key: Annotated[SecretStr, AfterValidator(_check_secret), Field(description="a string")] = SecretStr("")
    """An API key that you make up, at least 16 characters. Empty: the route does not exist."""

    @property
    def enabled(self) -> bool:
        """Whether there is a key."""
        return bool(self.api_key.get_secret_value())


class PlivoConfig(Section):
    """The account with which voice-agent frameworks may hang up calls; setting both keys enables it."""

    auth_id: Annotated[str, _AUTH_ID, Field(description="a string")] = ""
    """An account's id that you make up, also the `accountId` of streams."""
    auth_token: Annotated[SecretStr, AfterValidator(_check_secret), Field(description="a string")] = SecretStr("")
    """Its secret, at least 16 characters. Both set: the request to hang up is answered."""

    @property
    def enabled(self) -> bool:
        """Whether there is an account."""
        return bool(self.auth_id and self.auth_token.get_secret_value())


class VoxologyConfig(Section):
    """Voxology's request to create a call: ``POST /v1/Dials/Connect``."""

    flow: Annotated[str, _FLOW_ID, Field(description="the id of a flow")] = ""
    """Id of the flow that calls of `POST /v1/Dials/Connect` run; with a `url` and `syntax = "voxology"` its server
    gets `init_call`. Empty: such calls are rejected."""
    api_key: Annotated[SecretStr, AfterValidator(_check_secret), Field(description="a string")] = SecretStr("")
    """Value of the header `x-api-key`; at least 16 characters. Empty: the route does not exist."""
    app_id: Annotated[str, Field(max_length=100, description="a string of at most 100 characters")] = ""
    """Sent to the flow's server as `app_id`."""


class Vendors(Section):
    """The part of the configuration that holds vendors' sections."""

    twilio: TwilioConfig = section()
    telnyx: TelnyxConfig = section()
    plivo: PlivoConfig = section()
    voxology: VoxologyConfig = section()

    @property
    def accounts(self) -> Mapping[str, tuple[str, str]]:
        """The account and secret at the vendor of a dialect, by the dialect's name."""
        return {
            "twilio": (self.twilio.account_sid, self.twilio.auth_token.get_secret_value()),
            "plivo": (self.plivo.auth_id, self.plivo.auth_token.get_secret_value()),
        }


SECTIONS: dict[str, type[Section]] = {
    "twilio": TwilioConfig,
    "telnyx": TelnyxConfig,
    "plivo": PlivoConfig,
    "voxology": VoxologyConfig,
}


def vendor_contradictions(config: Vendors, flows: Collection[str]) -> Iterator[ConfigError]:
    """Yield contradictions in vendors' sections.

    Args:
        config: the vendors' sections.
        flows: the ids of all flows.
    """
    twilio, voxology = config.twilio, config.voxology
    if bool(twilio.account_sid) != bool(twilio.auth_token.get_secret_value()):
        missing, there = ("auth_token", "account_sid") if twilio.account_sid else ("account_sid", "auth_token")
        yield ConfigError(f"twilio.{missing}", f"is missing; twilio.{there} is set, and both are required")
    if bool(config.plivo.auth_id) != bool(config.plivo.auth_token.get_secret_value()):
        missing, there = ("auth_token", "auth_id") if config.plivo.auth_id else ("auth_id", "auth_token")
        yield ConfigError(f"plivo.{missing}", f"is missing; plivo.{there} is set, and both are required")
    if voxology.flow and voxology.flow not in flows:
        there = ", ".join(flows) or "none"
        yield ConfigError("voxology.flow", f"{voxology.flow!r} is not a flow; [[flows]] has {there}")
