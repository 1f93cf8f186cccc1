"""The valid tokens, and the grant of each.

Only hashes are stored. A plain SHA-256 suffices: tokens are 256 random bits, which no dictionary attack on a stolen
hash can find, and a deliberately slow hash would let unauthenticated clients load the event loop.
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import structs

from bridge.access import SCOPES, Grant, Principal, Reach
from bridge.config import HttpConfig, TokenConfig
from bridge.config.tokens import HASH_PREFIX

TOKEN_BYTES = 32
_NUMBERED = "http-"
"""The prefix of ids of tokens without an id."""


def new_token() -> str:
    """Return a new token: 256 random bits."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def hash_of(token: str) -> str:
    """Return the SHA-256 of a token in hexadecimal."""
    # No token contains surrogates, which odd bytes and escapes produce: passed on, they simply match none.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


class Tokens:
    """The valid tokens.

    Args:
        grants: the grant of each token, by its hash in hexadecimal.
    """

    def __init__(self, grants: Mapping[str, Grant]) -> None:
        self._grants = dict(grants)

    def __len__(self) -> int:
        return len(self._grants)

    @classmethod
    def plain(cls, tokens: Iterable[str]) -> Tokens:
        """Return tokens that have every scope, with the ids ``http-1``, ``http-2``..."""
        return cls(_plain(tokens))

    @classmethod
    def of(cls, http: HttpConfig, tables: Sequence[TokenConfig]) -> Tokens:
        """Return the tokens of a configuration."""
        plain = _plain(token.get_secret_value() for token in http.tokens)
        return cls(plain | {table.hash.removeprefix(HASH_PREFIX): _grant(table) for table in tables})

    def take(self, other: Tokens, now: float) -> frozenset[str]:
        """Replace the tokens by those of ``other``, after the configuration was reloaded.

        A token without an id keeps its number.

        Args:
            other: the new tokens.
            now: seconds since 1970; tokens that expired earlier are not reported again.

        Returns:
            The ids whose token was removed, has expired, or allows less: what was opened with it must end.
        """
        before, self._grants = self._grants, _with_numbers_of(self._grants, other._grants)
        return frozenset(
            grant.id
            for digest, grant in before.items()
            if not expired(grant, now) and not _allows(self._grants.get(digest), grant, now)
        )

    def accept(self, principal: Principal, now: float) -> bool:
        """Return whether what a principal has opened, or is opening, may continue; ``now``: seconds since 1970."""
        if not principal.token or principal.grant is None:
            return True
        return _allows(self._grants.get(principal.token), principal.grant, now)

    @property
    def limited(self) -> bool:
        """Whether a token reaches some calls or conferences only."""
        return any(grant.reach.limited for grant in self._grants.values())

    def find(self, candidates: Iterable[str]) -> Principal | None:
        """Return the principal of the first known token, even if it has expired (`expired`).

        Timing discloses nothing: every candidate is hashed and looked up, and a client cannot choose the hash that is
        compared.
        """
        found = [
            Principal(grant.id, scopes=grant.scopes, grant=grant, token=digest)
            for digest in map(hash_of, candidates)
            if (grant := self._grants.get(digest)) is not None
        ]
        return found[0] if found else None

    def by_hash(self, digest: str) -> Principal | None:
        """Return the principal of the token with this hash; None: it no longer exists."""
        grant = self._grants.get(digest)
        return None if grant is None else Principal(grant.id, scopes=grant.scopes, grant=grant, token=digest)

    def next_expiry(self, after: float) -> float | None:
        """Return when the next token expires, in seconds since 1970; None: never."""
        times = [each.expires for each in self._grants.values() if each.expires is not None and each.expires > after]
        return min(times, default=None)

    def expired_between(self, before: float, now: float) -> list[str]:
        """Return the ids of tokens that expired after ``before`` and until ``now``, in seconds since 1970."""
        return [each.id for each in self._grants.values() if each.expires is not None and before < each.expires <= now]


def expired(grant: Grant | None, now: float) -> bool:
    """Return whether a grant has expired; ``now`` is in seconds since 1970."""
    return grant is not None and grant.expires is not None and grant.expires <= now


def _allows(present: Grant | None, former: Grant, now: float) -> bool:
    """Return whether the present grant of a token allows what was opened under a former one."""
    return (
        present is not None
        and present.id == former.id
        and former.scopes <= present.scopes
        and (present.reach == former.reach or not present.reach.limited)
        and not expired(present, now)
    )


def principal_of(tokens: Tokens | None, fact: Mapping[str, Any]) -> Principal:
    """Return the principal that a fact names (`Principal.fact`), with the current rights of its token."""
    found = tokens.by_hash(fact["token"]) if tokens is not None and fact["token"] else None
    return found or Principal(fact["id"], scopes=frozenset(() if fact["token"] else fact["scopes"]))


def _with_numbers_of(before: Mapping[str, Grant], now: Mapping[str, Grant]) -> dict[str, Grant]:
    """Return the grants of ``now``; tokens with a number that existed before keep their number."""
    numbered = [digest for digest, grant in now.items() if _is_numbered(grant)]
    kept = {digest: before[digest].id for digest in numbered if digest in before and _is_numbered(before[digest])}
    names = map(f"{_NUMBERED}{{}}".format, itertools.count(1))
    free = (name for name in names if name not in kept.values())
    ids = {digest: kept.get(digest) or next(free) for digest in numbered}
    return {digest: structs.replace(grant, id=ids[digest]) if digest in ids else grant for digest, grant in now.items()}


def _is_numbered(grant: Grant) -> bool:
    return grant.id.removeprefix(_NUMBERED).isdecimal()


def _plain(tokens: Iterable[str]) -> dict[str, Grant]:
    return {hash_of(token): Grant(f"{_NUMBERED}{number}") for number, token in enumerate(tokens, 1)}


def _grant(table: TokenConfig) -> Grant:
    return Grant(
        table.id,
        scopes=SCOPES if "admin" in table.scopes else frozenset(table.scopes),
        expires=None if table.expires is None else table.expires.timestamp(),
        reach=Reach(table.extensions, table.trunks, table.conferences),
        caller_ids=table.caller_ids,
        max_calls=table.max_calls,
    )
