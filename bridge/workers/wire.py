"""Messages between supervisor and workers: one JSON object a line, its kind under ``t``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

MAX_LINE = 1 << 20
"""Longest message, in bytes: an event with all that it tells."""

Message = Mapping[str, Any]


def encode(kind: str, **values: Any) -> bytes:
    """One message as it is sent."""
    return json.dumps({"t": kind, **values}, separators=(",", ":")).encode() + b"\n"


async def messages(reader: asyncio.StreamReader) -> AsyncIterator[Message]:
    """What the other end says, until it has gone."""
    while True:
        try:
            line = await reader.readline()
        except (ValueError, OSError):  # too long, or the connection broke
            return
        if not line.endswith(b"\n"):
            return
        yield json.loads(line)
