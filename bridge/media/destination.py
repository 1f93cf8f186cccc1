"""Where an outgoing WebSocket goes, checked when it is configured and not when the first call is lost."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from types import MappingProxyType
from urllib.parse import SplitResult, parse_qsl, urlsplit

from bridge.outbound.headers import check_header_name, check_header_value
from bridge.tls import Trust


@dataclass(frozen=True, repr=False)
class Destination:
    """Where a stream goes.

    Args:
        url: ``ws://`` or ``wss://``; it may hold a secret in its query, which is never shown.
        headers: what the server wants to see beside the handshake, usually a credential; never shown.
        verify: check the server's certificate and name; only for ``wss://``.
        ca_file: PEM file with the only authorities to trust; empty for those of the system.
        ca_dir: where ``ca_file`` must lie if it came over HTTP or from a flow (`bridge.tls.Trust`).

        configured: the URL is in the configuration file, its host at least (`bridge.outbound.policy.Policy.check`).

    Raises:
        ValueError: in words for the administrator.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    verify: bool = True
    ca_file: str = ""
    ca_dir: str | None = None
    configured: bool = False

    def __post_init__(self) -> None:
        if re.search(r"[^!-~]", self.url):
            raise ValueError("the URL holds a space or a character outside ASCII: percent-encode it (host: xn--...)")
        parts = self._parts  # raises ValueError by itself for a broken IPv6 address
        if parts.scheme not in ("ws", "wss"):
            raise ValueError("the URL does not begin with ws:// or wss://")
        if "@" in parts.netloc:
            raise ValueError("the URL holds a user name or password: put a credential into a header")
        if not parts.hostname or not all(0 < len(label) < 64 for label in parts.hostname.removesuffix(".").split(".")):
            raise ValueError("the URL names no host, or one that cannot be")
        if parts.fragment:
            raise ValueError("the URL holds a fragment (#...), which no server would see")
        try:
            if parts.port == 0:
                raise ValueError
        except ValueError:
            raise ValueError("the URL's port is not a number from 1 to 65535") from None
        for name, value in self.headers.items():
            try:
                check_header_name(name)
                check_header_value(value)
            except ValueError as problem:
                raise ValueError(f"the header {name!r}: {problem}") from None
        object.__setattr__(self, "headers", MappingProxyType(dict(self.headers)))

    def __repr__(self) -> str:
        return f"Destination({self})"

    def __str__(self) -> str:
        """The URL without its query."""
        return f"{self._parts.scheme}://{self._parts.netloc}{self._parts.path}"

    @property
    def _parts(self) -> SplitResult:
        return urlsplit(self.url)

    @property
    def secure(self) -> bool:
        """Whether TLS is used."""
        return self._parts.scheme == "wss"

    @property
    def host(self) -> str:
        """Name or address, without brackets."""
        return self._parts.hostname or ""

    @property
    def port(self) -> int:
        """443 or 80 if the URL does not say."""
        return self._parts.port or (443 if self.secure else 80)

    @property
    def authority(self) -> str:
        """Host and port as the URL has them, for the Host header."""
        return self._parts.netloc

    @property
    def resource(self) -> str:
        """Path and query, for the request line."""
        parts = self._parts
        return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    @property
    def exposes_headers(self) -> bool:
        """Whether anybody on the way can read the headers."""
        if self.secure or not self.headers:
            return False
        try:
            return not ip_address(self.host).is_loopback
        except ValueError:
            return self.host.rstrip(".") != "localhost"

    @property
    def trust(self) -> Trust:
        """Which servers to accept."""
        return Trust(self.verify, self.ca_file, self.ca_dir)

    @property
    def secrets(self) -> list[str]:
        """What no log may show, whoever repeats it."""
        query = self._parts.query
        return [*self.headers.values(), query, *(value for _, value in parse_qsl(query))]

    @property
    def where(self) -> str:
        """Host and port, for logs and errors."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
