"""Which addresses may be connected to. Pure: no lookups, no sockets.

Addresses are checked, not names: names can resolve to anything. ``allow`` overrides ``deny``. Addresses with a
different meaning on every machine or network (metadata services, link-local, multicast, ...) are denied unless a
network in ``allow`` contains them; loopback too, except for URLs of the configuration file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from bridge.errors import BridgeError
from bridge.patterns import Patterns, check_pattern

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
SPECIAL: tuple[tuple[str, tuple[IpNetwork, ...]], ...] = (
    (
        "host metadata",
        (
            ip_network("169.254.169.254/32"),  # AWS, Azure, Google, DigitalOcean, OpenStack
            ip_network("169.254.170.2/32"),  # credentials of AWS's containers
            ip_network("fd00:ec2::/32"),
            ip_network("fd20:ce::254/128"),  # Google
            ip_network("100.100.100.200/32"),  # Alibaba
            ip_network("168.63.129.16/32"),  # Azure
        ),
    ),
    ("link-local", (ip_network("169.254.0.0/16"), ip_network("fe80::/10"))),
    ("unspecified", (ip_network("0.0.0.0/8"), ip_network("::/128"))),
    ("multicast", (ip_network("224.0.0.0/4"), ip_network("ff00::/8"))),
    ("broadcast", (ip_network("255.255.255.255/32"),)),
    ("reserved", (ip_network("240.0.0.0/4"),)),
)
"""Denied unless a network in ``allow`` contains them."""

_LOCALHOST = "localhost"
_COMPATIBLE = ip_network("::/96")
_TRANSLATED = (ip_network("::ffff:0:0:0/96"), ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))
"""IPv6 whose last 32 bits are an IPv4 address that a gateway connects to (SIIT, NAT64)."""
_ISATAP = {0x00005EFE, 0x02005EFE}


class Denied(BridgeError):
    """The policy denies a connection; the message has the host and the reason."""


def check_rule(rule: str) -> str:
    """Check one entry of ``allow`` or ``deny``: an address, a network, or a pattern of host names.

    Raises:
        ValueError: the entry is none of these.
    """
    if _network(rule) is not None:
        return rule
    if not re.fullmatch(r"[A-Za-z0-9*?_.-]{1,200}", rule):
        raise ValueError(f"{rule[:80]!r} is not an address, a network (10.0.0.0/8) or a host name (*.example.org)")
    if re.fullmatch(r"[0-9.]+", rule):
        raise ValueError(f"{rule!r} is not a complete IPv4 address")
    return check_pattern(rule)


def is_localhost(host: str) -> bool:
    """Return whether a name always refers to this machine and needs no lookup (RFC 6761)."""
    name = host.lower().rstrip(".")
    return name == _LOCALHOST or name.endswith("." + _LOCALHOST)


def literal(host: str) -> IpAddress | None:
    """Return the address if a host is written as one; None for a name."""
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        return None


def embedded(address: IpAddress) -> Iterator[IpAddress]:
    """Yield an address, and the embedded IPv4 addresses at which it may arrive."""
    yield address
    if isinstance(address, IPv4Address):
        return
    low = IPv4Address(int(address) & 0xFFFFFFFF)
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield address.teredo[1]  # the client behind its relay
    isatap = (int(address) >> 32) & 0xFFFFFFFF in _ISATAP
    if isatap or (address in _COMPATIBLE and int(address) > 1) or any(address in each for each in _TRANSLATED):
        yield low


class Policy:
    """Rules for connections.

    Args:
        allow: addresses, networks and patterns of host names that may be connected to, regardless of ``deny``;
            ``localhost`` stands for loopback. Only an address or a network permits special addresses.
        deny: those that may not.

    Raises:
        ValueError: an entry is invalid.
    """

    def __init__(self, allow: Iterable[str] = (), deny: Iterable[str] = ()) -> None:
        self.allow = tuple(map(check_rule, allow))
        self.deny = tuple(map(check_rule, deny))
        self._allowed = _networks(self.allow)
        self._denied = _networks(self.deny)
        self._allowed_hosts = _hosts(self.allow)
        self._denied_hosts = _hosts(self.deny)

    def check(self, host: str, address: str, *, configured: bool) -> None:
        """Check one address before a connection to it.

        Args:
            host: as in the URL: a name, or the address itself.
            address: the address of the connection.
            configured: whether the URL is in the configuration file, rather than from HTTP or a flow's server.

        Raises:
            Denied: the policy denies it.
        """
        to = literal(address)
        if to is None:
            raise Denied(f"outbound connection to {_shown(host)} denied: not an address: {address[:60]!r}")
        if _covers(self._allowed, to):
            return
        by_name = self._allowed_hosts.match(_name(host))
        for each in embedded(to):
            if not _covers(self._allowed, each):
                self._check_face(host, each, by_name, configured)
        if not by_name and self._denied_hosts.match(_name(host)):
            raise Denied(f"outbound connection to {_shown(host)} denied by outbound.deny, by its name")

    def check_host(self, host: str, *, configured: bool) -> None:
        """Check a host before its lookup: a literal address, ``localhost``, a denied name.

        Args:
            host: as in the URL: a name, or the address itself.
            configured: whether the URL is in the configuration file.

        Raises:
            Denied: the policy denies it.
        """
        if literal(host) is not None:
            self.check(host, host, configured=configured)
        elif is_localhost(host):
            self.check(host, "127.0.0.1", configured=configured)
        elif self._denied_hosts.match(_name(host)) and not self._allowed_hosts.match(_name(host)):
            raise Denied(f"outbound connection to {_shown(host)} denied by outbound.deny, by its name")

    def _check_face(self, host: str, address: IpAddress, by_name: bool, configured: bool) -> None:
        for kind, networks in SPECIAL:
            if any(address in network for network in networks):
                raise Denied(
                    f"outbound connection to {_shown(host)} ({kind}) denied; a network in outbound.allow permits it"
                )
        if not configured and any(address in network for network in LOOPBACK):
            raise Denied(
                f"outbound connection to {_shown(host)} (loopback) denied: only URLs of the configuration file may lead"
                ' there; outbound.allow = ["localhost"] permits it to all'
            )
        for network in self._denied:
            if address in network and not by_name:
                raise Denied(f"outbound connection to {_shown(host)} denied by outbound.deny ({network})")


def _network(rule: str) -> IpNetwork | None:
    try:
        return ip_network(rule, strict=False)
    except ValueError:
        return None


def _networks(rules: Iterable[str]) -> tuple[IpNetwork, ...]:
    found: list[IpNetwork] = []
    for rule in rules:
        network = _network(rule)
        if network is not None:
            found.append(network)
        elif rule.lower() == _LOCALHOST:
            found.extend(LOOPBACK)
    return tuple(found)


def _hosts(rules: Iterable[str]) -> Patterns:
    return Patterns(_name(rule) for rule in rules if _network(rule) is None)


def _covers(networks: Iterable[IpNetwork], address: IpAddress) -> bool:
    """Return whether a network contains the address, or the IPv4 address that its socket really connects to."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return any(address in network or (mapped is not None and mapped in network) for network in networks)


def _name(host: str) -> str:
    return host.lower().rstrip(".")


def _shown(host: str) -> str:
    return host if len(host) <= 100 else f"{host[:100]}..."
