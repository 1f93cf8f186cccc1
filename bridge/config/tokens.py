"""The tables ``[[tokens]]``: what each token allows, by its hash."""

import re
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from bridge.access import SCOPES, Scope
from bridge.config.values import PatternList, Section, Slug, as_tuple
from bridge.config.vendors import RESERVED_TOKEN_IDS as VENDOR_TOKEN_IDS
from bridge.patterns import Patterns

HASH_PREFIX = "sha256:"
RESERVED_TOKEN_IDS = frozenset({"anonymous", "config", "local"}) | VENDOR_TOKEN_IDS
"""Ids of principals that are not tokens of the file."""


def _check_hash(text: str) -> str:
    if not re.fullmatch(HASH_PREFIX + "[0-9a-f]{64}", text):
        raise ValueError(
            'must be "sha256:" and 64 hexadecimal digits, as "asterisk-bridge token create" prints it;'
            " not the token itself"
        )
    return text


def _as_time(value: object) -> object:
    """Parse an RFC 3339 string; TOML's own date-times are values already."""
    if isinstance(value, str):
        text = value
        if not text:
            return None
        try:
            value = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(f"{text[:40]!r} is not a date and time, for example 2027-01-31T00:00:00Z") from None
    if isinstance(value, datetime) and value.tzinfo is None:
        raise ValueError("lacks the offset from UTC; write for example 2027-01-31T00:00:00Z")
    return value


class TokenConfig(Section):
    """One token, and the limits of its use of the API."""

    id: Slug
    """Lowercase letters, digits and dashes. Names the token in logs, lists and events."""
    hash: Annotated[
        str, AfterValidator(_check_hash), Field(description='a string, "sha256:" and 64 hexadecimal digits')
    ]
    """`sha256:` and the SHA-256 of the token in hexadecimal. Tokens are 256 random bits, so a plain hash is enough."""
    scopes: Annotated[
        tuple[Scope, ...],
        BeforeValidator(as_tuple),
        Field(min_length=1, description=f"a list of scopes: {', '.join(sorted(SCOPES))}"),
    ]
    """The scopes of the token."""
    expires: Annotated[
        datetime | None, BeforeValidator(_as_time), Field(description="a date and time, such as 2027-01-31T00:00:00Z")
    ] = None
    """Date and time with its offset from UTC. Left out: never."""
    extensions: PatternList = Patterns()
    """The token reaches only calls in which one of these extensions takes part now; of calls that have ended, those in
    which one took part."""
    trunks: PatternList = Patterns()
    """The same for trunks."""
    conferences: PatternList = Patterns()
    """Patterns of ids and names of conferences."""
    caller_ids: PatternList = Patterns()
    """Patterns of numbers that calls originated with the token may show (`source`). Empty: any."""
    max_calls: Annotated[int, Field(ge=0, le=100_000, description="a number from 0 to 100000")] = 0
    """Calls originated with the token, transfers included, that may exist at the same time; one more returns 503. 0: no
    limit besides `calling.max_calls`."""

    @property
    def limited(self) -> bool:
        """Whether there are calls or conferences that the token does not reach."""
        return bool(self.extensions or self.trunks or self.conferences)
