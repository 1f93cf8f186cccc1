"""The section ``[calling]``: how destinations are dialled, and the limits of calls that the bridge places."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from bridge.config.values import Section, Text


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


class CallingConfig(Section):
    """How calls are placed."""

    tel_endpoint: Annotated[str, _endpoint("number"), Field(description="a text")] = ""
    """For numbers outside, for example ``PJSIP/{number}@trunk-a``; empty: they are refused."""
    sip_endpoint: Annotated[str, _endpoint("uri"), Field(description="a text")] = ""
    """For SIP addresses, for example ``PJSIP/trunk-a/{uri}``; empty: they are refused."""
    extension_endpoint: Annotated[str, _endpoint("extension"), Field(description="a text")] = "PJSIP/{extension}"
    """For phones of this PBX."""
    conference_endpoint: Annotated[str, _endpoint("conference"), Field(description="a text")] = (
        "Local/conference-{conference}@{context}/n"
    )
    """For conferences; ``{context}`` is `context`, and without that they are refused."""
    caller_id: Text = ""
    """The number that called phones see where a request names none."""
    ring_timeout_s: Annotated[float, Field(ge=1, le=600, description="a number of seconds from 1 to 600")] = 30
    """How long a called phone may ring."""
    max_calls: Annotated[int, Field(ge=0, le=100_000, description="a number from 0 to 100000")] = 500
    """Calls placed by the bridge that may go on at once; 0: none can be placed."""
    max_call_s: Annotated[float, Field(ge=1, le=604_800, description="a number of seconds from 1 to 604800")] = 14_400
    """After so long a call that the bridge placed is hung up."""
    context: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9_.-]*$", description="the name of a context in extensions.conf, or nothing")
    ] = ""
    """Where the dialplan has our entries ``audiosocket``, ``queue-``, ``room-``, ``conference-`` and ``amd``; empty:
    nowhere."""
