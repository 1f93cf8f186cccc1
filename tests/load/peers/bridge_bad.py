"""A bridge that does one thing wrong, now and then: the generator must notice every kind.

    python -m tests.load.peers.bridge_bad AUDIOSOCKET_PORT APPLICATION_PORT DIALECT FAULT WHERE

Args:
    FAULT: corrupt, lose, duplicate, reorder, late, foreign, or none.
    WHERE: capture or playout.
"""

from __future__ import annotations

import asyncio
import sys

from websockets.asyncio.client import ClientConnection

from tests.load.peers.bridge_naive import NaiveBridge, serve

EVERY = 20
"""One frame in ``EVERY`` gets the fault."""
LATE_S = 0.1

_others: list[bytes] = []
"""The last frames that went by, whosever they were."""


class BadBridge(NaiveBridge):
    """One call with a fault."""

    fault = "none"
    where = "capture"

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dialect: str) -> None:
        super().__init__(reader, writer, dialect)
        self._count = 0
        self._held: bytes | None = None

    async def to_application(self, socket: ClientConnection, frame: bytes) -> None:
        for each in await self._spoilt(frame) if self.where == "capture" else [frame]:
            await super().to_application(socket, each)

    async def to_asterisk(self, frame: bytes) -> None:
        silent = not any(frame)
        for each in await self._spoilt(frame) if self.where == "playout" and not silent else [frame]:
            await super().to_asterisk(each)

    async def _spoilt(self, frame: bytes) -> list[bytes]:
        """Return the frames to send in place of ``frame``."""
        self._count += 1
        _others[:] = [*_others[-63:], frame]
        if self._held is not None:
            held, self._held = self._held, None
            return [frame, held]
        if self._count % EVERY:
            return [frame]
        match self.fault:
            case "corrupt":
                return [frame[:200] + bytes([frame[200] ^ 0x40]) + frame[201:]]
            case "lose":
                return []
            case "duplicate":
                return [frame, frame]
            case "reorder":
                self._held = frame
                return []
            case "late":
                await asyncio.sleep(LATE_S)
            case "foreign":
                return [next((other for other in _others if other[6:14] != frame[6:14]), frame)]
        return [frame]


if __name__ == "__main__":
    BadBridge.fault, BadBridge.where = sys.argv[4:6]
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], BadBridge))
