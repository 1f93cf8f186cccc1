"""What all unit tests share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
from hypothesis import settings

from tests.fakes.virtual_time import VirtualTimeLoop, install

install()

# No deadline: on a busy machine one slow example proves nothing about the code.
settings.register_profile("bridge", deadline=None, max_examples=100)
settings.load_profile("bridge")


def pytest_asyncio_loop_factories(
    config: pytest.Config,  # noqa: ARG001 - the hook's signature
    item: pytest.Item,  # noqa: ARG001 - the hook's signature
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run asynchronous tests in virtual time."""
    return {"virtual": VirtualTimeLoop}
