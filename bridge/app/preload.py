"""Modules that are not needed to open the ports, loaded in a thread as soon as they are open.

Earlier use loads what it needs itself, on the event loop; streams wait for the WebSocket library instead
(`bridge.media.websocket_library`). After `preload` nothing remains to be loaded.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel


def preload() -> None:
    """Import the modules of audio, WebSockets, routes, flows, tools; build the models of requests and actions."""
    from bridge.media import websocket_library

    websocket_library.load()  # first: streams of calls that are up wait for it
    from bridge.agent_tools import toolbox  # noqa: F401
    from bridge.api import table  # noqa: F401  # it brings all handlers and models
    from bridge.api.models import base
    from bridge.audio import resample  # noqa: F401  # it brings numpy
    from bridge.flows import twiml, voipbin, voxology  # noqa: F401  # they bring all actions
    from bridge.flows.options import Options

    for root in (base.Body, base.Query, base.Shown, Options):
        for model in _below(root):
            model.model_rebuild()


def _below(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for derived in model.__subclasses__():
        yield derived
        yield from _below(derived)
