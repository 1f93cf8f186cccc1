"""The pytest plug-in: a session fixture ``lab``, a real Asterisk with real softphones.

It is installed with the package and does nothing until a test requests the fixture. ``--lab-folder`` keeps logs and
recordings where you want them. With pytest-xdist each worker has a lab of its own.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from bridge.testing.lab_engine import Lab


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    parser.getgroup("lab", "a real Asterisk with softphones (asterisk-bridge)").addoption(
        "--lab-folder", type=Path, help="folder for the lab's logs and recordings (default: a temporary one)"
    )


def progress(text: str) -> None:
    """Print past pytest's capture: a first start that fetches packages would look like a hang."""
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
    try:
        await lab.start()
        yield lab
    finally:
        await lab.stop()


async def _lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    """A real Asterisk with softphones, for the whole session; see `bridge.testing.lab_engine.Lab`."""
    from bridge.testing.embedded import EmbeddedLab

    async with running(EmbeddedLab(lab_folder(request.config, tmp_path_factory), progress=progress)) as lab:
        yield lab


try:
    import pytest_asyncio
except ImportError:  # a user of the bridge who runs pytest for something else

    @pytest.fixture(scope="session")
    def lab() -> Lab:
        """Report what is missing."""
        raise pytest.UsageError("the fixture 'lab' needs pytest-asyncio: pip install 'asterisk-bridge[testing]'")
else:
    lab = pytest_asyncio.fixture(  # type: ignore[assignment]
        scope="session", loop_scope="session", name="lab"
    )(_lab)
