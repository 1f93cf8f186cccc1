"""The section ``[calling]``: how destinations are dialed, and the limits of originated calls."""

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from bridge.config.endpoint import Switch
from bridge.config.values import PatternList, Section, Text, as_tuple
from bridge.patterns import Patterns


def _endpoint(placeholder: str) -> AfterValidator:
    def check(endpoint: str) -> str:
        if endpoint and ("{" + placeholder + "}" not in endpoint or "/" not in endpoint):
            raise ValueError(
                f'must be TECHNOLOGY/... with {{{placeholder}}} in it, for example "PJSIP/{{{placeholder}}}@trunk"'
            )
        for name in re.findall(r"\{(\w*)\}", endpoint):
            if name not in (placeholder, "context"):
                raise ValueError(f"contains {{{name}}}; only {{{placeholder}}} is supported here")
        return endpoint

    return AfterValidator(check)


def _check_prefix(prefix: str) -> str:
    if not re.fullmatch(r"\+?[0-9*#]{1,40}", prefix) and prefix != "+":
        raise ValueError(f"{prefix[:40]!r} is not a prefix of a number: digits, optionally after a +")
    return prefix


Prefixes = Annotated[
    tuple[Annotated[str, AfterValidator(_check_prefix)], ...],
    BeforeValidator(as_tuple),
    Field(description='a list of prefixes, for example ["+49", "0"]'),
]
PerMinute = Annotated[int, Field(ge=1, le=1_000_000, description="a number from 1 to 1000000")]


class CallingConfig(Section):
    """Settings of originated calls."""

    tel_endpoint: Annotated[str, _endpoint("number"), Field(description="a string")] = ""
    """How a `tel` destination is dialed: `"PJSIP/{number}@trunk-a"`. Empty: rejected, as it may cost money."""
    sip_endpoint: Annotated[str, _endpoint("uri"), Field(description="a string")] = ""
    """How a `sip` destination is dialed: `"PJSIP/sip-out/{uri}"`. Empty: rejected. The endpoint must not have an
    `outbound_auth`: Asterisk answers the challenge of any host that an address names, and would send it the trunk's
    password as a digest."""
    sip_hosts: PatternList = Patterns()
    """Hosts of `sip` destinations that may be called. Empty: none."""
    allowed_numbers: Prefixes = ()
    """Prefixes of `tel` destinations that may be called: `["+49", "0"]`. Empty: all that `denied_numbers` does not
    deny."""
    denied_numbers: Prefixes = ()
    """Prefixes that may not be called: `["+49900", "00"]`; also as an `extension`, which the dialplan may send out. The
    longest prefix of both lists decides."""
    extension_endpoint: Annotated[str, _endpoint("extension"), Field(description="a string")] = "PJSIP/{extension}"
    """How an `extension` is dialed. Unless it begins with `Local/`, only endpoints that `[pbx]` identifies as
    extensions are dialed, never a trunk."""
    conference_endpoint: Annotated[str, _endpoint("conference"), Field(description="a string")] = (
        "Local/conference-{conference}@{context}/n"
    )
    """How a `conference` is dialed; `{context}` is the key `context`; without it, conferences are rejected."""
    caller_id: Text = ""
    """The number that called phones show where a request names none."""
    caller_ids: PatternList = Patterns()
    """Numbers that a request or a flow may name as the caller's: `["+4930555*"]`. Empty: any. `caller_id`, and in a
    flow the number of its own caller, are always allowed."""
    ring_timeout_s: Annotated[float, Field(ge=1, le=600, description="a number of seconds from 1 to 600")] = 30
    """How long a called phone may ring."""
    follow_forwards: Switch = True
    """Whether a call that a phone forwards (302) is dialed at the new address, within the limits of this section, at
    most five times and within the ring timeout of the first phone. `false`: the call ends with the `hangup_reason`
    `forwarded`."""
    max_calls: Annotated[int, Field(ge=0, le=100_000, description="a number from 0 to 100000")] = 500
    """Originated calls that may exist at the same time; one more returns 503. 0: none can be originated."""
    max_calls_per_minute: PerMinute = 600
    """Calls that all requests and flows may originate within a minute; one more returns 503."""
    max_calls_per_minute_per_token: PerMinute = 600
    """The same for the calls of one token."""
    max_call_s: Annotated[float, Field(ge=1, le=604_800, description="a number of seconds from 1 to 604800")] = 14_400
    """An originated call is hung up after this time (`hangup_reason` is `timeout`)."""
    context: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9_.-]*$", description="the name of a context in extensions.conf, or nothing")
    ] = ""
    """Dialplan context with the entries `audiosocket`, `queue-`, `room-`, `conference-` and `amd`. Empty: flows have no
    queues, ConfBridge rooms and answering machine detection, and a tap takes two channels and a mixing bridge instead
    of one channel."""
