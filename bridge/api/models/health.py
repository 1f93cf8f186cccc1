"""Health checks."""

from typing import Literal

from bridge.api.models.base import Shown


class Health(Shown):
    """The ability to serve calls."""

    status: Literal["ok", "unavailable"]
    version: str = ""
    """Version of asterisk-bridge; only for a client with a token."""
    ari: Literal["connected", "disconnected"]
    audiosocket: Literal["listening", "closed"]
    accepting: bool
    """Whether new calls and streams may start: not if the machine is overloaded, a limit is reached or it stops."""
    faults: list[str]
    """One sentence for each unavailable part; with more details for a client with a token."""


class Alive(Shown):
    """The process runs."""

    status: Literal["ok"]
