"""Masking of secrets in the API, on the command line and in logs. Pure.

The right to see the configuration is not a right to the credentials of other services. Masked are the user information
and the query of every URL, credentials, and what is passed to applications unchanged: parameters, data, headers. A
masked value that is sent back leaves the original unchanged (`unmasked`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

MASK = "********"
"""Shown in place of a secret; sent back, it leaves the secret unchanged."""

_OPTIONS = frozenset({"options"})
"""Tables of a dialect's options: numbers and switches are shown, strings only of options that are not secret."""
_HANDED_ON = frozenset(
    {
        *("parameters", "customparameters", "streamdata", "sessiondata", "data", "headers", "variables"),
        *("authvalue", "settingssecret", "extraheaders"),
    }
)
"""Keys, in lowercase and without ``_``, whose values are always masked."""
_USER = re.compile(r"(?<=://)[^\s/?#]+@")


def mask_url(url: str) -> str:
    """Return a URL with its user information and the values in its query masked; any other string unchanged.

    A string that begins with a variable (``${base}/x?key=..``) is a URL too.
    """
    if "://" not in url and not url.startswith("${"):
        return url
    place, question, query = _USER.sub(f"{MASK}@", url).partition("?")
    if not question:
        return place
    query, hash_, _ = query.partition("#")
    parts = (
        f"{name}={MASK}" if equals else MASK for name, equals, _ in (each.partition("=") for each in query.split("&"))
    )
    return f"{place}?{'&'.join(parts)}" + (f"#{MASK}" if hash_ else "")


def mask(value: Any, key: str = "", *, shown: Collection[str] = ()) -> Any:
    """Return a copy of JSON with secrets masked.

    Args:
        value: JSON.
        key: its key.
        shown: options of dialects that are not secret.
    """
    if key in _OPTIONS and isinstance(value, Mapping):
        return {
            name: each if name in shown and isinstance(each, str) else _option(each) for name, each in value.items()
        }
    if key.lower().replace("_", "") in _HANDED_ON:
        return _hidden(value)
    if isinstance(value, Mapping):
        return {name: mask(each, str(name), shown=shown) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [mask(each, shown=shown) for each in value]
    return mask_url(value) if isinstance(value, str) else value


def mask_command(command: tuple[str, ...]) -> tuple[str, ...]:
    """Return a program with its arguments masked, except for names of options and ``{placeholders}``."""
    return command[:1] + tuple(map(_argument, command[1:]))


def holds_mask(value: Any) -> bool:
    """Return whether any string in JSON contains the mask."""
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, str) and MASK in each:
            return True
        if isinstance(each, Mapping):
            left.extend(each.values())
        elif isinstance(each, list | tuple):
            left.extend(each)
    return False


def unmasked(sent: Any, kept: Any, shown: Any) -> Any:
    """Return the received value, with masked parts replaced by the stored ones.

    Args:
        sent: the received value.
        kept: the stored value.
        shown: the stored value, masked.
    """
    if sent == shown:
        return kept
    if isinstance(sent, Mapping) and isinstance(kept, Mapping):
        return {name: unmasked(each, kept.get(name), shown.get(name)) for name, each in sent.items()}
    if isinstance(sent, list) and isinstance(kept, list) and len(sent) == len(kept):
        return [unmasked(*each) for each in zip(sent, kept, shown, strict=True)]
    return sent


def is_deeper(value: Any, levels: int) -> bool:
    """Return whether JSON is nested deeper than ``levels``."""
    here = [value]
    for _ in range(levels):
        inner: list[Any] = []
        for each in here:
            inner.extend(each.values() if isinstance(each, Mapping) else each if isinstance(each, list | tuple) else ())
        if not inner:
            return False
        here = inner
    return any(isinstance(each, Mapping | list | tuple) for each in here)


def _option(value: Any) -> Any:
    return value if isinstance(value, bool | int | float) or value is None else _hidden(value)


def _hidden(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _hidden(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(each) for each in value]
    return value if value is None or value == "" or isinstance(value, bool) else MASK


def _argument(text: str) -> str:
    if re.fullmatch(r"-{1,2}[\w-]{0,40}|\{\w{1,40}\}", text):
        return text
    name, equals, _ = text.partition("=")
    return f"{name}={MASK}" if equals and name.startswith("-") else MASK
