"""The section ``[calling]``: how destinations are dialled, and the limits of calls that the bridge places."""

from __future__ import annotations

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
                raise ValueError(f"holds {{{name}}}; only {{{placeholder}}} is known here")
        return endpoint

    return AfterValidator(check)


def _check_prefix(prefix: str) -> str:
    if not re.fullmatch(r"\+?[0-9*#]{1,40}", prefix) and prefix != "+":
        raise ValueError(f"{prefix[:40]!r} is not a prefix of a number: digits, with a + before them if need be")
    return prefix


Prefixes = Annotated[
    tuple[Annotated[str, AfterValidator(_check_prefix)], ...],
    BeforeValidator(as_tuple),
    Field(description='a list of prefixes, for example ["+49", "0"]'),
]
PerMinute = Annotated[int, Field(ge=1, le=1_000_000, description="a number from 1 to 1000000")]


class CallingConfig(Section):
    """How calls are placed."""

    tel_endpoint: Annotated[str, _endpoint("number"), Field(description="a string")] = ""
    """For numbers outside, for example ``PJSIP/{number}@trunk-a``; empty: they are refused."""
    sip_endpoint: Annotated[str, _endpoint("uri"), Field(description="a string")] = ""
    """For SIP addresses, for example ``PJSIP/sip-out/{uri}``; empty: they are refused.

    The endpoint must have no ``outbound_auth``: Asterisk answers the challenge of whatever host the URI names.
    """
    sip_hosts: PatternList = Patterns()
    """Hosts of SIP addresses that may be called, as patterns; empty: none."""
    allowed_numbers: Prefixes = ()
    """Prefixes of numbers that may be called; empty: all that `denied_numbers` does not deny."""
    denied_numbers: Prefixes = ()
    """Prefixes of numbers that may not be called; the longest prefix of both lists decides."""
    extension_endpoint: Annotated[str, _endpoint("extension"), Field(description="a string")] = "PJSIP/{extension}"
    """For phones of this PBX."""
    conference_endpoint: Annotated[str, _endpoint("conference"), Field(description="a string")] = (
        "Local/conference-{conference}@{context}/n"
    )
    """For conferences; ``{context}`` is `context`, and without that they are refused."""
    caller_id: Text = ""
    """The number that called phones see where a request names none."""
    caller_ids: PatternList = Patterns()
    """Numbers that a request may name as the caller's, as patterns; empty: any."""
    ring_timeout_s: Annotated[float, Field(ge=1, le=600, description="a number of seconds from 1 to 600")] = 30
    """How long a called phone may ring."""
    follow_forwards: Switch = True
    """Whether a call is dialed where its phone forwards it to (302); else it ends, and its record shows where."""
    max_calls: Annotated[int, Field(ge=0, le=100_000, description="a number from 0 to 100000")] = 500
    """Calls placed by the bridge that may go on at once; 0: none can be placed."""
    max_calls_per_minute: PerMinute = 600
    """Calls that all requests and flows together may place within a minute."""
    max_calls_per_minute_per_token: PerMinute = 600
    """The same for those placed by one token."""
    max_call_s: Annotated[float, Field(ge=1, le=604_800, description="a number of seconds from 1 to 604800")] = 14_400
    """After so long a call that the bridge placed is hung up."""
    context: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9_.-]*$", description="the name of a context in extensions.conf, or nothing")
    ] = ""
    """Where the dialplan has our entries ``audiosocket``, ``queue-``, ``room-``, ``conference-`` and ``amd``; empty:
    nowhere."""
