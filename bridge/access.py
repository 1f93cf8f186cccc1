"""Access rights: the scopes of a token, the calls that it reaches, and the principal of a request or a stream."""

from __future__ import annotations

from typing import Literal, get_args

from msgspec import Struct

from bridge.patterns import Patterns

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
"""A right of a token. ``admin`` includes every other."""

SCOPES: frozenset[Scope] = frozenset(get_args(Scope))


NO_PATTERNS = Patterns()


class PartyNames(Struct, frozen=True):
    """The extensions and trunks that take part in a call."""

    extensions: frozenset[str] = frozenset()
    trunks: frozenset[str] = frozenset()

    def __or__(self, other: PartyNames) -> PartyNames:
        return PartyNames(self.extensions | other.extensions, self.trunks | other.trunks)


class Reach(Struct, frozen=True):
    """The calls and conferences that a token sees and controls; without any pattern, all of them.

    Args:
        extensions: reaches the calls in which one of these extensions takes part.
        trunks: reaches the calls in which one of these trunks takes part.
        conferences: reaches the conferences with one of these ids or names.
    """

    extensions: Patterns = NO_PATTERNS
    trunks: Patterns = NO_PATTERNS
    conferences: Patterns = NO_PATTERNS

    @property
    def limited(self) -> bool:
        """Whether there is anything that the token does not reach."""
        return bool(self.extensions or self.trunks or self.conferences)

    def call(self, names: PartyNames) -> bool:
        """Return whether a call with these participants is within reach."""
        if not self.limited:
            return True
        return any(map(self.extensions.match, names.extensions)) or any(map(self.trunks.match, names.trunks))

    def conference(self, *names: str) -> bool:
        """Return whether the conference with this id and name is within reach."""
        return not self.limited or any(map(self.conferences.match, names))


EVERYTHING = Reach()


class Grant(Struct, frozen=True):
    """The rights of one credential.

    Args:
        id: the credential's name in logs and lists; never the credential itself.
        scopes: the scopes.
        expires: seconds since 1970; None: never.
        reach: the calls and conferences that it sees and controls.
        caller_ids: the caller IDs that calls may show (``source``); without any, all.
        max_calls: simultaneous calls originated with it; 0: no limit of its own.
    """

    id: str
    scopes: frozenset[Scope] = SCOPES
    expires: float | None = None
    reach: Reach = EVERYTHING
    caller_ids: Patterns = NO_PATTERNS
    max_calls: int = 0


class Principal(Struct, frozen=True):
    """The holder of a credential, as authorization and the audit log see them.

    Args:
        id: the token's ``id``; ``local`` where authentication is off, ``anonymous`` without a credential,
            ``config`` for what the configuration file starts.
        address: the client's IP address; empty where there is no client.
        scopes: the scopes.
        grant: all that the credential allows; None: only the scopes limit it.
        token: the SHA-256 of the token in hexadecimal; empty for other credentials.
    """

    id: str
    address: str = ""
    scopes: frozenset[Scope] = SCOPES
    grant: Grant | None = None
    token: str = ""

    def may(self, scope: Scope) -> bool:
        """Return whether the principal has ``scope``."""
        return scope in self.scopes or "admin" in self.scopes

    def shows(self, number: str) -> bool:
        """Return whether calls that the principal originates may show ``number``; an empty one is always allowed."""
        return not number or self.grant is None or not self.grant.caller_ids or self.grant.caller_ids.match(number)

    @property
    def fact(self) -> dict[str, object]:
        """Return the stored form of the principal; its rights are looked up again."""
        return {"id": self.id, "scopes": sorted(self.scopes), "token": self.token}

    @property
    def reach(self) -> Reach:
        """The calls and conferences that the principal sees and controls."""
        return self.grant.reach if self.grant is not None else EVERYTHING


ANONYMOUS = Principal("anonymous", scopes=frozenset())
CONFIGURATION = Principal("config")
