"""Fixtures: a lab for the session, a bridge for each test, and nothing left behind after any."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
from pydantic import SecretStr

from bridge.app.application import Application
from bridge.app.preload import preload
from bridge.config import AriConfig, AudioSocketConfig, Config, HttpConfig, MediaConfig, OutboundConfig, SpeechConfig
from bridge.media.loop import FrameLoop
from bridge.testing import plugin
from bridge.testing.lab_engine import Lab
from tests.lab.calling import CALLING, Calling, calling_on
from tests.lab.target import Target
from tests.lab.waiting import PATIENCE_S

preload()
"""As `bridge.cli.serve` does beside the loop: the first flow and the first resampler would block it for 0.3 s here."""


def _frame_loop() -> FrameLoop:
    return FrameLoop(MediaConfig().coalesce_ms)


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], FrameLoop]]:
    """Return the loop that bridges run on: the bridge under test runs in this process.

    The same function each time: another one for each test would be another loop, and so another lab, for each test.
    """
    return {"frame loop": _frame_loop}


Phones = plugin.Phones


def configuration(lab: Lab, *, app: str | None = None, media: MediaConfig | None = None, **sections: Any) -> Config:
    """Return the configuration of a bridge in this process; ports as the lab's Asterisk expects them.

    Args:
        sections: further sections of the configuration, as they would stand in the file.
    """
    plain = Config(
        http=HttpConfig(port=0, authentication=False),
        audiosocket=AudioSocketConfig(
            bind_host=lab.audiosocket_bind,
            bind_port=0 if app else lab.audiosocket_port,
            advertised_host=lab.audiosocket_host,
        ),
        ari=AriConfig(url=lab.ari_url, user=lab.ari_user, password=SecretStr(lab.ari_password), app=app or lab.ari_app),
        # The tests' applications share the loop, and the machine is busy: neither is a reason to refuse calls here.
        media=media or MediaConfig(refuse_late_ms=0),
        speech=SpeechConfig(command=lab.speech_command),
        outbound=OutboundConfig(allow=("localhost",)),  # flows and requests lead to servers of the tests
        calling=CALLING,
    )
    return plain.model_copy(
        update={name: getattr(Config.model_validate({name: sections[name]}), name) for name in sections}
    )


@contextlib.asynccontextmanager
async def pushing(lab: Lab, **sections: Any) -> AsyncIterator[Target]:
    """Run a bridge in this process with sections of its own; nothing may be left at the end."""
    async with Application(configuration(lab, **sections)) as bridge:
        target = Target(lab, f"http://127.0.0.1:{bridge.http_port}", None, bridge)
        await synchronized(target)
        yield target
        await target.nothing_left()


async def synchronized(target: Target, timeout_s: float = PATIENCE_S) -> None:
    """Wait until the bridge is synchronized with the PBX."""
    async with asyncio.timeout(timeout_s):
        while (await target.get("/health"))[0] != 200:
            await asyncio.sleep(0.02)


@pytest.fixture
async def target(lab: Lab, request: pytest.FixtureRequest) -> AsyncIterator[Target]:
    """The bridge under test; a test's ``media`` marker changes its limits."""
    composed = getattr(lab, "composed_bridge", None)
    if composed is not None:
        target = Target(lab, f"http://127.0.0.1:{composed.http_port}", composed.token, None)
        await synchronized(target)
        yield target
        await target.nothing_left()
        return
    marker = request.node.get_closest_marker("media")
    media = MediaConfig(**marker.kwargs) if marker else None
    async with Application(configuration(lab, media=media)) as bridge:
        target = Target(lab, f"http://127.0.0.1:{bridge.http_port}", None, bridge)
        await synchronized(target)
        yield target
        await target.nothing_left()


@pytest.fixture
async def phones(phones: Phones, lab: Lab) -> AsyncIterator[Phones]:
    """The plug-in's fixture; what was recorded of the calls is deleted too."""
    yield phones
    await Target(lab, "", None, None).delete_recordings()


@pytest.fixture
async def calling(lab: Lab) -> AsyncIterator[Calling]:
    """The calls layer alone; nothing may be left at the end."""
    async with calling_on(lab) as parts:
        yield parts
