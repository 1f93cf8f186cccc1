"""The destination of an outgoing WebSocket, validated with the configuration instead of during the first call."""

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
    """The destination of a stream.

    Args:
        url: ``ws://`` or ``wss://``; may hold a secret in its query, which is never shown.
        headers: additional headers of the handshake, usually a credential; never shown.
        verify: check the server's certificate and name; for ``wss://``.
        ca_file: PEM file with the only authorities to trust; empty for those of the system.
        ca_dir: folder that must contain a ``ca_file`` which came over HTTP or from a flow (`bridge.tls.Trust`).
        client_certificate: PEM file with this side's certificate; empty: none.
        client_key: PEM file with its key; empty: it is in the same file.
        configured: the URL, at least its host, is in the configuration file (`bridge.outbound.policy.Policy.check`).

    Raises:
        ValueError: an argument is invalid; the message is for the administrator.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    verify: bool = True
    ca_file: str = ""
    ca_dir: str | None = None
    configured: bool = False
    client_certificate: str = ""
    client_key: str = ""

    def __post_init__(self) -> None:
        if re.search(r"[^!-~]", self.url):
            raise ValueError("the URL contains a space or a non-ASCII character. Percent-encode it (host: xn--...)")
        parts = self._parts  # raises ValueError for an invalid IPv6 address
        if parts.scheme not in ("ws", "wss"):
            raise ValueError("the URL must begin with ws:// or wss://")
        if "@" in parts.netloc:
            raise ValueError("the URL contains a user name or password. Send credentials in a header")
        if not parts.hostname or not all(0 < len(label) < 64 for label in parts.hostname.removesuffix(".").split(".")):
            raise ValueError("the URL has no valid host")
        if parts.fragment:
            raise ValueError("the URL contains a fragment (#...), which is never sent to servers")
        try:
            if parts.port == 0:
                raise ValueError
        except ValueError:
            raise ValueError("the URL's port must be from 1 to 65535") from None
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
        """Return the URL without its query."""
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
        """The port, by default 443 or 80."""
        return self._parts.port or (443 if self.secure else 80)

    @property
    def authority(self) -> str:
        """Host and port as in the URL, for the Host header."""
        return self._parts.netloc

    @property
    def resource(self) -> str:
        """Path and query, for the request line."""
        parts = self._parts
        return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    @property
    def exposes_headers(self) -> bool:
        """Whether the headers travel unencrypted."""
        if self.secure or not self.headers:
            return False
        try:
            return not ip_address(self.host).is_loopback
        except ValueError:
            return self.host.rstrip(".") != "localhost"

    @property
    def trust(self) -> Trust:
        """The certificates to accept."""
        return Trust(self.verify, self.ca_file, self.ca_dir, self.client_certificate, self.client_key)

    @property
    def secrets(self) -> list[str]:
        """Strings that logs must hide, from any source."""
        query = self._parts.query
        return [*self.headers.values(), query, *(value for _, value in parse_qsl(query))]

    @property
    def where(self) -> str:
        """Host and port, for logs and errors."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
