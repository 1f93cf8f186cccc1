"""The section ``[cluster]``: several nodes, on several machines, that share subscriptions."""

import re
import socket
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, Field, SecretStr

from bridge.config.sections import AriConfig
from bridge.config.values import FilePath, Section, host_and_port, is_loopback, matching


def _check_store(store: SecretStr) -> SecretStr:
    # No message repeats the URL: it may hold a password.
    url = store.get_secret_value()
    if not url:
        return store
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("is not a URL; expected for example redis://store.example.org:6379/0") from None
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise ValueError("must start with redis:// or rediss:// and name a host, for example redis://10.0.0.5:6379/0")
    if port == 0:
        raise ValueError("has the port 0")
    if not re.fullmatch(r"/?|/[0-9]{1,4}", parts.path):
        raise ValueError("may have only a database number after the host, for example /0")
    if parts.query or parts.fragment:
        raise ValueError("contains a query or a fragment; expected only scheme, host, port and database")
    if re.search(r"\s", url):
        raise ValueError("contains white space")
    return store


_NAME = matching(r"[A-Za-z0-9_.:\[\]-]{0,120}", "must be at most 120 letters, digits and _ . : - [ ]")
_PREFIX = matching(r"[A-Za-z0-9_.:-]{1,60}", "must be 1 to 60 letters, digits and _ . : -")


class ClusterConfig(Section):
    """The shared store, and the names of this node."""

    store: Annotated[SecretStr, AfterValidator(_check_store), Field(description="a redis:// or rediss:// URL")] = (
        SecretStr("")
    )
    """`redis://[user:password@]host[:port][/database]`, `rediss://` for TLS. Empty: no cluster. Never printed, since it
    may hold a password."""
    password: Annotated[SecretStr, Field(description="a string")] = SecretStr("")
    """The store's password, if the URL does not hold it."""
    ca_file: FilePath = ""
    """PEM file with the authority to trust instead of the system's, for `rediss://`."""
    node: Annotated[str, _NAME, Field(description="a string")] = ""
    """Name of this instance, different for each. Empty: the machine's name and `ari.app`. With `[workers]` each process
    adds its number."""
    pbx: Annotated[str, _NAME, Field(description="a string")] = ""
    """Name of the Asterisk that this instance serves: **the same in all instances that serve it**, and another one for
    each Asterisk. Empty: host and port of `ari.url`, which then must not be loopback."""
    claim_ttl_s: Annotated[float, Field(ge=1, le=60, description="a number of seconds from 1 to 60")] = 6.0
    """An instance that has not renewed its lease for this long loses its streams: another takes them over within the
    next 1.5 s. The store must always answer within a sixth of it."""
    prefix: Annotated[str, _PREFIX, Field(description="a string")] = "asterisk-bridge"
    """Prefix of every key, for installations that share a store."""

    @property
    def enabled(self) -> bool:
        """Whether there are other nodes to coordinate with."""
        return bool(self.store.get_secret_value())

    @property
    def display_url(self) -> str:
        """The store without user and password, for logs."""
        parts = self._url
        return f"{parts.scheme}://{host_and_port(parts.hostname or '', parts.port or 6379)}{parts.path.rstrip('/')}"

    @property
    def readable_on_the_way(self) -> bool:
        """Whether the store is reached over a network without TLS."""
        return self.enabled and self._url.scheme == "redis" and not is_loopback(self._url.hostname or "")

    @property
    def _url(self) -> SplitResult:
        return urlsplit(self.store.get_secret_value())

    def node_name(self, ari: AriConfig) -> str:
        """Return the name of this node."""
        return self.node or f"{socket.gethostname()}.{ari.app}"

    def pbx_name(self, ari: AriConfig) -> str:
        """Return the name of the Asterisk that this node serves."""
        parts = urlsplit(ari.url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return self.pbx or host_and_port((parts.hostname or "").lower(), port)

    def pbx_is_ambiguous(self, ari: AriConfig) -> bool:
        """Return whether the default name would be ambiguous: it contains loopback, which every machine has."""
        return not self.pbx and is_loopback(urlsplit(ari.url).hostname or "")
