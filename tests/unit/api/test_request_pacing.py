"""Turns of HTTP requests: a burst is taken bit by bit, and health checks do not wait behind it."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import ClientSession

from bridge.api import request_pacing
from bridge.api.request_pacing import PER_SLICE, RequestPacer
from bridge.api.server import HttpServer
from bridge.config import HttpConfig

from .samples import Pbx


async def settle() -> None:
    """Let everything run that is ready."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_few_begin_in_each_slice_and_probes_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_pacing, "SLICE_S", 3600)  # the test ends each one
    it, begun = RequestPacer(), list[str]()

    async def ask(name: str) -> None:
        await it.wait(probe=name.startswith("probe"))
        begun.append(name)

    tasks = [asyncio.create_task(ask(str(number))) for number in range(3 * PER_SLICE)]
    await settle()
    assert begun == [str(number) for number in range(PER_SLICE)]
    tasks += [asyncio.create_task(ask(f"probe {number}")) for number in range(2)]
    tasks[PER_SLICE].cancel()
    await settle()
    assert len(begun) == PER_SLICE
    it._next()
    await settle()
    assert begun[PER_SLICE:] == ["probe 0", *(str(PER_SLICE + 1 + number) for number in range(PER_SLICE - 1))]
    while len(begun) < len(tasks) - 1:
        it._next()
        await settle()
    it._next()
    it._next()
    assert it._timer is None  # nothing runs while nobody asks
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_burst_is_answered_whole() -> None:
    it = HttpServer(HttpConfig(port=0), Pbx().backend())
    await it.start()
    async with ClientSession(f"http://127.0.0.1:{it.port}") as session:

        async def ask() -> int:
            async with session.get("/") as response:
                return response.status

        assert set(await asyncio.gather(*(ask() for _ in range(100)))) == {200}
    await it.stop()
