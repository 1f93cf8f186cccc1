"""How the bridge is doing."""

from __future__ import annotations

from typing import Literal

from bridge.api.models.base import Shown


class Health(Shown):
    """Whether calls can be served."""

    status: Literal["ok", "unavailable"]
    version: str = ""
    """The bridge's version; only for a client with a token."""
    ari: Literal["connected", "disconnected"]
    audiosocket: Literal["listening", "closed"]
    accepting: bool
    """Whether new calls and streams may start: not while the machine is overloaded, a limit is reached or it stops."""
    faults: list[str]
    """What is missing, one sentence each; more is said to who has a token."""


class Alive(Shown):
    """The process works."""

    status: Literal["ok"]
