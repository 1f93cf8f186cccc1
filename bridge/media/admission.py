"""Access to the AudioSocket port, which has no authentication but UUIDs that asterisk-bridge generates.

With configured networks, all others are rejected. Without, the addresses of ARI's host are expected. A connection from
elsewhere is accepted only with an ordered UUID: 122 random bits that only Asterisk received. So an Asterisk with
several addresses, or behind a proxy, always gets audio; its address is remembered.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections.abc import Callable, Iterable

from bridge.outbound.policy import IpAddress
from bridge.outbound.resolver import NAMES

log = logging.getLogger(__name__)

RESOLVE_S = 30.0
"""Minimum interval of resolving ARI's host again after a connection from elsewhere was refused, in seconds."""
RESOLVE_TIMEOUT_S = 5.0
MAX_LEARNED = 64
"""Limit of remembered addresses with an ordered UUID."""


class AddressAdmission:
    """Decides by the address of a connection.

    Args:
        allowed: networks or addresses; if not empty, all others are rejected.
        host: ARI's host, whose addresses are expected when ``allowed`` is empty; empty: all addresses are.
        clock: returns seconds on a monotonic clock.
    """

    def __init__(
        self, allowed: Iterable[str] = (), host: str = "", *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._networks = tuple(map(ipaddress.ip_network, allowed))
        self._host = "" if self._networks else host
        self._addresses: frozenset[IpAddress] = frozenset()
        self._learned: dict[IpAddress, None] = {}
        self._resolved = float("-inf")
        self._resolving: asyncio.Task[None] | None = None

    def __str__(self) -> str:
        """Return the expected sources, for messages."""
        if self._networks:
            return ", ".join(map(str, self._networks))
        if not self._host:
            return "every address"
        known = ", ".join(sorted(map(str, self._addresses))) or "not resolved"
        return f"{self._host} ({known}) and this machine"

    @property
    def learned(self) -> list[str]:
        """Unexpected addresses with an ordered UUID."""
        return list(map(str, self._learned))

    async def start(self) -> None:
        """Resolve ARI's host; failures are logged."""
        if self._host:
            await self._resolve()

    def stop(self) -> None:
        """Stop resolving."""
        if self._resolving is not None:
            self._resolving.cancel()
            self._resolving = None

    def turns_away(self, source: str) -> bool:
        """Return whether a connection from ``source`` is refused before it has sent a UUID."""
        return bool(self._networks) and not self.expects(source)

    def expects(self, source: str) -> bool:
        """Return whether Asterisk is expected at ``source``."""
        try:
            address = _address(source)
        except ValueError:
            return False
        if self._networks:
            return any(address in network for network in self._networks)
        if not self._host or address.is_loopback or address in self._addresses or address in self._learned:
            return True
        self._resolve_again()
        return False

    def learn(self, source: str) -> None:
        """Remember ``source`` as an address of Asterisk, as an ordered UUID came from it."""
        if self._host and not self.expects(source):
            self._learned[_address(source)] = None
            if len(self._learned) > MAX_LEARNED:
                del self._learned[next(iter(self._learned))]
            log.info(
                "Asterisk connects from an address other than those of ARI's host peer=%s host=%s", source, self._host
            )

    def _resolve_again(self) -> None:
        if self._resolving is None and self._clock() - self._resolved > RESOLVE_S:
            self._resolving = asyncio.get_running_loop().create_task(self._resolve())

    async def _resolve(self) -> None:
        self._resolved = self._clock()
        try:
            async with asyncio.timeout(RESOLVE_TIMEOUT_S):
                self._addresses = frozenset(map(_address, await NAMES.addresses(self._host)))
        except OSError as error:  # includes TimeoutError
            log.warning("host of ari.url not resolved host=%s error=%s", self._host, error)
        finally:
            self._resolving = None


def _address(text: str) -> IpAddress:
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
