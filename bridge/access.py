"""Access rights: the scopes of a token, and the principal that a request, a stream or a recording belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Scope = Literal[
    "calls:read",
    "calls:originate",
    "calls:control",
    "streams:listen",
    "streams:speak",
    "recordings",
    "subscriptions",
    "flows",
    "events",
    "metrics",
    "admin",
]
"""One right of a token. ``admin`` is every right."""

SCOPES: frozenset[Scope] = frozenset(get_args(Scope))


@dataclass(frozen=True, slots=True)
class Principal:
    """The holder of a credential, as authorization and the audit log see them.

    Args:
        id: the token's ``id``; ``local`` where no authentication is configured, ``anonymous`` without a credential,
            ``config`` for what the configuration file starts.
        address: the client's IP address; empty where there is no client.
        scopes: the rights held.
    """

    id: str
    address: str = ""
    scopes: frozenset[Scope] = SCOPES

    def may(self, scope: Scope) -> bool:
        """Return whether the principal holds ``scope``."""
        return scope in self.scopes or "admin" in self.scopes


ANONYMOUS = Principal("anonymous", scopes=frozenset())
CONFIGURATION = Principal("config")
