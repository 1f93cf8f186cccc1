"""The loopback tests run on the loop that the bridge runs on; and what the tests share that dial."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest

from bridge.app import application
from bridge.media.loop import FrameLoop
from tests.fakes.ari_client import FakeAriClient
from tests.fakes.dialed import close_dialed

from .runs import Runs
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


@pytest.fixture
async def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> AsyncIterator[Runs]:
    marker = request.node.get_closest_marker("sections")
    runs = Runs(tmp_path, marker.kwargs if marker else {})
    monkeypatch.setattr(application, "AriClient", lambda *_, **__: FakeAriClient(runs.pbx))
    await runs.start()
    yield runs
    if runs.now is not None:
        with contextlib.suppress(KeyError):
            for channel_id in tuple(runs.pbx.channels):
                runs.pbx.hang_up(channel_id)
        await asyncio.sleep(0.05)
        await runs.stop()
