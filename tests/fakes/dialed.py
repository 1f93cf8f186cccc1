"""Connections that tests open: closed at the end of each test, whether or not the test does it."""

from __future__ import annotations

import asyncio
from typing import Any

_writers: list[asyncio.StreamWriter] = []


async def dial(*where: Any, **how: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection as `asyncio.open_connection` does; `close_dialed` closes it."""
    reader, writer = await asyncio.open_connection(*where, **how)
    _writers.append(writer)
    return reader, writer


def close_dialed() -> None:
    """Close what is still open."""
    while _writers:
        _writers.pop().close()
