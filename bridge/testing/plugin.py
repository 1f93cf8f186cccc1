"""The pytest plug-in: a real Asterisk, softphones and asterisk-bridge as fixtures; docs/reference/pytest-plugin.md.

It is installed with the package and does nothing until a test requests a fixture. ``--lab-folder`` keeps logs and
recordings where you want them. With pytest-xdist each worker has a lab of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from bridge.testing.bridge_program import BridgeProgram
    from bridge.testing.lab_engine import Lab
    from bridge.testing.phone import Phone

__all__ = ["lab", "phones", "start_bridge"]

Phones = Callable[..., Awaitable[list["Phone"]]]
"""Type of the fixture ``phones``: takes names of phones and returns them, started."""
StartBridge = Callable[..., Awaitable["BridgeProgram"]]
"""Type of the fixture ``start_bridge``: takes sections of the configuration."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("lab", "a real Asterisk with softphones (asterisk-bridge)")
    group.addoption(
        "--lab-folder", type=Path, help="folder for the lab's logs and recordings (default: a temporary one)"
    )
    group.addoption(
        "--asterisk",
        type=Path,
        metavar="PREFIX",
        help="installation prefix of the Asterisk to run, with sbin/asterisk (default: Debian's, which is fetched)",
    )
    group.addoption(
        "--bridge-command",
        default="",
        metavar="COMMAND",
        help="what start_bridge runs instead of this Python's asterisk-bridge, for example a container;"
        " {folder} is the folder with the configuration",
    )


def progress(text: str) -> None:
    """Print a line despite pytest's capture: the first start, which fetches packages, takes long."""
    print(text, file=sys.__stderr__, flush=True)


def lab_folder(config: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder for this process's lab."""
    folder: Path | None = config.getoption("--lab-folder")
    if folder is None:
        return tmp_path_factory.mktemp("lab")
    return folder / os.environ.get("PYTEST_XDIST_WORKER", "")


@contextlib.asynccontextmanager
async def running(lab: Lab) -> AsyncIterator[Lab]:
    """Start a lab, and end it afterwards.

    Args:
        lab: an engine that has not been started.
    """
    from bridge.testing.lab_engine import LabError
    from bridge.testing.packages import PackagesUnavailable

    try:
        try:
            await lab.start()
        except (LabError, PackagesUnavailable) as error:
            pytest.fail(f"the fixture 'lab' has no Asterisk: {error}", pytrace=False)
        yield lab
    finally:
        await lab.stop()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail a test whose event loop is not the one that the lab uses."""
    function = getattr(item, "function", None)
    if "lab" not in getattr(item, "fixturenames", ()) or not inspect.iscoroutinefunction(function):
        return
    with contextlib.suppress(ValueError):  # pytest-asyncio is missing: the fixture reports it
        scope = item.config.getini("asyncio_default_test_loop_scope")
        marker = item.get_closest_marker("asyncio")
        if marker is None or (marker.kwargs.get("loop_scope") or scope) != "session":
            pytest.fail(
                "a test with the fixture 'lab' must run on the session's event loop. In pyproject.toml:\n\n"
                "    [tool.pytest.ini_options]\n"
                '    asyncio_mode = "auto"\n'
                '    asyncio_default_fixture_loop_scope = "session"\n'
                '    asyncio_default_test_loop_scope = "session"',
                pytrace=False,
            )


async def _lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    """Yield a real Asterisk with softphones, for the whole session; see `bridge.testing.lab_engine.Lab`."""
    from bridge.testing.embedded import EmbeddedLab

    folder, prefix = lab_folder(request.config, tmp_path_factory), request.config.getoption("--asterisk")
    async with running(EmbeddedLab(folder, progress=progress, asterisk=prefix)) as lab:
        yield lab


async def _phones(lab: Lab) -> AsyncIterator[Phones]:
    """Yield a function that starts phones by name: ``await phones("1001", "trunk")``; their calls end with the test."""
    from bridge.testing import judge
    from bridge.testing.phone import RATE

    used: list[Phone] = []

    async def start(*names: str) -> list[Phone]:
        started = [lab.phone(name) for name in names]
        used.extend(started)
        await asyncio.gather(*(phone.start() for phone in started))
        for phone in started:
            phone.forget()
        return started

    yield start
    for phone in used:
        await phone.hangup()
        phone.play_next(judge.silence(0, RATE))  # the next test does not hear what this one chose


async def _start_bridge(lab: Lab, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StartBridge]:
    """Start asterisk-bridge for the lab, with sections of the configuration; it ends with the test."""
    from bridge.testing.bridge_program import BridgeProgram

    started: list[BridgeProgram] = []

    async def start(**sections: Any) -> BridgeProgram:
        folder = tmp_path / f"bridge-{len(started)}"
        folder.mkdir()
        command: str = request.config.getoption("--bridge-command")
        program = BridgeProgram(lab, folder, sections, command=command)
        started.append(program)
        await program.start()
        return program

    yield start
    for program in reversed(started):
        await program.stop()


try:
    import pytest_asyncio
except ImportError:  # a user of the bridge who runs pytest for something else

    def _missing() -> None:
        """Report missing requirements."""
        raise pytest.UsageError("this fixture needs pytest-asyncio: pip install 'asterisk-bridge[testing]'")

    lab, phones, start_bridge = (pytest.fixture(name=name)(_missing) for name in __all__)
else:
    lab = pytest_asyncio.fixture(scope="session", loop_scope="session", name="lab")(_lab)  # type: ignore[assignment]
    phones = pytest_asyncio.fixture(loop_scope="session", name="phones")(_phones)  # type: ignore[assignment]
    start_bridge = pytest_asyncio.fixture(  # type: ignore[assignment]
        loop_scope="session", name="start_bridge"
    )(_start_bridge)
