"""The loopback tests run on the loop that the bridge runs on; and what the tests share that dial."""

from __future__ import annotations

import asyncio
import gc
import ssl
from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from bridge.media.loop import FrameLoop
from tests.fakes.dialed import close_dialed

from .servers import Authority, open_sockets


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], FrameLoop]]:
    return {"frame loop": lambda: FrameLoop(1.0)}


@pytest.fixture(autouse=True)
async def _dialed_is_closed() -> AsyncIterator[None]:
    yield
    close_dialed()


@pytest.fixture
async def nothing_is_left() -> AsyncIterator[None]:
    """After each test: no socket more than before, and no error that nobody took."""
    loop = asyncio.get_running_loop()
    before = open_sockets()
    unhandled: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: unhandled.append(context))
    yield
    close_dialed()
    async with asyncio.timeout(60):
        while open_sockets() - before:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0)
    gc.collect()
    loop.set_exception_handler(None)
    assert unhandled == []


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def localhost_tls(authority: Authority) -> ssl.SSLContext:
    return authority.server("DNS:localhost")
