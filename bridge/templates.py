"""Templates: names of facts about a call in braces, in the URLs, headers and parameters of applications.

    wss://agent.example.org/calls/{call_id}?from={caller}

The values come from callers, so they are hostile: in URLs and headers they are encoded, and none changes the structure
of a path. ``{{name}}`` stands for a literal ``{name}``; other braces are literal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

FACTS = ("call_id", "caller", "callee", "did", "direction")
"""Names that every call has; the others are those of channel variables."""
MAX_VALUE_CHARACTERS = 512
"""Limit of a value; longer ones are cut."""

_PLACE = re.compile(r"\{\{(\w+)\}\}|\{(\w+)\}", re.ASCII)
_ABSENT = "-"
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")  # RFC 3986


def names_in(template: str) -> set[str]:
    """Return the names that a template uses."""
    return {found[2] for found in _PLACE.finditer(template) if found[2]}


def check(template: str, allowed: Collection[str]) -> None:
    """Check the names in a template.

    Raises:
        ValueError: a name is unknown; the message is for the administrator.
    """
    if unknown := sorted(names_in(template) - set(allowed)):
        expected = ", ".join(f"{{{name}}}" for name in allowed)
        raise ValueError(
            f"{{{unknown[0]}}} is unknown; expected one of {expected}, a name of channel_variables, "
            f"or {{{{{unknown[0]}}}}} for the literal"
        )


def check_url(template: str, allowed: Collection[str]) -> None:
    """Check a URL: names are allowed in its path and query only.

    Raises:
        ValueError: a name is unknown or stands in the scheme, host or port.
    """
    server, _ = _split(template)
    if names_in(server):
        raise ValueError(f"{{{min(names_in(server))}}} may not be part of the scheme, host or port")
    check(template, allowed)


def fill(template: str, values: Mapping[str, str]) -> str:
    """Return a parameter with its values, unchanged but for their length; unknown names remain."""
    return _filled(template, values, lambda value: value)


def fill_header(template: str, values: Mapping[str, str]) -> str:
    """Return the value of a header. Its values are percent-encoded, except for letters, digits and ``+-._~``."""
    return _filled(template, values, lambda value: percent_encoded(value, b"+"))


def fill_url(template: str, values: Mapping[str, str]) -> str:
    """Return a URL. Its values are percent-encoded; unknown ones, and those made of dots, do not change the path."""
    server, rest = _split(template)
    path, mark, query = rest.partition("?")
    return server + _filled(path, values, _segment) + mark + _filled(query, values, percent_encoded)


def _segment(value: str) -> str:
    # Servers and proxies remove "." and "..", also encoded ones, and may join empty segments.
    if not value.strip("."):
        return "_" * len(value) or _ABSENT
    return percent_encoded(value)


def percent_encoded(value: str, also: bytes = b"") -> str:
    """Return a value percent-encoded, except for the unreserved characters of a URL, and those in ``also``."""
    # Not urllib: it brings the network into what is pure.
    octets = value.encode("utf-8", "replace")
    return "".join(chr(octet) if octet in _UNRESERVED or octet in also else f"%{octet:02X}" for octet in octets)


def _split(url: str) -> tuple[str, str]:
    """Return scheme, host and port, and everything behind them."""
    found = re.match(r"[^:/?#]*://[^/?#]*", url)
    return (found[0], url[found.end() :]) if found is not None else (url, "")


def _filled(template: str, values: Mapping[str, str], encoded: Callable[[str], str]) -> str:
    def value_of(found: re.Match[str]) -> str:
        if found[1]:
            return f"{{{found[1]}}}"
        value = values.get(found[2])
        return encoded(value[:MAX_VALUE_CHARACTERS]) if value is not None else found[0]

    return _PLACE.sub(value_of, template) if "{" in template else template
