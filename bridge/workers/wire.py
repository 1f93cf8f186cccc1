"""Messages between supervisor and workers: one JSON object a line, its kind under ``t``.

A line that is too long, or not JSON, costs only that line: it is dropped, counted and logged, by its sender if that
detects it first. The connection, and with it a worker and all its calls, is not affected.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

log = logging.getLogger(__name__)

MAX_LINE = 1 << 20
"""Longest message, in bytes: several times that of the largest event."""

WorkerMessage = Mapping[str, Any]


def encode(kind: str, **values: Any) -> bytes:
    """Return one message in its wire format."""
    return line_of({"t": kind, **values})


def line_of(message: WorkerMessage) -> bytes:
    """Return a message in its wire format; half a surrogate pair, which a peer can send, is preserved."""
    text = json.dumps(message, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass") + b"\n"


class WorkerConnection:
    """One side of a connection.

    Args:
        peer: the other side, for the log.
        on_dropped: called for each message that was dropped, in either direction.
    """

    def __init__(
        self,
        peer: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        on_dropped: Callable[[], object] = lambda: None,
    ) -> None:
        self.peer = peer
        self._reader = reader
        self._writer = writer
        self._on_dropped = on_dropped

    def send(self, line: bytes) -> None:
        """Send a message; nothing if the connection is closing."""
        if len(line) > MAX_LINE:
            self._dropped(f"to {self.peer}", len(line), line)
        elif not self._writer.is_closing():
            self._writer.write(line)  # a worker that reads nothing also sends nothing, and is killed by the supervisor

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()

    async def messages(self) -> AsyncIterator[WorkerMessage]:
        """Yield the received messages, until the connection ends."""
        while (line := await self._line()) is not None:
            try:
                message = json.loads(line)
                if not isinstance(message["t"], str):
                    raise TypeError
            except (ValueError, TypeError, KeyError, RecursionError):
                self._dropped(f"from {self.peer}", len(line), line)
                continue
            yield message

    async def _line(self) -> bytes | None:
        """Return the next line that is not too long; None: the connection has ended."""
        dropping = 0
        while True:
            try:
                line = await self._reader.readuntil(b"\n")
                if not dropping:
                    return line
                self._dropped(f"from {self.peer}", dropping + len(line))
                dropping = 0
            except asyncio.LimitOverrunError as problem:
                try:
                    dropping += len(await self._reader.readexactly(problem.consumed))
                except (asyncio.IncompleteReadError, OSError):
                    return None
            except (asyncio.IncompleteReadError, OSError):
                return None

    def _dropped(self, direction: str, size: int, line: bytes = b"") -> None:
        log.error(
            "invalid or too long message dropped direction=%s size_bytes=%d error=%r", direction, size, line[:100]
        )
        self._on_dropped()
