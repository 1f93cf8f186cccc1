"""Reloading at SIGHUP: whatever goes wrong is logged, and the next signal is heeded."""

from __future__ import annotations

import asyncio

from bridge.app.reloading import Reloading
from bridge.config import Config, LogConfig
from tests.fakes.log_output import log_output


async def test_a_fault_of_the_bridge_is_logged_and_the_next_reload_takes_place() -> None:
    reads = 0

    class Service:
        def __init__(self) -> None:
            self.reloaded: asyncio.Future[Config] = asyncio.get_running_loop().create_future()

        async def reload(self, config: Config) -> None:
            self.reloaded.set_result(config)

    def read() -> Config:
        nonlocal reads
        reads += 1
        if reads == 1:
            raise RuntimeError("what nobody has thought of")
        return Config.model_construct(log=LogConfig())

    service = Service()
    reloading = Reloading(service, read)
    reloading.start()
    with log_output() as output:
        reloading.begin()
        reloading.begin()
        await asyncio.wait_for(service.reloaded, 10)
    assert "reload failed with an internal error" in output.getvalue()
    assert "what nobody has thought of" in output.getvalue()
    reloading.stop()
