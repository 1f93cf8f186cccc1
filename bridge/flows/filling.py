"""Puts values of variables into URLs and bodies of requests, so that a value changes a value there and nothing else.

A caller chooses some of them: their name, their number, the digits they press. Pure.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from urllib.parse import quote, quote_plus, unquote, urlsplit
from xml.sax.saxutils import escape

VARIABLE = re.compile(r"\$\{([^{}$]{1,200})\}")

MAX_URL_CHARACTERS = 4096
MAX_BODY_BYTES = 1024 * 1024

_JSON_TOKENS = re.compile(r'"|\\.|\$\{([^{}$]{1,200})\}|[^"\\$]+|.', re.DOTALL)
_JSON_SCALAR = re.compile(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?|true|false|null")
_NOT_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_AUTHORITY_ENDS = re.compile(r"[/?#\\]")

ValueOf = Callable[[str], str]
"""A variable's text by its name."""


def fill_url(url: str, value_of: ValueOf) -> str:
    """Put variables into a URL, percent-encoded. One that begins the URL is put in as it is: it holds a URL.

    Raises:
        ValueError: a segment of the path would be ``.`` or ``..``: whatever it is encoded as, the client's library,
            a proxy or the server removes it, and the path is another one. Or the URL would be longer than
            `MAX_URL_CHARACTERS`.
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
    """Return scheme and authority of a URL, or a ``host:port`` as it is; variables in it are not put in."""
    scheme, slashes, rest = place.partition("://")
    return scheme + slashes + _AUTHORITY_ENDS.split(rest, maxsplit=1)[0] if slashes else place


def host_of(place: str) -> str:
    """Return the host that a URL or ``host:port`` leads to; "" if a variable decides, or it names none."""
    authority = authority_of(place)
    if "${" in authority:
        return ""
    try:
        return urlsplit(authority if "://" in authority else f"//{authority}").hostname or ""
    except ValueError:
        return ""


def fill_body(text: str, content_type: str, value_of: ValueOf) -> str:
    """Put variables into a body, encoded as its type demands: JSON, XML and HTML, or a form; into others as they are.

    Raises:
        ValueError: a value cannot stand where its variable does.
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
    """Put variables into a JSON text: within its strings as text; elsewhere only what is a number, true, false or null.

    An empty value outside of a string becomes null.

    Raises:
        ValueError: a value outside of a string is none of these.
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
    value_of = functools.cache(value_of)  # encoded once, however often it is put in
    return VARIABLE.sub(lambda match: value_of(match[1]), text)


def _check_length(length: int) -> None:
    if length > MAX_URL_CHARACTERS:
        raise ValueError(f"the URL is longer than {MAX_URL_CHARACTERS} characters with its variables")


def _check_segments(url: str, values: list[tuple[int, int]]) -> None:
    path_end = next((place for place, character in enumerate(url) if character in "?#"), len(url))
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
        # Some servers decode first and split then.
        if any(piece.partition(";")[0] in (".", "..") for piece in re.split(r"[/\\]", segment)):
            raise ValueError(
                f"a variable makes {segment[:20]!r} of a part of the URL's path, which would lead elsewhere"
            )


def _scalar(name: str, value: str) -> str:
    text = value.strip() or "null"
    if not _JSON_SCALAR.fullmatch(text):
        raise ValueError(
            f"data: ${{{name}}} stands outside of quotes, and its value is not a number, true, false or null: put it"
            " between quotes"
        )
    return text


def _escaped(value: str) -> str:
    return escape(_NOT_XML.sub("\ufffd", value), {'"': "&quot;", "'": "&apos;"})


def _one_line(name: str, value: str) -> str:
    if "\r" in value or "\n" in value:
        raise ValueError(f"data: the value of ${{{name}}} holds a line break, which a multipart body cannot take")
    return value
