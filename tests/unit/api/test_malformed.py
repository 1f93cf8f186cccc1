"""What is not HTTP is answered briefly, and nothing of it stays in memory."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import types
from collections.abc import Iterator

import pytest

from bridge.api.protocol import MAX_ERROR_CHARACTERS
from bridge.api.server import HttpServer
from bridge.config import HttpConfig
from tests.fakes.virtual_time import pass_time

from .samples import Pbx

BLOCK = bytes(range(256)) * 1024


@pytest.fixture
def no_collections() -> Iterator[None]:
    """No garbage collection: what is still there is held by a cycle of references."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def answer_to(port: int, blocks: int, block: bytes = BLOCK) -> bytes:
    """Return the response to blocks of what is not HTTP; "" if a reset came first, as data was left unread."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(ConnectionError):
        for _ in range(blocks):
            writer.write(block)
            await writer.drain()
            await pass_time(0.01)
    answer = b""
    with contextlib.suppress(ConnectionError):
        answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.usefixtures("no_collections")
async def test_received_data_is_not_kept_after_an_error() -> None:
    server = HttpServer(HttpConfig.model_validate({"port": 0}), Pbx().backend())
    await server.start()
    try:
        answers = [await answer_to(server.port, 1, BLOCK[:256])]
        answers += [await answer_to(server.port, blocks) for blocks in (1, 8)]
        assert answers[0].startswith(b"HTTP/1.0 400 ") or answers[0].startswith(b"HTTP/1.1 400 ")
        assert max(map(len, answers)) < MAX_ERROR_CHARACTERS + 500
        await pass_time(0.05)
        kept = [
            frame
            for frame in gc.get_objects()
            if isinstance(frame, types.FrameType) and frame.f_code.co_name == "data_received"
        ]
        assert not kept, f"{len(kept)} frames with received data are kept"
    finally:
        await server.stop()
