"""The engine that runs the lab of all tests: of this checkout, beside what the installed plug-in offers."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from bridge.testing.embedded import EmbeddedLab, settings_with_free_ports
from bridge.testing.lab_engine import Lab, free_port
from bridge.testing.plugin import lab_folder, progress, running
from tests.evidence import pytest_runtest_protocol, pytest_terminal_summary, pytest_unconfigure
from tools.lab.docker_engine import ComposedBridge, DockerLab
from tools.lab.state import ENGINES

__all__ = ["pytest_runtest_protocol", "pytest_terminal_summary", "pytest_unconfigure"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the choice of the engine, and the lengths of the churn test and of the soak."""
    parser.getgroup("lab").addoption(
        "--lab-engine", choices=ENGINES, default=ENGINES[0], help="what runs the lab (default: %(default)s)"
    )
    parser.getgroup("lab").addoption(
        "--churn", type=int, default=40, help="calls in each round of the churn test (default: %(default)s)"
    )
    parser.getgroup("lab").addoption(
        "--soak-minutes", type=float, default=1.5, help="length of the soak in tests/load (default: %(default)s)"
    )


def make_lab(engine: str, folder: Path, asterisk: Path | None = None) -> Lab:
    """Return a lab on free ports, not started; the bridge of a docker lab is a container too."""
    if engine == "docker":
        composed = ComposedBridge(secrets.token_hex(24), free_port())
        return DockerLab(folder, settings_with_free_ports(), composed_bridge=composed, progress=progress)
    return EmbeddedLab(folder, progress=progress, asterisk=asterisk)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    """A real Asterisk with softphones, for the whole session; see `bridge.testing.lab_engine.Lab`."""
    engine, folder = request.config.getoption("--lab-engine"), lab_folder(request.config, tmp_path_factory)
    async with running(make_lab(engine, folder, request.config.getoption("--asterisk"))) as lab:
        yield lab
