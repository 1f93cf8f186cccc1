"""Opens TCP connections: a name is resolved once, its addresses are checked, and only those are connected to."""

from __future__ import annotations

import socket

import aiohappyeyeballs

from bridge.outbound.policy import Denied, Policy
from bridge.outbound.resolver import NAMES, Resolver

NEXT_ADDRESS_S = 0.25
"""The delay after which a host's next address is tried in parallel (RFC 8305)."""


class Gate:
    """Opens every connection to an application, flow server, webhook or sound.

    Args:
        policy: decides what is allowed.
        ca_dir: ``outbound.ca_dir``: the directory of each ``ca_file`` that came over HTTP or from a flow.
        names: resolves names.
    """

    def __init__(self, policy: Policy | None = None, ca_dir: str = "", names: Resolver = NAMES) -> None:
        self.policy = policy or Policy()
        self.ca_dir = ca_dir
        self._names = names

    def check(self, host: str, *, configured: bool) -> None:
        """Check a host without resolving it, to reject a request early.

        Args:
            host: a name or an address.
            configured: whether the URL is in the configuration file.

        Raises:
            Denied: the policy denies it.
        """
        self.policy.check_host(host, configured=configured)

    async def addresses(self, host: str, *, configured: bool) -> list[str]:
        """Return the allowed addresses of a host, in order of preference.

        Args:
            host: a name or an address.
            configured: whether the URL is in the configuration file.

        Raises:
            Denied: the policy denies all.
            OSError: it has no addresses.
        """
        self.policy.check_host(host, configured=configured)
        allowed: list[str] = []
        denied: Denied | None = None
        for address in await self._names.addresses(host, configured=configured):
            try:
                self.policy.check(host, address, configured=configured)
                allowed.append(address)
            except Denied as problem:
                denied = denied or problem
        if denied is not None and not allowed:
            raise denied
        return allowed

    async def connect(self, host: str, port: int, *, configured: bool) -> socket.socket:
        """Connect to a host.

        Returns:
            A connected, non-blocking socket.

        Raises:
            Denied: the policy denies it.
            OSError: none of its addresses can be connected to.
        """
        found = await self.addresses(host, configured=configured)
        return await aiohappyeyeballs.start_connection(
            [address_info(address, port) for address in found], happy_eyeballs_delay=NEXT_ADDRESS_S
        )


def address_info(address: str, port: int) -> tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]:
    """Return the result of ``getaddrinfo`` for an address and a port, TCP."""
    plain, _, scope = address.partition("%")
    if ":" not in plain:
        return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (plain, port)
    scope_id = int(scope) if scope.isdecimal() else socket.if_nametoindex(scope) if scope else 0
    return socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (plain, port, 0, scope_id)
