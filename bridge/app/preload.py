"""Modules that are not needed to open the ports, loaded in a thread as soon as they are open.

Earlier use loads what it needs itself, on the event loop; after `preload` nothing remains to be loaded.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel


def preload() -> None:
    """Import the modules of audio, WebSockets and flows, and build the models of requests and actions."""
    from bridge.api.models import base
    from bridge.audio import resample  # noqa: F401  # it brings numpy
    from bridge.flows import voipbin, voxology  # noqa: F401  # they bring all actions
    from bridge.flows.options import Options
    from bridge.media import answer_reader, picows_link  # noqa: F401  # they bring h11 and picows

    for root in (base.Body, base.Query, base.Shown, Options):
        for model in _below(root):
            model.model_rebuild()


def _below(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for derived in model.__subclasses__():
        yield derived
        yield from _below(derived)
