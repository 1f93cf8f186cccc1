"""The loopback tests run on the loop that the bridge runs on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bridge.media.loop import FrameLoop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], FrameLoop]]:
    return {"frame loop": lambda: FrameLoop(1.0)}
