"""The address of the client that makes a request, also behind a reverse proxy."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping

from aiohttp import web
from multidict import MultiMapping

from bridge.outbound.policy import IpNetwork

PROXIES: web.AppKey[Iterable[IpNetwork]] = web.AppKey("proxies")
"""``http.trusted_proxies``."""
FORWARDED = ("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "Via")
"""Headers by which a proxy shows itself."""
MAX_HOPS = 20


def client_address(request: web.Request) -> str:
    """Return the address of the client that makes a request; "" where it has none (a Unix socket).

    Behind `http.trusted_proxies` it is the rightmost address in ``X-Forwarded-For`` (else ``Forwarded``) that is not a
    trusted proxy's: everything left of it was written by the client.
    """
    return address_behind(request.remote or "", request.headers, request.app[PROXIES])


def address_behind(peer: str, headers: Mapping[str, str], proxies: Iterable[IpNetwork]) -> str:
    """Return the client's address.

    Args:
        peer: the remote address of the connection.
        headers: the request's headers, a multi-mapping if names may occur twice.
        proxies: networks whose headers are trusted.
    """
    trusted = tuple(proxies)
    if not _is_among(peer, trusted):
        return peer
    hops, other = _hops(headers, "X-Forwarded-For"), _hops(headers, "Forwarded")
    if hops and other and hops[-1] != other[-1]:
        return peer  # the client may have written either of them
    for hop in reversed((hops or other)[-MAX_HOPS:]):
        if not _parsed(hop):
            return peer
        if not _is_among(hop, trusted):
            return hop
        peer = hop
    return peer


def network_of(address: str) -> str:
    """Return the unit that counts as one client: an IPv4 address, or an IPv6 /64, which one machine may have."""
    found = _parsed(address)
    if found is None:
        return address[:64]
    if found.version == 4 or found.is_loopback:
        return str(found)
    return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))


def networks(texts: Iterable[str]) -> tuple[IpNetwork, ...]:
    """Parse networks."""
    return tuple(ipaddress.ip_network(text) for text in texts)


def _hops(headers: Mapping[str, str], name: str) -> list[str]:
    lines = headers.getall(name, []) if isinstance(headers, MultiMapping) else [headers.get(name, "")]
    parts = [part.strip() for part in ",".join(lines)[-4096:].split(",") if part.strip()]
    if name == "Forwarded":
        parts = [_for(part) for part in parts]
    return [_bare(part) for part in parts]


def _for(part: str) -> str:
    for pair in part.split(";"):
        key, _, value = pair.strip().partition("=")
        if key.lower() == "for":
            return value.strip('"')
    return ""


def _bare(hop: str) -> str:
    """Return an address without port and brackets."""
    found = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](:[0-9]+)?|([0-9.]+):[0-9]+", hop)
    return (found[1] or found[3]) if found else hop


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found


def _is_among(address: str, networks: Iterable[IpNetwork]) -> bool:
    found = _parsed(address)
    return found is not None and any(found in network for network in networks)
