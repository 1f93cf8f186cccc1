"""What opening the ports does not need: loaded in a thread as soon as they are open.

Whatever comes first loads what it needs itself, on the event loop; after `preload` nothing has to.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel


def preload() -> None:
    """Import what converts audio, carries WebSockets and runs flows, and build the models of requests and actions."""
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
