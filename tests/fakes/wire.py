"""A WebSocket connection whose messages are kept."""

from __future__ import annotations

import asyncio

from bridge.dialects.base import Message
from bridge.media.counters import Counters
from bridge.media.websocket import Link


class Wire(Link):
    """A WebSocket whose messages are kept."""

    def __init__(self) -> None:
        super().__init__(Counters(), max_unsent_ms=1000, ping_interval_s=60)
        self.sent: list[Message] = []
        self.answers_close = True
        self.discard_unacked_after_s: float | None = None
        self.closed_with: tuple[int, str] | None = None

    def close(self, code: int, reason: str, *, discard_unacked_after_s: float | None = None) -> None:
        self.discard_unacked_after_s, self.closed_with = discard_unacked_after_s, (code, reason)
        super().close(code, reason, discard_unacked_after_s=discard_unacked_after_s)

    def _write(self, message: Message) -> None:
        self.sent.append(message)

    def _write_close(self, code: int, reason: str) -> None:  # noqa: ARG002 - as `Link` has it
        self.sent.append(f"close {code}")
        if self.answers_close:
            asyncio.get_running_loop().call_soon(self.lost)

    def _write_ping(self) -> None:
        pass

    def _write_pong(self, payload: bytes) -> None:
        pass

    def _disconnect(self) -> None:
        self.lost()


async def nobody(*_: object) -> None:
    """Send no DTMF digit."""
