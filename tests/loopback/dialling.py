"""Links as the tests dial them, and who listens to them."""

from __future__ import annotations

import asyncio

from bridge.dialects.base import Message
from bridge.media.counters import Counters
from bridge.media.dial import Destination, dial
from bridge.media.websocket import Link
from bridge.outbound.gate import Gate

MAX_MESSAGE_BYTES = 1 << 20
SECRET = "Bearer s3cr3t-t0ken"


async def dialed(
    url: str,
    headers: dict[str, str] | None = None,
    *,
    connect_timeout_s: float = 3,
    ping_interval_s: float = 20,
    verify: bool = True,
    ca_file: str = "",
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    client_certificate: str = "",
    client_key: str = "",
) -> Link:
    """Dial a link with the options of most tests."""
    return await dial(
        Destination(
            *(url, headers or {}, verify, ca_file),
            configured=True,
            client_certificate=client_certificate,
            client_key=client_key,
        ),
        Counters(),
        gate=Gate(),
        connect_timeout_s=connect_timeout_s,
        max_unsent_ms=1000,
        ping_interval_s=ping_interval_s,
        max_message_bytes=max_message_bytes,
    )


class Ear:
    """Listens to a link."""

    def __init__(self, link: Link) -> None:
        self.messages: asyncio.Queue[Message] = asyncio.Queue()
        self.closed: asyncio.Queue[tuple[int, str]] = asyncio.Queue()
        link.on_closed = lambda code, reason: self.closed.put_nowait((code, reason))
        link.on_message = self.messages.put_nowait

    async def message(self) -> Message:
        return await asyncio.wait_for(self.messages.get(), 60)

    async def end(self) -> tuple[int, str]:
        return await asyncio.wait_for(self.closed.get(), 60)
