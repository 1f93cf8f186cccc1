"""Pages of a list: ``?page_size=..&page_token=..`` in, ``{"result": [..], "next_page_token": ".."}`` out.

The token identifies the entry after which to continue, not a number to skip: calls come and go between two requests,
and no entry may be listed twice or omitted because of it. It is opaque to clients.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from msgspec import Struct

from bridge.api.errors import invalid
from bridge.api.models.common import Paging

EntryT = TypeVar("EntryT")


class Page(Struct, Generic[EntryT], frozen=True):
    """Some entries of a list, and the token that requests those after them ("" at the end)."""

    entries: list[EntryT]
    next_page_token: str


def page_of(entries: Iterable[EntryT], key: Callable[[EntryT], tuple[str, str]], query: Paging) -> Page[EntryT]:
    """Return the requested page, greatest key first.

    Args:
        entries: the whole list, in any order.
        key: returns an entry's position: its creation time in a form that sorts, and its id.
        query: the request's parameters.

    Raises:
        ApiError: 400, the token is invalid.
    """
    size = query.page_size
    after = _position(query.page_token)
    ordered = sorted(entries, key=key, reverse=True)
    if after is not None:
        ordered = [entry for entry in ordered if key(entry) < after]
    page = ordered[:size]
    return Page(page, token_of(key(page[-1])) if len(ordered) > size else "")


def token_of(position: tuple[str, str]) -> str:
    """Return the token that requests the entries after a position (`page_of`)."""
    return base64.urlsafe_b64encode("\n".join(position).encode()).decode().rstrip("=")


def _position(token: str) -> tuple[str, str] | None:
    if not token:
        return None
    try:
        padded = token.encode("ascii") + b"=" * (-len(token) % 4)
        created, separator, identity = base64.b64decode(padded, altchars=b"-_", validate=True).decode().partition("\n")
    except (binascii.Error, UnicodeError, ValueError):
        separator = ""
    if not separator:
        raise invalid("INVALID_PAGE_TOKEN", "page_token must be the next_page_token of an earlier response")
    return created, identity
