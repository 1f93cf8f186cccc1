"""Headers of outgoing requests: names and values that every server reads alike. Values are secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping

from bridge import __version__

USER_AGENT = f"asterisk-bridge/{__version__}"
"""The header ``User-Agent`` of every request: some firewalls reject requests without one."""
MAX_NAME_CHARACTERS = 63
MAX_VALUE_CHARACTERS = 4096
HANDSHAKE_HEADERS = frozenset(
    {
        *("host", "connection", "upgrade", "content-length", "transfer-encoding"),
        *("sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions", "sec-websocket-accept"),
    }
)
"""Headers that a WebSocket handshake itself sets. Extensions too: no connection is compressed."""


def check_header_name(name: str) -> str:
    """Return a header name that does not collide with those of the handshake.

    Raises:
        ValueError: a message for the administrator.
    """
    if len(name) > MAX_NAME_CHARACTERS:
        raise ValueError(f"is longer than {MAX_NAME_CHARACTERS} characters")
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
        raise ValueError("is not a header name: letters, digits and dashes, for example Authorization")
    if name.lower() in HANDSHAKE_HEADERS:
        raise ValueError(f"{name!r} is a header that the WebSocket handshake itself sets")
    return name


def check_header_value(value: str) -> str:
    """Return a valid header value.

    Raises:
        ValueError: a message for the administrator, without the value.
    """
    if len(value) > MAX_VALUE_CHARACTERS:
        raise ValueError(f"is longer than {MAX_VALUE_CHARACTERS} characters")
    if re.search(r"[^\x20-\x7e]", value) or value != value.strip():
        raise ValueError("may contain only printable ASCII characters, and no space at either end")
    return value


def with_user_agent(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers with `USER_AGENT`, unless they have another one."""
    if any(name.lower() == "user-agent" for name in headers):
        return dict(headers)
    return {"User-Agent": USER_AGENT, **headers}
