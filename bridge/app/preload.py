"""Modules that are not needed to open the ports and connect to Asterisk; a thread loads them then.

Earlier use loads what it needs itself, on the event loop; streams wait for the WebSocket library instead
(`bridge.media.websocket_library`). After `preload` nothing remains to be loaded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator

from pydantic import BaseModel

from bridge.media.interpreter_tuning import exempt_from_collection

log = logging.getLogger(__name__)

BEGIN_AFTER_S = 1.0
"""Time after which Asterisk is not waited for: while it is unavailable, preloading delays nothing."""


async def preload_for_calls(settled: asyncio.Event) -> None:
    """Preload in a thread, then exempt what was loaded from garbage collection.

    It begins as soon as calls that need it can exist. Earlier it would take the interpreter from what connects to
    Asterisk; later it would delay the audio of calls, as importing numpy blocks the interpreter for 20 ms and more.

    Args:
        settled: set once calls are served, or once calls wait to be served.
    """
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(settled.wait(), BEGIN_AFTER_S)
    try:
        await asyncio.to_thread(preload)
    except Exception:
        log.exception("preloading failed, modules are loaded when needed")
    else:
        log.info("preloading done")
    exempt_from_collection()


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
