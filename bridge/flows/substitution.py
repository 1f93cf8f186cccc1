"""Fill values of variables into URLs and bodies of requests; a value can change a value there and nothing else.

Callers choose some of them: their name, their number, the digits that they send. Pure.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from html import escape
from urllib.parse import quote, quote_plus, unquote, urlsplit

VARIABLE = re.compile(r"\$\{([^{}$]{1,200})\}")

MAX_URL_CHARACTERS = 4096
MAX_BODY_BYTES = 1024 * 1024

_JSON_TOKENS = re.compile(r'"|\\.|\$\{([^{}$]{1,200})\}|[^"\\$]+|.', re.DOTALL)
_JSON_SCALAR = re.compile(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?|true|false|null")
_NOT_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_AUTHORITY_ENDS = re.compile(r"[/?#\\]")

ValueOf = Callable[[str], str]
"""Returns the value of a variable by its name."""


def fill_url(url: str, value_of: ValueOf) -> str:
    """Fill variables into a URL, percent-encoded; a variable at its beginning is not encoded: its value is a URL.

    Raises:
        ValueError: a path segment would become ``.`` or ``..``, which the client's library, a proxy or the server
            normalizes, encoded or not, and another path results; or the URL exceeds `MAX_URL_CHARACTERS`.
    """
    first = VARIABLE.match(url)
    filled = value_of(first[1]) if first else ""
    at = first.end() if first else 0
    values: list[tuple[int, int]] = []
    parts = [filled]
    length = len(filled)
    _check_length(length)
    for match in VARIABLE.finditer(url, at):
        value = value_of(match[1])
        _check_length(length + len(value))
        value = quote(value, safe="")
        before = url[at : match.start()]
        begin = length + len(before)
        values.append((begin, begin + len(value)))
        length = begin + len(value)
        _check_length(length)
        parts += before, value
        at = match.end()
    filled = "".join([*parts, url[at:]])
    _check_length(len(filled))
    _check_segments(filled, values)
    return filled


def authority_of(place: str) -> str:
    """Return scheme and authority of a URL, or ``host:port`` unchanged; variables are not filled in."""
    scheme, slashes, rest = place.partition("://")
    return scheme + slashes + _AUTHORITY_ENDS.split(rest, maxsplit=1)[0] if slashes else place


def host_of(place: str) -> str:
    """Return the host of a URL or ``host:port``; empty if a variable determines it, or there is none."""
    authority = authority_of(place)
    if "${" in authority:
        return ""
    try:
        return urlsplit(authority if "://" in authority else f"//{authority}").hostname or ""
    except ValueError:
        return ""


def server_of(place: str) -> str:
    """Return ``host:port`` of a URL, with the port of its scheme if it names none; empty as for `host_of`."""
    host = host_of(place)
    try:
        parts = urlsplit(place)
        port = parts.port or _PORTS.get(parts.scheme.lower(), 0)
    except ValueError:
        return ""
    return f"{host}:{port}" if host and port else ""


def fill_body(text: str, content_type: str, value_of: ValueOf) -> str:
    """Fill variables into a body, encoded for its type: JSON, XML, HTML or a form; unencoded for other types.

    Raises:
        ValueError: the type cannot carry a value at the position of its variable.
    """
    if "${" not in text:
        return text
    kind = content_type.partition(";")[0].strip().lower()
    value_of = functools.cache(value_of)
    if "json" in kind:
        return fill_json(text, value_of)
    if kind == "application/x-www-form-urlencoded":
        return _filled(text, lambda name: quote_plus(value_of(name)))
    if "xml" in kind or "html" in kind:
        return _filled(text, lambda name: _escaped(value_of(name)))
    if kind.startswith("multipart/"):
        return _filled(text, lambda name: _one_line(name, value_of(name)))
    return _filled(text, value_of)


def fill_json(text: str, value_of: ValueOf) -> str:
    """Fill variables into JSON: in strings as text; elsewhere only a number, true, false or null.

    An empty value outside of a string becomes null.

    Raises:
        ValueError: a value outside of a string is something else.
    """
    filled: list[str] = []
    quoted = False
    within = functools.cache(lambda name: json.dumps(value_of(name), ensure_ascii=False)[1:-1])
    for token in _JSON_TOKENS.finditer(text):
        name = token[1]
        if name is None:
            quoted ^= token[0] == '"'
            filled.append(token[0])
        elif quoted:
            filled.append(within(name))
        else:
            filled.append(_scalar(name, value_of(name)))
    return "".join(filled)


def _filled(text: str, value_of: ValueOf) -> str:
    value_of = functools.cache(value_of)  # encoded once for all occurrences
    return VARIABLE.sub(lambda match: value_of(match[1]), text)


def _check_length(length: int) -> None:
    if length > MAX_URL_CHARACTERS:
        raise ValueError(f"the URL exceeds {MAX_URL_CHARACTERS} characters with its variables")


def _check_segments(url: str, values: list[tuple[int, int]]) -> None:
    path_end = next((index for index, character in enumerate(url) if character in "?#"), len(url))
    checked = -1
    for begin, end in values:
        if begin >= path_end:
            return
        if end <= checked:
            continue
        start = url.rfind("/", 0, begin) + 1
        stop = url.find("/", end, path_end)
        checked = stop if stop >= 0 else path_end
        segment = unquote(url[start:checked])
        # Some servers decode before they split the path.
        if any(piece.partition(";")[0] in (".", "..") for piece in re.split(r"[/\\]", segment)):
            raise ValueError(
                f"a variable turns a segment of the URL's path into {segment[:20]!r}, which changes the path"
            )


def _scalar(name: str, value: str) -> str:
    text = value.strip() or "null"
    if not _JSON_SCALAR.fullmatch(text):
        raise ValueError(
            f"data: ${{{name}}} is not in quotes, and its value is not a number, true, false or null. Put the variable"
            " in quotes"
        )
    return text


def _escaped(value: str) -> str:
    return escape(_NOT_XML.sub("\ufffd", value))


def _one_line(name: str, value: str) -> str:
    if "\r" in value or "\n" in value:
        raise ValueError(f"data: the value of ${{{name}}} contains a line break, which a multipart body cannot carry")
    return value
