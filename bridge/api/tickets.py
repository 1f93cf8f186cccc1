"""Stream tickets: short-lived credentials for a browser's WebSocket URL.

A browser cannot send headers with a WebSocket handshake, and URLs are stored in histories and logs. A ticket is of
little value there: it opens one stream, of one call or conference, in one direction, once, and only for half a minute.
It contains everything needed to validate it, signed by a key of this run; only its use is stored. It is valid at the
process (and all its workers) that issued it, not at other nodes of a cluster.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

from aiohttp import web
from msgspec import structs

from bridge.access import Principal, Scope
from bridge.api.auth import LOCAL
from bridge.api.errors import ApiError
from bridge.api.tokens import Tokens, expired

VALID_S = 30.0
KEY_BYTES = 32
MAX_CHARACTERS = 1024
MAX_USED = 100_000
"""Used tickets that are stored; more than can be issued while one is valid. Beyond, the oldest are discarded."""

TicketTarget = Literal["call", "conference", "events"]
NEEDED: Mapping[str, tuple[Scope, ...]] = {
    "listen": ("streams:listen",),
    "speak": ("streams:speak",),
    "both": ("streams:listen", "streams:speak"),
    "events": ("events",),
}
"""The scopes that a ticket has, by its direction."""
KINDS: Mapping[str, TicketTarget] = {
    "/v1.0/calls/{id}/media_stream": "call",
    "/v1.0/conferences/{id}/media_stream": "conference",
    "/v1.0/events": "events",
}
"""The kind of ticket for each path of a WebSocket."""


class Tickets:
    """Issues and redeems tickets.

    Args:
        key: signs them; all workers share it.
        tokens: the valid tokens; None: authentication is off.
        claim: returns whether no other worker has used the ticket with this nonce; None: there are no others.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        key: bytes,
        tokens: Tokens | None,
        claim: Callable[[str], Awaitable[bool]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._key = key
        self._tokens = tokens
        self._claim = claim
        self._clock = clock
        self._used: dict[str, float] = {}
        """When each used ticket expires, by nonce; in the order of use."""

    def issue(self, principal: Principal, kind: TicketTarget, identity: str, direction: str) -> tuple[str, float]:
        """Return a new ticket, and when it expires (seconds since 1970).

        Args:
            principal: the requester.
            kind: what it opens.
            identity: the id of the call or conference, as in the WebSocket's URL.
            direction: a key of `NEEDED`.
        """
        expires = self._clock() + VALID_S
        nonce = secrets.token_urlsafe(12)
        values = [principal.token or principal.id, kind, identity, direction, expires, nonce]
        body = json.dumps(values, ensure_ascii=False).encode()
        return f"{_text(body)}.{_text(self._signature(body))}", expires

    async def redeem(self, ticket: str, kind: TicketTarget, identity: str) -> Principal:
        """Use up a ticket.

        Args:
            ticket: the value in the URL.
            kind: what the URL opens.
            identity: the id of the call or conference.

        Returns:
            The requester of the ticket, with no scopes beyond the ticket's.

        Raises:
            ApiError: 401.
        """
        holder, of_kind, of_identity, direction, expires, nonce = self._opened(ticket)
        now = self._clock()
        if (of_kind, of_identity) != (kind, identity):
            raise _invalid("the ticket is for another WebSocket")
        if expires <= now:
            raise _invalid(f"the ticket has expired: it is valid for {VALID_S:g} s")
        if not self._first_use(nonce, expires, now) or (self._claim is not None and not await self._claim(nonce)):
            raise _invalid("the ticket has been used")
        # Last: the token may have been revoked while the other workers were queried.
        principal = self._tokens.by_hash(holder) if self._tokens is not None else LOCAL if holder == LOCAL.id else None
        if principal is None or expired(principal.grant, self._clock()):
            raise _invalid("the token that the ticket was requested with is no longer valid")
        scopes = frozenset(scope for scope in NEEDED[direction] if principal.may(scope))
        return structs.replace(principal, scopes=scopes)

    def _opened(self, ticket: str) -> tuple[str, str, str, str, float, str]:
        body, _, signature = ticket.partition(".")
        try:
            raw, offered = _bytes(body[:MAX_CHARACTERS]), _bytes(signature[:64])
        except ValueError:
            raise _invalid("the ticket was not issued by this server") from None
        if not hmac.compare_digest(offered, self._signature(raw)):
            raise _invalid("the ticket was not issued by this server")
        opened: Any = tuple(json.loads(raw))
        return opened  # type: ignore[no-any-return]

    def _first_use(self, nonce: str, expires: float, now: float) -> bool:
        while self._used and (len(self._used) > MAX_USED or next(iter(self._used.values())) <= now):
            del self._used[next(iter(self._used))]
        if nonce in self._used:
            return False
        self._used[nonce] = expires
        return True

    def _signature(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, hashlib.sha256)


TICKETS = web.AppKey("tickets", Tickets)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    # Alphabet and padding are checked: a ticket must have exactly one form.
    if not text.isascii() or not text.replace("-", "").replace("_", "").isalnum():
        raise ValueError("not base64")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _invalid(message: str) -> ApiError:
    return ApiError(401, "INVALID_CREDENTIALS", f"{message}; request a new one")
