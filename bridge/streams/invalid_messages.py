"""Descriptions of invalid messages from an application, for its author. Pure.

Names are shown, values are not: messages contain conversations.
"""

from __future__ import annotations

import msgspec

from bridge.dialects.base import Message
from bridge.texts import cut

MAX_PARSED = 4096
"""Limit of a message that is parsed for its description, in characters or bytes."""
SHOWN_CHARACTERS = 40
SHOWN_BYTES = 8
SHOWN_KEYS = 8


def describe(message: Message) -> str:
    """Return one line about a message."""
    if isinstance(message, str):
        return _json(message, "text") or f"text of {len(message)} characters that is not a JSON object"
    if message.startswith(b"RIFF"):
        return f"a WAV header in {len(message)} bytes"
    return _json(message, "binary") or f"{len(message)} bytes that begin with {message[:SHOWN_BYTES].hex()}"


def _json(message: Message, kind: str) -> str:
    if len(message) > MAX_PARSED:
        return ""
    try:
        found = msgspec.json.decode(message)
    except (msgspec.DecodeError, RecursionError):
        return ""
    if not isinstance(found, dict):
        return ""
    parts = [f"{kind} message with JSON"]
    for name in ("event", "type"):
        if isinstance(found.get(name), str):
            parts.append(f'{name} "{cut(found[name], SHOWN_CHARACTERS)}"')
    return f"{', '.join(parts)}, keys {', '.join(_keys(found)) or 'none'}"


def _keys(found: dict[str, object]) -> list[str]:
    """Return the names in an object and, with a dot, those one level below."""
    names: list[str] = []
    for name, value in found.items():
        inner = [f"{name}.{each}" for each in value] if isinstance(value, dict) else []
        names += inner or [name]
    return [cut(name, SHOWN_CHARACTERS) for name in names[:SHOWN_KEYS]]
