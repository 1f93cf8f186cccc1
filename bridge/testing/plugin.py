"""The pytest plug-in: a session fixture ``lab``, a real Asterisk with real softphones.

It is installed with the package and does nothing until a test asks for the fixture. ``--lab-engine docker`` uses
containers; ``--lab-folder`` keeps logs and recordings where you want them.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from bridge.testing.engine import Lab

ENGINES = ("embedded", "docker")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options."""
    group = parser.getgroup("lab", "a real Asterisk with softphones (asterisk-bridge)")
    group.addoption(
        "--lab-engine", choices=ENGINES, default=ENGINES[0], help="what runs the lab (default: %(default)s)"
    )
    group.addoption(
        "--lab-folder", type=Path, help="folder for the lab's logs and recordings (default: a temporary one)"
    )


def _progress(text: str) -> None:
    # Past pytest's capture: a first start that fetches packages would look like a hang.
    print(text, file=sys.__stderr__, flush=True)


def make_lab(engine: str, folder: Path) -> Lab:
    """Returns a lab on free ports, not started; the bridge of a docker lab is a container too."""
    if engine == "docker":
        from bridge.testing.docker_engine import ComposedBridge, DockerLab
        from bridge.testing.embedded import settings_with_free_ports
        from bridge.testing.engine import free_port

        composed = ComposedBridge(secrets.token_hex(24), free_port())
        return DockerLab(folder, settings_with_free_ports(), composed_bridge=composed, progress=_progress)
    from bridge.testing.embedded import EmbeddedLab

    return EmbeddedLab(folder, progress=_progress)


async def _lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    """A real Asterisk with softphones, for the whole session; see `bridge.testing.engine.Lab`."""
    folder = request.config.getoption("--lab-folder") or tmp_path_factory.mktemp("lab")
    lab = make_lab(request.config.getoption("--lab-engine"), folder)
    try:
        await lab.start()
        yield lab
    finally:
        await lab.stop()


try:
    import pytest_asyncio
except ImportError:  # a user of the bridge who runs pytest for something else

    @pytest.fixture(scope="session")
    def lab() -> Lab:
        """Says what is missing."""
        raise pytest.UsageError("the fixture 'lab' needs pytest-asyncio: pip install 'asterisk-bridge[testing]'")
else:
    lab = pytest_asyncio.fixture(  # type: ignore[assignment]
        scope="session", loop_scope="session", name="lab"
    )(_lab)
