"""What ``./lab`` remembers between its commands: the engine, the ports and the secrets of the lab that is up."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bridge.testing.embedded import EmbeddedLab
from bridge.testing.lab_engine import Lab, LabError, LabSettings
from tools.lab.docker_engine import ComposedBridge, DockerLab

ENGINES = ("embedded", "docker")

Progress = Callable[[str], None]


@dataclass(frozen=True)
class State:
    """A lab made by ``./lab up``.

    Args:
        engine: ``embedded`` or ``docker``.
        bridge_port: where the bridge's HTTP listens.
        token: what applications present to the bridge.
        echo_delay_ms: delay of the echo application.
        asterisk: installation prefix of the Asterisk to run; empty: Debian's. Embedded engine only.
    """

    engine: str
    settings: LabSettings
    bridge_port: int = 8080
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    echo_delay_ms: int = 500
    asterisk: str = ""

    @property
    def bridge_url(self) -> str:
        """Base address of the bridge."""
        return f"http://{self.settings.host}:{self.bridge_port}"


def home() -> Path:
    """Return the checkout's folder."""
    return Path(os.environ.get("LAB_HOME") or Path(__file__).resolve().parents[2])


def folder() -> Path:
    """Return the folder of everything that a lab leaves while it is up."""
    return home() / ".lab"


def load() -> State | None:
    """Return the remembered lab; None if there is none."""
    try:
        stored = json.loads(_file().read_text())
    except FileNotFoundError:
        return None
    return State(**{**stored, "settings": LabSettings(**stored["settings"])})


def loaded() -> State:
    """Return the remembered lab.

    Raises:
        LabError: no lab is up.
    """
    state = load()
    if state is None:
        raise LabError("the lab is not up; start it with ./lab up")
    return state


def save(state: State) -> None:
    """Remember a lab; the file holds its secrets and is readable by its owner only."""
    _file().parent.mkdir(parents=True, exist_ok=True)
    new = _file().with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(json.dumps(asdict(state), indent=1))
    new.replace(_file())


def lab_of(state: State, progress: Progress) -> Lab:
    """Return the handle of a remembered lab, whether it runs or not."""
    if state.engine == "docker":
        composed = ComposedBridge(state.token, state.bridge_port, state.echo_delay_ms)
        return DockerLab(folder(), state.settings, composed_bridge=composed, progress=progress)
    prefix = Path(state.asterisk) if state.asterisk else None
    return EmbeddedLab(folder(), state.settings, outlive_us=True, progress=progress, asterisk=prefix)


def _file() -> Path:
    return folder() / "state.json"
