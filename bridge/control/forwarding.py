"""Calls that a phone forwards (302 Moved Temporarily), and calls that Asterisk cannot dial."""

from __future__ import annotations

import re

from bridge.ari.client import AriClient
from bridge.calls.addresses import Address
from bridge.control.dial_policy import DialPolicy
from bridge.errors import AriError

MAX_FORWARDS = 5
"""Limit of forwards of one call."""
_SIP_URI = re.compile(r"sips?:([^@;>]{1,128})@[^>]*")


def destinations_of(forward: str, by: Address, policy: DialPolicy) -> list[Address]:
    """Return possible destinations of a forward, the likeliest first; empty if the configuration allows none.

    External parties (``tel`` and ``sip`` destinations) may forward to SIP addresses only: a call to a number would be
    at the operator's cost.

    Args:
        forward: as in ARI's ``Dial`` event: a number, or with the endpoint's ``redirect_method = uri_core`` a dial
            string with a SIP URI (``PJSIP/1001/sip:1002@host``).
        by: the forwarding destination.
        policy: which destinations can be dialed.
    """
    uri = _SIP_URI.search(forward)
    number = uri[1] if uri else forward
    meant = [Address("sip", uri[0])] if uri else []
    if by.type == "extension":
        meant += [Address("extension", number), Address("tel", number)]
    return [each for each in meant if _is_allowed(each, policy)]


def _is_allowed(destination: Address, policy: DialPolicy) -> bool:
    try:
        policy.endpoint_of(destination)
    except ValueError:
        return False
    return True


async def explain(client: AriClient, destination: Address, endpoint: str, error: AriError) -> str:
    """Return why Asterisk did not dial a destination, for the call's record.

    Args:
        client: ARI, queried for the endpoint's state.
        destination: the destination.
        endpoint: its dial string.
        error: Asterisk's response.
    """
    name = endpoint_name(endpoint)
    if not name or error.status != 500:
        return error.message
    what = "extension" if destination.type == "extension" else "endpoint"
    route = "" if destination.type == "extension" else "no route: "
    try:
        found = await client.endpoints.get("PJSIP", name)
    except AriError as problem:
        return f"{route}no such {what}: {name}" if problem.status == 404 else error.message
    return f"{route}not registered: {name}" if found.state == "offline" else error.message


async def exists(client: AriClient, endpoint: str) -> bool:
    """Return whether Asterisk has the endpoint of a dial string; True also if that is unknown."""
    name = endpoint_name(endpoint)
    try:
        if name:
            await client.endpoints.get("PJSIP", name)
    except AriError as problem:
        return problem.status != 404
    return True


def endpoint_name(endpoint: str) -> str:
    """Return the PJSIP endpoint of a dial string (``trunk-a`` of ``PJSIP/555@trunk-a``); empty for others."""
    technology, _, resource = endpoint.partition("/")
    if technology != "PJSIP":
        return ""
    first, _, uri = resource.partition("/")
    return first if uri else resource.rpartition("@")[2]
